#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=60
"""A server that waits in epoll, as nearly all do, with keep-alive clients on another machine that ask and wait for the answer
over the same connections, before and after; new clients too."""
import os
import signal

from _net import OtherMachine, locks
from _scenario import Sandbox, check, read

SERVER = '''
import selectors, socket
sel = selectors.EpollSelector()
a = socket.create_server(('10.9.0.1', 7500), backlog=50)
a.setblocking(False)
sel.register(a, selectors.EVENT_READ)
open('ready', 'w').close()
while True:
    for key, _ in sel.select():
        if key.fileobj is a:
            s, _ = a.accept()
            s.setblocking(False)
            sel.register(s, selectors.EVENT_READ, 0)
            continue
        s = key.fileobj
        data = s.recv(4096)
        if not data:
            sel.unregister(s)
            s.close()
            continue
        sel.modify(s, selectors.EVENT_READ, key.data + 1)
        s.send(b'%d ' % (key.data + 1) + data)
'''
CLIENT = '''
import os, socket, sys, time
v = [socket.create_connection(('10.9.0.1', 7500)) for _ in range(20)]
n = 0
while not os.path.exists('stop'):
    n += 1
    for i, s in enumerate(v):
        s.send(b'question %d of %d' % (n, i))
    for i, s in enumerate(v):
        got = s.recv(4096)
        if got != b'%d question %d of %d' % (n, n, i):
            sys.exit('client %d, question %d: got %r' % (i, n, got))
    with open('asked.new', 'w') as f:
        f.write(str(n))
    os.rename('asked.new', 'asked')
w = socket.create_connection(('10.9.0.1', 7500))
w.send(b'new')
assert w.recv(100) == b'1 new'
'''

sb = Sandbox.from_env()
there = OtherMachine(sb)
os.mkdir(sb.path('away'))


def asked():
    check(client not in sb.children.ended, 'the client has ended', read(sb.path('away-out'), b'').decode())
    return int(read(sb.path('away/asked'), b'0') or 0)


server = sb.start(['/usr/bin/python3', '-c', SERVER])
sb.wait_for(lambda: os.path.exists(sb.path('work/ready')), 'the server')
client = sb.start(there.enter(['/usr/bin/python3', '-c', CLIENT]), cwd='away', out='away-out')
sb.bystanders.add(client)
for n in range(5):
    goal = asked() + 20
    sb.wait_for(lambda: asked() >= goal, 'the client to be answered')
    sb.dump(server, f'img{n}', '--tcp-established')
    sb.restore(f'img{n}', '--tcp-established', expect_pid=server)
    check(locks() == [], f'locks: {locks()}')
goal = asked() + 20
sb.wait_for(lambda: asked() >= goal, 'the client to be answered')
with open(sb.path('away/stop'), 'w'):
    pass
check(sb.wait_exit(client) == 0, 'the client failed', read(sb.path('away-out')).decode())
check(there.resets() == 0, f'resets: {there.resets()}')
sb.signal(server, signal.SIGKILL)
