#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=240
"""At every fault point: ckpt is killed, or the step at hand fails. A dump leaves the tree as it was, and the next one
succeeds; a restore leaves no process."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from e2e.harness import Sandbox, check

# Where the images are complete: the tree may be gone, as a whole.
COMMITTED = {'dump-commit-renamed', 'dump-committed', 'dump-kill-half'}
# Passed by --leave-running only.
WITH_RUNNING = {'dump-before-resume'}
# Passed only by large trees and by those with connections; their tests see to them.
ELSEWHERE = ('kernel-', 'network-', 'dump-network', 'dump-socket', 'restore-network', 'restore-socket')
# Steps that nothing can go wrong in: killing is all that can happen there.
KILL_ONLY = {'dump-commit-half', 'dump-commit-renamed'}


def fault_names(sb):
    listing = sb.ckpt(env={'CKPT_FAULT': 'list'})
    names = [line.split('\t')[0] for line in listing.out.splitlines() if line]
    check(len(names) > 20, 'the list of fault points is short', listing)
    return names


def start(sb):
    pid = sb.start([sb.program('family')])
    sb.wait_ready(pid)
    return pid


def one_line(result):
    lines = result.err.splitlines()
    check(len(lines) == 1 and lines[0].startswith('ckpt: '), 'not one clear line', result)


def dump_args(sb, pid, images, name):
    os.makedirs(sb.path(images), exist_ok=True)
    args = ['dump', '-t', str(pid), '-D', sb.path(images)]
    return args + ['-R'] if name in WITH_RUNNING else args


def dump_with_fault(sb, pid, name, action, images):
    return sb.ckpt(*dump_args(sb, pid, images, name), env={'CKPT_FAULT': f'{name}={action}'})


def check_dump(sb, pid, name, action):
    before = sb.view(pid)
    result = dump_with_fault(sb, pid, name, action, 'faulty')
    print(name, action, result.rc)
    if action == 'kill':
        check(f'fault point {name}' in result.err, 'the fault point was not passed', result)
        check(result.rc == -signal.SIGKILL, 'not killed', result)
    else:
        check(result.rc == 1, f'{name} did not fail', result)
        one_line(result)
    if name in COMMITTED and name == 'dump-kill-half':
        sb.wait_gone(list(before))
        sb.restore('faulty')
        return
    sb.same_view(pid, before)


def check_restore(sb, pid, name, action):
    result = sb.ckpt('restore', '-d', '-D', sb.path('good'), env={'CKPT_FAULT': f'{name}={action}'})
    print(name, action, result.rc)
    if action == 'kill':
        check(f'fault point {name}' in result.err, 'the fault point was not passed', result)
    else:
        check(result.rc == 1, f'{name} did not fail', result)
        one_line(result)
    sb.no_strangers([])


def main():
    sb = Sandbox.from_env()
    names = [n for n in fault_names(sb) if not n.startswith(ELSEWHERE)]
    pid = start(sb)
    for name in [n for n in names if n.startswith('dump-')]:
        check_dump(sb, pid, name, 'kill')
        if name not in KILL_ONLY and name not in COMMITTED:
            check_dump(sb, pid, name, 'fail')
    sb.dump(pid, 'good')
    for name in [n for n in names if n.startswith('restore-')]:
        check_restore(sb, pid, name, 'kill')
        check_restore(sb, pid, name, 'fail')
    sb.children.ended.pop(pid, None)  # half restored ones that were killed
    sb.restore('good')
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, 'the program found itself changed')


main()
