#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=90
"""More connections with another machine than select(2) can wait for: each is answered after a dump and a restore, and no RST
leaves."""
import os
import resource
import signal

from _net import OtherMachine, counter, locks
from _scenario import Sandbox, check, number, read

N = number('CONNECTIONS', 1300)
SERVER = '''
import select, socket, sys
a = socket.create_server(('10.9.0.1', 7700), backlog=4096)
open('listens', 'w').close()
v = {}
for i in range(int(sys.argv[1])):
    s, _ = a.accept()
    s.recv(1)
    v[s.fileno()] = s
ep = select.epoll()
for fd in v:
    ep.register(fd, select.EPOLLIN)
open('ready', 'w').close()
while True:
    for fd, _ in ep.poll():
        v[fd].send(v[fd].recv(100))
'''
CLIENT = '''
import os, socket, sys, time
v = [socket.create_connection(('10.9.0.1', 7700)) for i in range(int(sys.argv[1]))]
for s in v:
    s.send(b'x')
while not os.path.exists('ask'):
    time.sleep(0.01)
for i, s in enumerate(v):
    s.send(b'%d' % i)
for i, s in enumerate(v):
    got = s.recv(100)
    assert got == b'%d' % i, (i, got)
'''

sb = Sandbox.from_env()
there = OtherMachine(sb)
resource.setrlimit(resource.RLIMIT_NOFILE, (N + 100, max(N + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))


def wait_file(name):
    sb.wait_for(lambda: os.path.exists(sb.path('work', name)), name, 60)


server = sb.start(['/usr/bin/python3', '-c', SERVER, str(N)])
wait_file('listens')
client = sb.start(there.enter(['/usr/bin/python3', '-c', CLIENT, str(N)]), out='client')
sb.bystanders.add(client)
wait_file('ready')
sb.dump(server, 'img', '--tcp-established', decode=False)
check(len(locks()) == 1, f'locks after the dump: {locks()}')
sb.restore('img', '--tcp-established', expect_pid=server)
check(locks() == [], f'locks after the restore: {locks()}')
check(counter('OutRsts') == 0 and there.resets() == 0, f'resets: {counter("OutRsts")}, {there.resets()}')
with open(sb.path('work/ask'), 'w'):
    pass
check(sb.wait_exit(client) == 0, 'the client failed', read(sb.path('client')).decode())
sb.signal(server, signal.SIGKILL)
