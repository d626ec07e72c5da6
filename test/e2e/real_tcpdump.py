#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=200
"""tcpdump with a filter, on one device and on all, whose rings are TPACKET_V3 (libpcap's usual way) and TPACKET_V2 (immediate mode):
what it captures before, between and after two dumps is complete and in order."""
import fcntl
import os
import shutil
import signal
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from e2e.harness import Sandbox, check, skip

PORT = 5353
# Without -s, the ring of the immediate mode has seven frames.
WAYS = {'device': ['-i', 'lo'], 'immediate': ['-i', 'lo', '--immediate-mode', '-s', '500'], 'any': ['-i', 'any'],
        'small': ['-i', 'lo', '-s', '200']}
BATCH = 40

sb = Sandbox.from_env()
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def up():
    req = bytearray(struct.pack('16sH14x', b'lo', 0))
    fcntl.ioctl(sender, 0x8913, req)  # SIOCGIFFLAGS
    flags = struct.unpack_from('H', req, 16)[0] | 1
    fcntl.ioctl(sender, 0x8914, struct.pack('16sH14x', b'lo', flags))  # SIOCSIFFLAGS


def numbers(path):
    """Of the packets in a capture file, as far as it is written."""
    try:
        with open(path, 'rb') as f:
            data = f.read()
    except FileNotFoundError:
        return []
    at, found = 24, []
    while at + 16 <= len(data):
        size = struct.unpack_from('=I', data, at + 8)[0]
        packet = data[at + 16:at + 16 + size]
        if len(packet) < size:
            break
        mark = packet.find(b'nr=')
        check(mark >= 0, 'it has captured what the filter should keep out', packet)
        found.append(int(packet[mark + 3:mark + 11]))
        at += 16 + size
    return found


def output(name):
    try:
        with open(sb.path('work', f'{name}.out')) as f:
            return f.read()
    except FileNotFoundError:  # the program is still to be started
        return ''


class Capture:
    def __init__(self, name, args):
        self.file = sb.path('work', f'{name}.pcap')
        self.sent = 0
        self.pid = sb.start(['tcpdump', '-n', '-U', '-Z', 'root', '-w', self.file, *args, 'udp', 'port', str(PORT)],
                            out=f'work/{name}.out')
        sb.wait_for(lambda: 'listening on' in output(name), 'tcpdump to listen')

    def send(self, n=BATCH):
        for _ in range(n):
            sender.sendto(b'nr=%08d' % self.sent + b'.' * 60, ('127.0.0.1', PORT))
            sender.sendto(b'not this one', ('127.0.0.1', PORT + 1))
            self.sent += 1

    def wait(self):
        want = list(range(self.sent))
        got = []

        def complete():
            got[:] = numbers(self.file)
            return len(got) >= len(want)

        sb.wait_for(complete, f'{len(want)} packets in {self.file}, there are {len(got)}')
        check(got == want, 'packets are missing, or come twice', got)


def run(name, args):
    c = Capture(name, args)
    c.send()
    c.wait()
    for i in range(2):
        c.send(3)  # perhaps still in the block that is being filled
        sb.dump(c.pid, f'{name}-{i}')
        sb.restore(f'{name}-{i}')
        c.send()
        c.wait()
    c.send()
    sb.dump(c.pid, f'{name}-running', kill=False)
    c.send()
    c.wait()
    sb.signal(c.pid, signal.SIGTERM)
    check(sb.wait_exit(c.pid) == 0, 'tcpdump failed', output(name))


if not shutil.which('tcpdump'):
    skip('there is no tcpdump')
up()
for name, args in WAYS.items():
    run(name, args)
