#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=180
"""Targets that change while they are looked at and frozen: that exit, fork without end, start and end threads, exec.
The dump either succeeds, and the images restore, or is refused with a clear line; nothing is left over or stopped."""
import os
import random
import signal
import time

from _scenario import SETTLE, Sandbox, check, kill_tree, number, one_clear_line, procview, read, write

ROUNDS = number('ROUNDS', 25)
sb = Sandbox.from_env()
random.seed(number('SEED', time.time_ns()))

FORKS = 'while :; do (:) & (: | :); wait; done'
EXECS = 'n=$1; exec /bin/sh self.sh $((n + 1))'
THREADS = '''
import threading
def leaf(): pass
while True:
    t = [threading.Thread(target=leaf) for _ in range(5)]
    [x.start() for x in t]
    [x.join() for x in t]
'''


def stopped(pids):
    found = []
    for pid in pids:
        try:
            text = read(f'/proc/{pid}/status').decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if 'T (stopped)' in text or 't (tracing stop)' in text or 'TracerPid:\t0\n' not in text:
            found.append(pid)
    return found


def check_alive(pid, what):
    """The tree works on: nothing in it stays stopped, and CPU time passes."""
    check(sb.children.poll(lambda: not stopped(procview.tree(pid)), SETTLE), f'{what}: stopped or traced', *sb.where())

    def used():
        fields = read(f'/proc/{pid}/stat').rsplit(b')', 1)[1].split()
        return sum(map(int, fields[11:15]))
    before = used()
    check(sb.children.poll(lambda: used() > before, SETTLE), f'{what}: it does nothing any more', *sb.where())


def restless(name, argv):
    """Dumped with -R again and again, at the end without, and restored."""
    pid = sb.start(argv)
    done = 0
    for i in range(ROUNDS):
        result = sb.ckpt(*sb.dump_args(pid, f'{name}'), '-R')
        check(sb.children.poll(lambda: not [p for p in sb.others() if p not in procview.tree(pid)], SETTLE), f'{name}: left over')
        if result.rc != 0:
            one_clear_line(result)
        done += result.rc == 0
        check(pid not in sb.children.ended, f'{name}: it has ended: {sb.children.ended.get(pid)}')
        if i % 5 == 0:
            check_alive(pid, f'{name}, round {i}')
    check(done >= ROUNDS * 3 // 4, f'{name}: only {done} of {ROUNDS} dumps succeeded', result.err)
    for _ in range(3):
        sb.dump(pid, name, decode=False)
        sb.restore(name, expect_pid=pid)
        check_alive(pid, f'{name}, restored')
    kill_tree(sb, pid)


def exiting():
    """The target ends at about the time of the dump."""
    outcomes = {}
    for i in range(ROUNDS * 2):
        write(sb.path('work/exit.sh'), f'sleep {random.uniform(0, 0.03):.4f} & sleep {random.uniform(0, 0.03):.4f}; wait; exit 7\n')
        pid = sb.start(['/bin/sh', 'exit.sh'])
        time.sleep(random.uniform(0, 0.02))
        sb.children.reap()
        result = sb.ckpt(*sb.dump_args(pid, 'exiting'))
        outcomes[result.rc] = outcomes.get(result.rc, 0) + 1
        if result.rc == 0:
            sb.children.poll(lambda: not sb.others(), SETTLE)
            sb.children.ended.pop(pid, None)
            sb.restore('exiting', expect_pid=pid)
        else:
            one_clear_line(result)
        code = sb.wait_exit(pid)
        check(code == 7, f'round {i}: it ended with {code} (dump: {result.rc})', result.err)
        sb.no_strangers(set())
    print(f'exiting: {outcomes}')
    check(set(outcomes) <= {0, 1}, f'exit statuses {outcomes}')


write(sb.path('work/self.sh'), EXECS)
restless('forking', ['/bin/sh', '-c', FORKS])
restless('threading', ['/usr/bin/python3', '-c', THREADS])
restless('executing', ['/bin/sh', 'self.sh', '0'])
exiting()
