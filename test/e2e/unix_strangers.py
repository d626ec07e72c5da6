#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=150
"""Others that connect to a server as soon as its name is there again do not get the place of its clients: while a tree is
restored, strangers try all the time. Who comes too early is turned away, who comes later is served."""
import os
import signal
import socket
import threading

from _scenario import Sandbox, check, read, write

N = 40
TARGET = f'''
import os, signal, socket, sys, threading
name = sys.argv[1].replace('@', chr(0))
server = socket.socket(socket.AF_UNIX)
server.bind(name)
server.listen(200)
pairs = []
for i in range({N}):
    client = socket.socket(socket.AF_UNIX)
    client.connect(name)
    pairs.append((client, server.accept()[0]))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
open('ready', 'w').close()
signal.sigwait([signal.SIGTERM])
for i, (client, end) in enumerate(pairs):
    for a, b in ((client, end), (end, client)):
        a.settimeout(20)
        a.sendall(b'%d' % i)
        b.settimeout(20)
        got = b.recv(10)
        assert got == b'%d' % i, (i, got)
    end.close()
    assert client.recv(1) == b'', i
server.settimeout(20)
while True:
    late = server.accept()[0]
    if late.recv(4) == b'late':
        late.send(b'here')
        break
'''

sb = Sandbox.from_env()
write(sb.path('work/target.py'), TARGET.encode())


class Strangers:
    """Two threads that connect whenever they can."""

    def __init__(self, name):
        self.name, self.stop, self.came = name, False, 0
        self.threads = [threading.Thread(target=self.run) for _ in range(2)]
        for t in self.threads:
            t.start()

    def run(self):
        kept = []
        while not self.stop:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(0)
            try:
                s.connect(self.name)
                s.send(b'stranger')
            except OSError:
                s.close()
                continue
            self.came += 1
            kept.append(s)
            if len(kept) > 200:
                kept.pop(0).close()

    def end(self):
        self.stop = True
        for t in self.threads:
            t.join()


for name in (sb.path('server.sock'), '@' + sb.path('server')):
    if os.path.exists(sb.path('work/ready')):
        os.unlink(sb.path('work/ready'))
    pid = sb.start(['/usr/bin/python3', 'target.py', name])
    sb.wait_ready(pid)
    images = 'img' + name[0].replace('/', 'path')
    sb.dump(pid, images)
    address = name.replace('@', '\0')
    strangers = Strangers(address)
    try:
        sb.restore(images, expect_pid=pid)
        sb.wait_for(lambda: strangers.came > 0, 'strangers')
    finally:
        strangers.end()
    late = socket.socket(socket.AF_UNIX)
    sb.signal(pid, signal.SIGTERM)
    late.connect(address)  # waits for its turn
    late.settimeout(20)
    late.send(b'late')
    check(late.recv(4) == b'here', 'who comes later is not served')
    check(sb.wait_exit(pid) == 0, 'a connection is not what it was', read(sb.path('work/out')).decode())
