#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=60
"""Datagrams from another machine that wait in a server's socket over a dump and a restore: each is answered, to where it
came from, over IPv4 and IPv6."""
import os
import signal
import sys

from _net import OtherMachine, ip
from _scenario import Program, Sandbox, check, read

CLIENT = '''
import socket, sys
port = int(sys.argv[1])
pairs = []
for family, address in ((socket.AF_INET, "10.9.0.1"), (socket.AF_INET6, "fd09::1")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(40)
    s.connect((address, port))
    pairs.append(s)
    for i in range(20):
        s.send(b"from %d number %d" % (family, i))
print("sent", flush=True)
for s in pairs:
    for i in range(20):
        got = s.recv(100)
        assert got == b"FROM %d NUMBER %d" % (s.family, i), got
print("all", flush=True)
'''

sb = Sandbox.from_env()
ip('link', 'set', 'lo', 'up')
there = OtherMachine(sb)
server = Program(sb, 'udp_late')
check(server.wait_ready(), 'it does not run')
port = read(sb.path('work/port')).decode().strip()
client = there.start([sys.executable, '-c', CLIENT, port], out='client')
sb.wait_for(lambda: b'sent' in read(sb.path('client'), b''), 'the client to send')



def rounds():
    for n in range(2):
        sb.dump(server.pid, f'img{n}')
        check(sb.restore(f'img{n}', expect_pid=server.pid) == server.pid, 'another pid')
        for log in os.listdir(sb.path(f'img{n}')):
            if log.endswith('.log'):
                text = read(sb.path(f'img{n}/{log}')).decode()
                check('lost' not in text, f'{log}: something is lost', text)


rounds()
sb.signal(server.pid, signal.SIGTERM)
check(sb.wait_exit(server.pid) == 0, 'the server failed', read(sb.path('work/out')).decode())
check(sb.wait_exit(client) == 0, 'the client failed', read(sb.path('client')).decode())
