#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=120
"""Where BPF cannot be had, rings of TPACKET_V3 are carried over by what is in them, and others are refused by name."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from e2e.harness import Sandbox, check

sb = Sandbox.from_env()


def start(program):
    if os.path.exists(sb.path('work/ready')):
        os.unlink(sb.path('work/ready'))
    pid = sb.start([sb.program(program)])
    sb.wait_ready(pid)
    return pid


def end(pid):
    sb.signal(pid, signal.SIGTERM)
    with open(sb.path('work/out')) as f:
        check(sb.wait_exit(pid) == 0, 'the program found itself changed', f.read())


os.environ['CKPT_FAULT'] = 'kernel-bpf:*=fail'
pid = start('sock_ring_v3')
for i in range(2):
    sb.dump(pid, f'img{i}')
    sb.restore(f'img{i}')
end(pid)
for program in 'sock_ring', 'sock_ring_tx':
    pid = start(program)
    rc, text = sb.check_tree(pid)
    check(rc == 1 and 'only BPF tells where the kernel is' in text, 'check -t does not say it', text)
    result = sb.ckpt(*sb.dump_args(pid, program))
    check(result.rc == 1 and 'CAP_BPF' in result.err, 'it was not refused', result.err)
    end(pid)
