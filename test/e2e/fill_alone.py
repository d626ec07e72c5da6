#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120
"""Where ckpt may not write into the memory of others (a container engine's seccomp profile forbids process_vm_writev),
a task fills all of its memory itself, small pages and huge ones."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from _deny import deny
from e2e.harness import Sandbox, check

PROCESS_VM_WRITEV = 311


def run(sb, program, mib, images):
    ready = sb.path('work/ready')
    if os.path.exists(ready):
        os.unlink(ready)
    pid = sb.start([sb.program(program)], {'CKPT_TEST_SPARSE_MIB': str(mib)})
    sb.wait_ready(pid)
    sb.dump(pid, images)
    sb.ckpt_path, plain = sb.path('denied'), sb.ckpt_path
    try:
        sb.restore(images)
    finally:
        sb.ckpt_path = plain
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, f'{program} found its memory wrong')
    if len(os.sched_getaffinity(0)) > 1:
        with open(sb.path(images, 'restore.log')) as f:
            check('fills its memory alone' in f.read(), 'nobody tried to help, so that nothing was tested')


def main():
    sb = Sandbox.from_env()
    deny(sb, 'denied', PROCESS_VM_WRITEV)
    run(sb, 'mem_sparse', 1024, 'small')
    run(sb, 'mem_large_family', 0, 'huge')


main()
