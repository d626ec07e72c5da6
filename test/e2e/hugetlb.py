#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120 serial
"""Huge pages of hugetlbfs: what mem_hugetlb.c has of them, twice over and with -R; and a restore where there are too
few of them, which says so and makes nothing. The pool is as it was afterwards."""
import atexit
import sys

from _scenario import Program, Sandbox, check, one_clear_line, read, skip, write

POOL = '/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages'
WANTED = 24

sb = Sandbox.from_env()


def pool(pages):
    """Returns how many there are then."""
    try:
        write(POOL, str(pages))
        return int(read(POOL))
    except OSError as e:
        skip(f'huge pages of 2 MiB cannot be reserved here: {e}')


had = int(read(POOL, b'0') or 0)
atexit.register(lambda: pool(had))
if pool(had + WANTED) < had + WANTED:
    pool(had)
    skip(f'{WANTED} huge pages of 2 MiB cannot be reserved here')

program = Program(sb, 'mem_hugetlb')
if not program.wait_ready():
    pool(had)
    skip(program.skipped)
sb.dump(program.pid, 'running', kill=False)
program.check_same('after dump -R')
for directory in 'img1', 'img2':
    sb.dump(program.pid, directory)
    sb.restore(directory, expect_pid=program.pid)
    # Which of the private areas are of one mapping; the program looks at the rest.
    program.check_same(f'after the restore from {directory}', ignore=('maps',))

# Too few: named, with what to do, and nothing is left.
sb.dump(program.pid, 'img3')
pool(had + 2)
result = sb.ckpt('restore', '-d', '-D', sb.path('img3'))
one_clear_line(result, r'needs \d+ huge pages of 2048 KiB, and \d+ are free', 'nr_hugepages')
check(not sb.others(), f'processes are left: {sb.others()}')
pool(had + WANTED)
sb.restore('img3', expect_pid=program.pid)
program.finish()
sys.exit(0)
