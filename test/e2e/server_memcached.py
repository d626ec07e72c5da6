#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=300
"""memcached, with four threads and as another user, with 50 connections under load."""
import os
import random
import select

from _scenario import Sandbox, check, skip
from _server import PATIENCE, Server, connect, free_port

MEMCACHED = '/usr/bin/memcached'
CONNECTIONS = 50
PROCESSES = 2


class Connection:
    """Asks one thing after another; value() and count are what the server must have."""

    def __init__(self, port, me):
        self.s, self.me, self.version, self.count = connect(port), me, 0, 0
        self.s.sendall(b'set count-%s 0 0 1\r\n0\r\n' % me)
        check(self.s.recv(100) == b'STORED\r\n', 'set')
        self.next = b''
        self.got, self.want = b'', b''

    def value(self):
        return random.Random(b'%s-%d' % (self.me, self.version)).randbytes(self.version * 37 % 3000 + 9000)

    def ask(self):
        """Three questions at once."""
        self.version += 1
        self.count += 1
        value = self.value()
        self.s.sendall(b'set %s 7 0 %d\r\n%s\r\nincr count-%s 1\r\nget %s\r\n'
                       % (self.me, len(value), value, self.me, self.me))
        self.got, self.want = b'', (b'STORED\r\n%d\r\nVALUE %s 7 %d\r\n%s\r\nEND\r\n'
                                    % (self.count, self.me, len(value), value))

    def receive(self):
        """True when all three answers are there."""
        data = self.s.recv(1 << 16)
        check(data, 'memcached has closed the connection')
        self.got += data
        check(self.want.startswith(self.got), f'got {self.got[:100]!r}, not {self.want[:100]!r}')
        return self.got == self.want


def ask(client):
    each = [Connection(port, f'{os.getpid()}-{i}'.encode()) for i in range(CONNECTIONS // PROCESSES)]
    by_fd = {c.s.fileno(): c for c in each}
    poll = select.poll()
    for c in each:
        poll.register(c.s, select.POLLIN)
        c.ask()
    busy = len(each)
    while busy:
        ready = poll.poll(PATIENCE * 1000)
        check(ready, f'no answer for {PATIENCE} s')
        for fd, _ in ready:
            if not by_fd[fd].receive():
                continue
            client.answered(connection=fd, of=len(each))
            if client.goes_on():
                by_fd[fd].ask()
            else:
                busy -= 1


sb = Sandbox.from_env()
if not os.path.exists(MEMCACHED):
    skip('there is no memcached')
port = free_port()
server = Server(sb, 'memcached', [MEMCACHED, '-u', 'nobody', '-l', '127.0.0.1', '-p', str(port), '-U', '0', '-t', '4'], port)
server.add_client(ask, PROCESSES)
server.run()
with connect(port) as s:
    s.sendall(b'version\r\n')
    check(s.recv(100).startswith(b'VERSION '), 'no answer to a new connection')
server.stop()
