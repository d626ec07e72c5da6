#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=60
"""A ring that a process outside of the tree has open, or only mapped, is refused by name; the program goes on."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from e2e.harness import Sandbox, check

sb = Sandbox.from_env()


def child():
    try:
        with open(sb.path('work/child')) as f:
            return int(f.read() or 0)
    except FileNotFoundError:
        return 0


for what, message in (('open', 'outside of the tree, has open as well'), ('mapped', 'outside of the tree has mapped')):
    for name in 'child', 'ready':
        if os.path.exists(sb.path('work', name)):
            os.unlink(sb.path('work', name))
    pid = sb.start([sb.program('ring_holder'), what])
    sb.wait_ready(pid)
    sb.wait_for(child, 'the child')
    result = sb.ckpt(*sb.dump_args(child(), what))
    check(result.rc == 1 and message in result.err, f'{what}: not refused', result.err)
    sb.signal(child(), signal.SIGTERM)
    with open(sb.path('work/out')) as f:
        check(sb.wait_exit(pid) == 0, 'the program found itself changed', f.read())
