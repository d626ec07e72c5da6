#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120
"""Where BPF cannot be had (no BTF, not the capabilities), large trees are dumped as well, by what /proc shows."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from e2e.harness import Sandbox, check

# Each large enough for ckpt to want it.
PROGRAMS = ('mem_many_vmas', 'mem_large_family', 'threads_many', 'threads_attributes')


def run(sb, program):
    ready = sb.path('work/ready')
    if os.path.exists(ready):
        os.unlink(ready)
    pid = sb.start([sb.program(program)])
    sb.wait_ready(pid)
    os.environ['CKPT_FAULT'] = 'kernel-bpf:*=fail'
    try:
        sb.dump(pid, program)
    finally:
        del os.environ['CKPT_FAULT']
    sb.restore(program)
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, f'{program} found itself changed')
    with open(sb.path(program, 'dump.log')) as f:
        return 'no BPF iterator' in f.read()


def main():
    sb = Sandbox.from_env()
    tried = [program for program in PROGRAMS if run(sb, program)]
    print('would have used BPF:', *tried)
    for program in ('mem_many_vmas', 'threads_attributes'):
        check(program in tried, f'{program} did not ask for BPF, so that nothing was tested')


main()
