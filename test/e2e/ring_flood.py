#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=200
"""Rings that fill while they are dumped: what comes in between counts as lost, and the reader goes on with what comes next."""
import os
import signal
import socket
import struct
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from _net import ip
from e2e.harness import Sandbox, check

PROTOCOL, SIZE, ROUNDS = 0x9500, 900, 3
sb = Sandbox.from_env()
ip('link', 'set', 'lo', 'up')
stop = threading.Event()


def flood():
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind(('lo', 0))
    words = (SIZE - 14) // 4
    number = 0
    while not stop.is_set():
        number += 1
        sock.send(b'\0' * 12 + struct.pack('!H', PROTOCOL) + struct.pack('=I', number) * words)


def had(version):
    try:
        with open(sb.path('work', f'had-{version}')) as f:
            return int(f.read() or 0)
    except FileNotFoundError:
        return -1


def goes_on(version):
    before = had(version)
    sb.wait_for(lambda: had(version) > before + 200, f'version {version + 1} to read more packets')


sender = threading.Thread(target=flood, daemon=True)
sender.start()
for version in range(3):
    pid = sb.start([sb.program('ring_reader'), str(version), sb.path('work', f'had-{version}')], out=f'work/out-{version}')
    goes_on(version)
    for i in range(ROUNDS):
        sb.dump(pid, f'{version}-{i}-running', kill=False, decode=False)
        goes_on(version)
        sb.dump(pid, f'{version}-{i}')
        sb.restore(f'{version}-{i}')
        goes_on(version)
    sb.signal(pid, signal.SIGTERM)
    with open(sb.path('work', f'out-{version}')) as f:
        check(sb.wait_exit(pid) == 0, 'the reader has found something wrong', f.read())
stop.set()
sender.join()
