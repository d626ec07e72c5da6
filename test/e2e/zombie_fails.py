#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=60
"""A zombie that cannot get what it was (here its user) is an error of the restore: its parent does not wait for it, and no
process is left."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from _deny import deny
from e2e.harness import Sandbox, check

SETRESUID = 117


def main():
    sb = Sandbox.from_env()
    pid = sb.start([sb.program('zombies')])
    sb.wait_ready(pid)
    sb.dump(pid, 'images')
    deny(sb, 'denied', SETRESUID)
    sb.ckpt_path = sb.path('denied')
    result = sb.ckpt(*sb.restore_args('images'), timeout=30)
    check(result.rc == 1, f'exit status {result.rc}', result.err)
    lines = result.err.splitlines()
    check(len(lines) == 1 and 'not permitted' in lines[0], 'not one clear line', result.err)
    print(lines[0])
    sb.no_strangers([])


main()
