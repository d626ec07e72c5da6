#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=120
"""More connections to another machine than the descriptors that select(2) can wait for, with either kind of network lock:
each goes on after two dumps."""
import os
import signal

from _net import OtherMachine, counter, legacy_locks, locks
from _scenario import Sandbox, check, read, write

N = 1200
LIMIT = 'import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))'
SERVER = f'''
import os, select, socket
{LIMIT}
a = socket.create_server(('10.9.0.1', 7001), backlog={N})
open('ready', 'w').close()
conns = [a.accept()[0] for _ in range({N})]
poll = select.epoll()
for c in conns:
    poll.register(c, select.EPOLLIN)
by_fd = {{c.fileno(): c for c in conns}}
while True:
    for fd, _ in poll.poll():
        by_fd[fd].sendall(by_fd[fd].recv(100)[::-1])
'''
CLIENT = f'''
import os, signal, socket, sys
{LIMIT}
conns = [socket.create_connection(('10.9.0.1', 7001)) for _ in range({N})]
for n in range(3):
    for i, c in enumerate(conns):
        c.sendall(b'%d-%d' % (n, i))
    for i, c in enumerate(conns):
        assert c.recv(100)[::-1] == b'%d-%d' % (n, i)
    print('round', n, flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
'''

sb = Sandbox.from_env()
there = OtherMachine(sb)
write(sb.path('work/server.py'), SERVER.encode())
write(sb.path('client.py'), CLIENT.encode())
server = sb.start(['/usr/bin/python3', 'server.py'])
sb.wait_for(lambda: os.path.exists(sb.path('work/ready')), 'the server')
client = there.start(['/usr/bin/python3', sb.path('client.py')], out='out-client')


def answered(n):
    sb.wait_for(lambda: f'round {n}'.encode() in read(sb.path('out-client'), b'') or client in sb.children.ended,
                f'round {n}')
    check(client not in sb.children.ended, 'the client has ended', read(sb.path('out-client')).decode())


answered(0)
for n, fault in ((1, ''), (2, 'network-nftables=fail')):
    os.environ['CKPT_FAULT'] = fault
    sb.dump(server, f'img{n}', '--tcp-established')
    check((len(locks()), len(legacy_locks())) == (n == 1, n == 2), f'locks: {locks()} {legacy_locks()}')
    sb.restore(f'img{n}', '--tcp-established', expect_pid=server)
    check(locks() == [] and legacy_locks() == [], f'locks: {locks()} {legacy_locks()}')
    sb.signal(client, signal.SIGCONT)
    answered(n)
    check(there.resets() == 0 and counter('OutRsts') == 0, 'resets')
sb.signal(client, signal.SIGKILL)
sb.signal(server, signal.SIGKILL)
