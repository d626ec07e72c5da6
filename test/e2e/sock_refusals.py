#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=120
"""Sockets that cannot be carried over are refused by name, all of them in one run, by `check -t` and by `dump`; and
have not noticed."""
import os
import re

from _net import ip
from _scenario import Failure, Failures, Program, Sandbox, check, one_clear_line

KINDS = {
    'packet-ring': r'memory of a socket that is no packet socket which the tree has open', 'packet-gone': r'network device that is gone',
    'netlink-unread': r'NETLINK_ROUTE.*nobody has read', 'connector': r'NETLINK_CONNECTOR.*events of processes',
    'nflog': r'NETLINK_NETFILTER.*NFLOG', 'ebpf-filter': r'eBPF', 'ebpf-filter-netlink': r'eBPF', 'vsock': r'vsock',
    'mptcp': r'MPTCP.*uses multipath', 'mptcp-fallback': r'MPTCP connection.*Use --tcp-established',
    'mptcp-connecting': r'is connecting.*may or may not.*multipath.*when it is connected',
    'xdp': r'XDP', 'alg': r'AF_ALG',
}

sb = Sandbox.from_env()
ip('link', 'set', 'lo', 'up')
skipped, failures = [], Failures(sb)


def refuse(names, directory):
    program = Program(sb, 'refuse_sock', names)
    if not program.wait_ready():
        skipped.append(f'{names}: {program.skipped}')
        return
    patterns = [KINDS[name] for name in names.split(',')]
    rc, text = sb.check_tree(program.pid)
    check(rc == 1, f'ckpt check -t: exit status {rc}, not 1', text)
    for pattern in patterns:
        check(re.search(pattern, text, re.S), f'ckpt check -t does not match /{pattern}/', text)
    result = sb.ckpt(*sb.dump_args(program.pid, directory))
    one_clear_line(result, *patterns)
    left = [f for f in os.listdir(sb.path(directory)) if not f.endswith('.log')]
    check(not left, f'the refused dump left {left}')
    program.check_same('after the refused dump')
    program.finish()


for i, names in enumerate([*KINDS, 'netlink-unread,connector,ebpf-filter']):
    try:
        refuse(names, f'img{i}')
    except Failure as e:
        failures.add(names, e)
for text in skipped:
    print('not possible here:', text)
failures.check()
