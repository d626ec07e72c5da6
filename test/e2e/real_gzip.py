#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=150
"""gzip in the middle of a pipe from a producer."""
import gzip
import os

from _scenario import Real, Sandbox, check, number, read, sha, write

LINES = number('LINES', 7000000)
sb = Sandbox.from_env()


def size():
    try:
        # The last bytes come at once: what counts is that it is done.
        return os.path.getsize(sb.path('work/out.gz')) if not os.path.exists(sb.path('work/done')) else total[0]
    except FileNotFoundError:
        return 0


def result():
    with gzip.open(sb.path('work/out.gz')) as f:
        last = b''
        n = 0
        while chunk := f.read(1 << 20):
            n += chunk.count(b'\n')
            last = chunk[-20:]
    check(n == LINES and last.endswith(b'%d\n' % LINES), f'{n} lines, the last is {last}')
    return sha(sb.path('work/out.gz'))


total = [1]
real = Real(sb, ['/bin/sh', 'pipe.sh'], size, 1, result,
            prepare=lambda: write(sb.path('work/pipe.sh'), f'seq 1 {LINES} | gzip -n >out.gz\n: >done\n'))
want = real.undisturbed()
total[0] = real.total = os.path.getsize(sb.path('work/out.gz'))
for how in (real.twice, real.left_running):
    check(how() == want, f'{how.__name__}: the compressed file differs')
