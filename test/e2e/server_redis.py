#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=300
"""redis with 500,000 keys and a client that never waits for an answer before it asks again; beside it one that waits
in a command with a time-out, and keys that expire."""
import time

import _redis
from _redis import KEYS, command, reply
from _scenario import Sandbox, check
from _server import connect


def waiting(client):
    """BLPOP comes back by its time-out, measured by the server's clock; keys expire when they should."""
    with connect(port) as s, s.makefile('rb') as f:
        while client.goes_on():
            s.sendall(command('SET', 'brief', 'x', 'PX', 60))
            check(reply(f) == b'OK', 'SET PX')
            start = time.monotonic()
            s.sendall(command('BLPOP', 'nothing', '0.08'))
            check(reply(f) is None, 'something was in the empty list')
            check(time.monotonic() - start >= 0.075, 'BLPOP came back too early')
            s.sendall(command('GET', 'brief'))
            check(reply(f) is None, 'the key has not expired')
            client.answered(10)


sb = Sandbox.from_env()
server, port = _redis.start(sb)
server.add_client(lambda client: _redis.Pipelining(port, 'a').ask(client))
server.add_client(waiting)
server.run()
with connect(port) as s, s.makefile('rb') as f:
    for i in range(0, KEYS, 5000):
        s.sendall(b''.join(command('GET', f'key:{j}') for j in range(i, i + 5000)))
        for j in range(i, i + 5000):
            check(reply(f) == b'value:%d' % j, f'key {j} is wrong')
server.stop()
