#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120 serial
"""ckpt is killed while a thread of the tree that was sent into the agent has not got a CPU yet. It gets there later than the
thread that is to unmap the agent would like to wait, and has to find it."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from _scenario import Program, Sandbox, check, read
from _starve import Group

ROUNDS = 3


def states(pid):
    found = {}
    for tid in os.listdir(f'/proc/{pid}/task'):
        text = read(f'/proc/{pid}/task/{tid}/stat', b'')
        found[int(tid)] = text[text.rindex(b')') + 2:][:1].decode() if text else ''
    return found


def on_its_way(pid, log):
    """The tree is frozen, and yet one thread beside the first is not stopped."""
    return b'frozen' in read(log, b'') and 'R' in [s for tid, s in states(pid).items() if tid != pid]


def kill_in_time(program, i):
    handle = sb.ckpt_start(*sb.dump_args(program.pid, f'img{i}', '-R'))
    log = sb.path(f'img{i}', 'dump.log')
    sb.children.poll(lambda: handle.pid in sb.children.ended or on_its_way(program.pid, log), 60, interval=0.001)
    in_time = handle.pid not in sb.children.ended
    if in_time:
        os.kill(handle.pid, signal.SIGKILL)
    sb.ckpt_wait(handle)
    return in_time


sb = Sandbox.from_env()
target = Program(sb, 'sig_altstack')
check(target.wait_ready(), target.name)
times = 0
with Group() as group:
    sb.bystanders.update(group.hogs)
    for tid in states(target.pid):
        if tid != target.pid:
            group.add(tid)
    for n in range(ROUNDS):
        times += kill_in_time(target, n)
        target.check_same(f'after kill {n}', ['*cgroup'])
print(f'killed in time: {times}')
check(times > 0, 'every kill came too late')
target.finish()
