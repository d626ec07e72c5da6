#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=60
"""Images from a machine whose clocks are days ahead: the clocks go on from there, twice in a row; and from one whose
clocks are behind: they are left alone."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
import _images
from e2e.harness import Sandbox, check

DAYS = 5 * 86400


def shift_clocks(directory, seconds):
    _images.make_foreign(directory)
    name = next(n for n in os.listdir(directory) if n.startswith('timens-'))
    header, entries = _images.load(os.path.join(directory, name))
    for number in (1, 2):
        clock = _images.decode(_images.get(entries[0], number))
        _images.put(clock, 1, _images.get(clock, 1) + seconds)
        _images.put(entries[0], number, _images.encode(clock))
    _images.store(os.path.join(directory, name), header, entries)


def advanced(sb, clock):
    with open(sb.path('work/out')) as f:
        return int(re.search(rf'{clock} advanced (-?\d+) ms', f.read()).group(1)) / 1000


def timens(pid):
    return os.readlink(f'/proc/{pid}/ns/time')


def run(sb, seconds, expected_low, expected_high):
    pid = sb.start([sb.program('clocks_target')])
    sb.wait_ready(pid)
    sb.dump(pid, f'img{seconds}')
    shift_clocks(sb.path(f'img{seconds}'), seconds)
    sb.restore(f'img{seconds}')
    check((timens(pid) != timens('self')) == (seconds > 0), 'wrong time namespace', timens(pid), timens('self'))
    with open(sb.path(f'img{seconds}', 'restore.log')) as f:
        check(('time namespace' in f.read()) == (seconds > 0), 'the log does not say what happened')
    # Again: from inside that namespace, into the same or another one.
    sb.dump(pid, f'again{seconds}')
    sb.restore(f'again{seconds}')
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, 'the program found its clocks wrong')
    for clock in ('monotonic', 'boottime'):
        check(expected_low <= advanced(sb, clock) <= expected_high, f'{clock} advanced by {advanced(sb, clock)} s')


def main():
    sb = Sandbox.from_env()
    run(sb, DAYS, DAYS, DAYS + 50)
    if os.path.exists(sb.path('work/ready')):
        os.unlink(sb.path('work/ready'))
    run(sb, 0, 0, 50)


main()
