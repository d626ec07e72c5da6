#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120 serial
"""A restore that fails has left no process when ckpt has ended, however slowly they die."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from _starve import Starved
from e2e.harness import Sandbox, check


def fails(sb, name, *points):
    pid = sb.start(cpu.pinned([sb.program(name)]))
    sb.wait_ready(pid)
    sb.dump(pid, 'img')
    with cpu:
        cpu.first(sb)
        for point in points:
            result = sb.ckpt('restore', '-d', '-D', sb.path('img'), env={'CKPT_FAULT': f'{point}=fail'})
            left, where = sb.others(), sb.where()
            print(name, point, result.rc, left)
            check(result.rc == 1, f'{point} did not fail', result)
            check(not left, f'{point}: ckpt has ended, but these have not: {left}', *where)
        cpu.no_longer(sb)
    sb.children.ended.pop(pid, None)
    sb.restore('img')
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, f'{name} found itself changed')
    os.unlink(sb.path('work/ready'))


sandbox = Sandbox.from_env()
cpu = Starved()
fails(sandbox, 'family', 'restore-tree-half', 'restore-finished')
fails(sandbox, 'threads', 'restore-finished')
