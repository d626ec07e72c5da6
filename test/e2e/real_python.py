#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=150
"""A Python program with threads, files, a queue and timers."""
from _scenario import Real, Sandbox, number, read, write

ROUNDS = number('ROUNDS', 3000)
PROGRAM = '''
import hashlib, os, queue, signal, sys, threading, time

ROUNDS, THREADS = int(sys.argv[1]), 4
ticks, fired = 0, []
todo, done = queue.Queue(20), {}

def on_tick(*_):
    global ticks
    ticks += 1

signal.signal(signal.SIGALRM, on_tick)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
timer = threading.Timer(0.5, lambda: fired.append(time.monotonic()))
start = time.monotonic()
timer.start()

def work(me):
    digest = b'%d' % me
    with open(f'thread-{me}', 'w+b', buffering=0) as f:
        while (item := todo.get()) is not None:
            for _ in range(300):
                digest = hashlib.sha256(digest + b'x').digest()
            f.write(item.to_bytes(4, 'little'))
            if item % 50 == 0:
                f.seek(0)
                items = f.read()
                assert items[-4:] == item.to_bytes(4, 'little'), item
        f.seek(0)
        data = f.read()
    done[me] = [int.from_bytes(data[i:i + 4], 'little') for i in range(0, len(data), 4)]

threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
for t in threads:
    t.start()
with open('progress', 'w') as progress:
    for i in range(ROUNDS):
        todo.put(i)
        progress.write('.')
        progress.flush()
        time.sleep(0.0005)
for t in threads:
    todo.put(None)
for t in threads:
    t.join()
timer.join()
signal.setitimer(signal.ITIMER_REAL, 0)
assert fired and fired[0] - start >= 0.5, fired
assert ticks > 5, ticks
for items in done.values():
    assert items == sorted(items)
print(sorted(sum(done.values(), [])) == list(range(ROUNDS)), len(done))
'''

sb = Sandbox.from_env()


def progress():
    try:
        return len(read(sb.path('work/progress')))
    except FileNotFoundError:
        return 0


Real(sb, ['/usr/bin/python3', 'program.py', str(ROUNDS)], progress, ROUNDS,
     result=lambda: read(sb.path('work/out')),
     prepare=lambda: write(sb.path('work/program.py'), PROGRAM)).run()
