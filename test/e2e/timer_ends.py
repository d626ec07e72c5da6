#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=60
"""A timer ends when it would have: however long ckpt waits for a CPU when a process has said what is left of it, and in time
namespaces whose clocks are ahead of ckpt's (they stand still between dump and restore) or behind them (they jump)."""
import os
import signal
import time

from _scenario import Sandbox, check, read
from e2e.harness import skip

PAUSE = 1


def after_a_while():
    """Not to wait for something: this is the time that must not count."""
    end = time.clock_gettime(time.CLOCK_BOOTTIME) + PAUSE
    while time.clock_gettime(time.CLOCK_BOOTTIME) < end:
        time.sleep(0.1)


def starved_dump(sb, pid, images):
    """ckpt stands still when the program has answered in the agent."""
    os.makedirs(sb.path(images))
    handle = sb.ckpt_start(*sb.dump_args(pid, images), env={'CKPT_FAULT': 'dump-answered=pause'})
    sb.wait_for(lambda: b'fault point dump-answered' in read(handle.base + '.err', b''), 'the answer')
    after_a_while()
    os.kill(handle.pid, signal.SIGCONT)
    result = sb.ckpt_wait(handle)
    check(result.rc == 0, 'the dump failed', result)
    sb.wait_gone([pid])
    sb.children.ended.clear()


def run(sb, name, before=(), args=(), goes_on=True):
    pid = sb.start([*before, sb.program('timers_far'), *args])
    sb.wait_ready(pid)
    own = os.readlink('/proc/self/ns/time')
    check(bool(before) == (os.readlink(f'/proc/{pid}/ns/time') != own), f'{name}: not in the namespace meant')
    for n in range(2):
        starved_dump(sb, pid, f'{name}{n}')
        after_a_while()
        sb.restore(f'{name}{n}', expect_pid=pid)
        there = os.readlink(f'/proc/{pid}/ns/time')
        check((there != own) == (bool(before) and goes_on), f'{name}: restored into the wrong time namespace')
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, f'{name}: a timer is wrong', read(sb.path('work/out')))
    os.unlink(sb.path('work/ready'))


def in_clocks(seconds):
    return ['/usr/bin/unshare', '--time', f'--monotonic={seconds}', f'--boottime={seconds}']


sandbox = Sandbox.from_env()
run(sandbox, 'own')
if not os.path.exists('/proc/self/timens_offsets'):
    skip('no time namespaces here')
run(sandbox, 'ahead', in_clocks(5 * 86400))
up = int(min(time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME)))
run(sandbox, 'behind', in_clocks(-(up // 2)), ['jump'], goes_on=False)
