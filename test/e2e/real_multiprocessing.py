#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=150
"""Python's multiprocessing without its semaphores (which are mapped files that were deleted): workers behind pipes that
are pairs of unix sockets, a manager that is another process behind a unix socket with a path, a connection that was sent
over another. Dumped and restored in the middle, twice, and with -R."""
import os

from _scenario import Real, Sandbox, number, read

N = number('MULTI', 12000)
CODE = r'''
import multiprocessing as mp, hashlib, sys

def work(conn):
    while True:
        n = conn.recv()
        if n is None:
            return
        conn.send(hashlib.sha256(b'%d' % n * 10000).hexdigest())

def echo(conn):
    inner = conn.recv()
    while True:
        text = conn.recv()
        if text is None:
            return
        inner.send(text.upper())

if __name__ == '__main__':
    mp.set_start_method('fork')
    n = int(sys.argv[1])
    manager = mp.Manager()
    shared = manager.dict()
    ours, theirs = mp.Pipe()
    inner, given = mp.Pipe()
    other = mp.Process(target=echo, args=(theirs,))
    other.start()
    ours.send(given)
    given.close()
    pipes, workers = [], []
    for _ in range(3):
        mine, its = mp.Pipe()
        worker = mp.Process(target=work, args=(its,))
        worker.start()
        its.close()
        pipes.append(mine)
        workers.append(worker)
    digest = hashlib.sha256()
    for i in range(3):
        pipes[i].send(i)
    for i in range(n):
        one = pipes[i % 3].recv()
        if i + 3 < n:
            pipes[i % 3].send(i + 3)
        digest.update(one.encode())
        if i % 20 == 0:
            shared[i] = one
            ours.send('step %d' % i)
            digest.update(inner.recv().encode())
            with open('progress', 'w') as f:
                f.write(str(i + 1) + '\n')
    ours.send(None)
    for pipe in pipes:
        pipe.send(None)
    for p in [other, *workers]:
        p.join()
    for key in sorted(shared.keys()):
        digest.update(shared[key].encode())
    manager.shutdown()
    with open('result', 'w') as f:
        f.write(digest.hexdigest())
    with open('progress', 'w') as f:
        f.write(str(n) + '\n')
'''

sb = Sandbox.from_env()


def progress():
    return int(read(sb.path('work/progress'), b'').split(b'\n')[0] or 0)


def prepare():
    with open(sb.path('work/program.py'), 'w') as f:
        f.write(CODE)


Real(sb, ['/usr/bin/python3', 'program.py', str(N)], progress, N, lambda: read(sb.path('work/result')), prepare,
            env={'TMPDIR': sb.path('work')}, timeout=100).run()
