#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120
"""Of hundreds of files some are missing or have changed, in several directories: all are named in one go, nothing is created,
and with the files back as they were, the program comes back."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from e2e.harness import Sandbox, check


def main():
    sb = Sandbox.from_env()
    pid = sb.start([sb.program('fd_directories')])
    sb.wait_ready(pid)
    sb.dump(pid, 'img')
    gone, grown = ('a/file-3', 'c/file-49'), 'a/b/file-7'
    for name in gone:
        os.rename(sb.path('work', name), sb.path('work', name + '.away'))
    os.truncate(sb.path('work', grown), 5)
    result = sb.ckpt('restore', '-d', '-D', sb.path('img'))
    check(result.rc == 1, 'not refused', result)
    for name in gone:
        check(f'{sb.path("work", name)} is missing' in result.err, f'{name} is not named', result)
    check(f'{sb.path("work", grown)} has 5 bytes, it had 0' in result.err, f'{grown} is not named', result)
    check('nothing was created' in result.err, 'it does not say so', result)
    check(not os.path.exists(f'/proc/{pid}'), 'something was created', result)
    for name in gone:
        os.rename(sb.path('work', name + '.away'), sb.path('work', name))
    os.truncate(sb.path('work', grown), 0)
    sb.restore('img')
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, 'its files are not as they were')


main()
