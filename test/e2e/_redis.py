# SPDX-License-Identifier: GPL-2.0-only
"""A redis server with many keys, and a client that keeps its pipe full."""
import collections
import os
import random
import select

from _scenario import check, skip
from _server import PATIENCE, Server, connect, free_port

REDIS = '/usr/bin/redis-server'
KEYS = 500000
DEPTH = 20000   # commands under way: more than the socket buffers hold, so that it always wants to send


def command(*words):
    parts = [b'*%d\r\n' % len(words)]
    for word in words:
        word = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b'$%d\r\n%s\r\n' % (len(word), word))
    return b''.join(parts)


def reply(f):
    """One answer from a file: bytes, int, None or a list. An error fails."""
    line = f.readline()
    check(line.endswith(b'\r\n'), f'the connection ended: {line!r}')
    kind, rest = line[:1], line[1:-2]
    check(kind != b'-', f'redis says {rest!r}')
    if kind == b'+':
        return rest
    if kind == b':':
        return int(rest)
    n = int(rest)
    if n < 0:
        return None
    if kind == b'*':
        return [reply(f) for _ in range(n)]
    data = f.read(n + 2)
    check(len(data) == n + 2, 'the connection ended within an answer')
    return data[:-2]


class Pipelining:
    """Sends as long as fewer than DEPTH commands are under way; knows the answer to each of them."""

    def __init__(self, port, me):
        self.s, self.me = connect(port), me
        self.s.setblocking(False)
        self.expected = collections.deque()
        self.out, self.got = bytearray(), bytearray()
        self.count, self.mine = 0, {}

    def question(self):
        """A command and its answer as it must come over the wire."""
        what = random.random()
        if what < 0.6:
            i = random.randrange(KEYS)
            value = b'value:%d' % i
            return command('GET', f'key:{i}'), b'$%d\r\n%s\r\n' % (len(value), value)
        if what < 0.8:
            self.count += 1  # carried out twice, or not at all, it would show for ever
            return command('INCR', f'count:{self.me}'), b':%d\r\n' % self.count
        name = random.randrange(100)
        if what < 0.9:
            value = random.randbytes(random.randrange(1, 9000))
            self.mine[name] = value
            return command('SET', f'{self.me}:{name}', value), b'+OK\r\n'
        value = self.mine.get(name)
        if value is None:
            return command('GET', f'{self.me}:{name}'), b'$-1\r\n'
        return command('GET', f'{self.me}:{name}'), b'$%d\r\n%s\r\n' % (len(value), value)

    def step(self, more=True):
        """Returns how many answers came."""
        while more and len(self.expected) < DEPTH and len(self.out) < 1 << 20:
            question, answer = self.question()
            self.out += question
            self.expected.append(answer)
        r, w, _ = select.select([self.s], [self.s] if self.out else [], [], PATIENCE)
        check(r or w, f'no answer for {PATIENCE} s; {len(self.expected)} commands under way')
        if w:
            del self.out[:self.s.send(self.out)]
        if not r:
            return 0
        data = self.s.recv(1 << 16)
        check(data, 'redis has closed the connection')
        self.got += data
        return self.compare()

    def compare(self):
        n, at = 0, 0
        while self.expected and len(self.got) - at >= len(self.expected[0]):
            want = self.expected.popleft()
            got = bytes(self.got[at:at + len(want)])
            check(got == want, f'got {got[:100]!r}, not {want[:100]!r}')
            at += len(want)
            n += 1
        del self.got[:at]
        return n

    def ask(self, client):
        while client.goes_on():
            client.answered(self.step())
        while self.expected:  # a connection closed with answers unread is one more RST
            self.step(more=False)


def start(sb):
    """The server, filled."""
    if not os.path.exists(REDIS):
        skip('there is no redis-server')
    port = free_port()
    server = Server(sb, 'redis', [REDIS, '--port', str(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no',
                                  '--enable-debug-command', 'local', '--dir', sb.path('work')], port)
    with connect(port) as s, s.makefile('rb') as f:
        s.sendall(command('DEBUG', 'POPULATE', KEYS))
        check(reply(f) == b'OK', 'DEBUG POPULATE')
        s.sendall(command('DBSIZE'))
        check(reply(f) == KEYS, 'DBSIZE')
    return server, port
