#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=60
"""A client that is killed between dump and restore costs the server that connection and nothing else: it has lots of unsent
data for it, and for another client, which gets all of it."""
import os
import signal

from _net import locks
from _scenario import Sandbox, check, read

SERVER = '''
import os, select, socket
a = socket.create_server(('127.0.0.1', 7600))
open('listens', 'w').close()
v, left = [], {}
for name in ('gone', 'stays'):
    s, _ = a.accept()
    assert s.recv(10).decode() == name, name
    s.setblocking(False)
    data = bytes(i * 7 % 251 for i in range(1 << 16)) * 256
    left[s] = memoryview(data)
    try:
        while True:
            left[s] = left[s][s.send(left[s]):]
    except BlockingIOError:
        pass
    v.append((name, s))
open('ready', 'w').close()
p = select.poll()
for name, s in v:
    p.register(s, select.POLLOUT)
by_fd = {s.fileno(): (name, s) for name, s in v}
while by_fd:
    for fd, _ in p.poll():
        name, s = by_fd[fd]
        try:
            left[s] = left[s][s.send(left[s]):]
            if left[s]:
                continue
            print(name, 'has all', flush=True)
        except OSError as e:
            print(name, type(e).__name__, flush=True)
        p.unregister(fd)
        del by_fd[fd]
        s.close()
'''
CLIENT = '''
import os, signal, socket, sys
s = socket.create_connection(('127.0.0.1', 7600))
s.send(sys.argv[1].encode())
open(sys.argv[1], 'w').close()
signal.sigwait({signal.SIGUSR1})
want = bytes(i * 7 % 251 for i in range(1 << 16)) * 256
got = bytearray()
while data := s.recv(1 << 20):
    got += data
assert got == want, len(got)
'''

sb = Sandbox.from_env()


def exists(name):
    return os.path.exists(sb.path('work', name))


def client(name):
    pid = sb.start(['/usr/bin/python3', '-c', 'import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {10})\n' + CLIENT, name],
                   out=f'out-{name}')
    sb.bystanders.add(pid)
    sb.wait_for(lambda: exists(name), f'client {name}')
    return pid


server = sb.start(['/usr/bin/python3', '-c', SERVER])
sb.wait_for(lambda: exists('listens'), 'the server')
gone, stays = client('gone'), client('stays')
sb.wait_for(lambda: exists('ready'), 'the server to have sent what it can')
sb.dump(server, 'img', '--tcp-established')
# With data unread, its end is a RST, which the network lock holds back: nobody knows of it yet.
sb.signal(gone, signal.SIGKILL)
sb.wait_exit(gone)
sb.restore('img', '--tcp-established', expect_pid=server)
check(locks() == [], f'locks: {locks()}')
sb.signal(stays, signal.SIGUSR1)
check(sb.wait_exit(stays) == 0, 'the client that stays', read(sb.path('out-stays')).decode())
code, said = sb.wait_exit(server), read(sb.path('work/out')).decode()
check(code == 0 and 'stays has all\n' in said, f'the server ended with {code}', said)
check('gone ConnectionResetError' in said or 'gone BrokenPipeError' in said, 'what the server saw of the other', said)
