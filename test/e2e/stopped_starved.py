#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120 serial
"""That a tree is stopped is true when ckpt ends, not when the tree next gets a CPU: it gets next to none here, below a
program that never rests."""
import os
import signal

from _scenario import Program, Sandbox, check, kill_tree, read

ROUNDS = 5
sb = Sandbox.from_env()
cpu = min(os.sched_getaffinity(0))


def state(pid):
    return read(f'/proc/{pid}/stat').rpartition(b')')[2].split()[0].decode()


def starve(pid):
    for tid in os.listdir(f'/proc/{pid}/task'):
        os.sched_setaffinity(int(tid), {cpu})
        os.sched_setscheduler(int(tid), os.SCHED_IDLE, os.sched_param(0))


def wait_stopped(pid):
    sb.wait_for(lambda: state(pid) == 'T', f'pid {pid} to stop')


def stopped_before():
    """It goes on being stopped: after a refused dump, after one that leaves it running, after a restore."""
    program = Program(sb, 'trivial')
    check(program.wait_ready(), 'trivial is not possible here')
    starve(program.pid)
    os.kill(program.pid, signal.SIGSTOP)
    wait_stopped(program.pid)
    for n in range(ROUNDS):
        sb.ckpt('dump', '-t', str(program.pid), '-D', sb.path('no-such-directory'))
        check(state(program.pid) == 'T', f'round {n}: a dump failed, and it is {state(program.pid)}')
        sb.dump(program.pid, f'running{n}', kill=False)
        check(state(program.pid) == 'T', f'round {n}: after dump -R it is {state(program.pid)}')
        sb.dump(program.pid, f'img{n}')
        sb.restore(f'img{n}', expect_pid=program.pid)
        check(state(program.pid) == 'T', f'round {n}: after restore it is {state(program.pid)}')
    kill_tree(sb, program.pid)


def stopped_by_ckpt():
    """-s"""
    program = Program(sb, 'trivial')
    check(program.wait_ready(), 'trivial is not possible here')
    starve(program.pid)
    for n in range(ROUNDS):
        os.mkdir(sb.path(f'left{n}'))
        result = sb.ckpt(*sb.dump_args(program.pid, f'left{n}', '-s'))
        check(result.rc == 0, 'dump -s', result.err)
        check(state(program.pid) == 'T', f'round {n}: after dump -s it is {state(program.pid)}')
        kill_tree(sb, program.pid)
        sb.restore(f'left{n}', '-s', expect_pid=program.pid)
        check(state(program.pid) == 'T', f'round {n}: after restore -s it is {state(program.pid)}')
        os.kill(program.pid, signal.SIGCONT)
        sb.wait_for(lambda: state(program.pid) == 'S', 'it to go on')
    kill_tree(sb, program.pid)


busy = sb.start(['/usr/bin/python3', '-c', f'import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass'], out='busy.out',
                cwd='.')
sb.bystanders.add(busy)
stopped_before()
stopped_by_ckpt()
kill_tree(sb, busy)
