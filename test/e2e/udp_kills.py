#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=60
"""ckpt dies, or fails, while it reads datagrams that a program has not read: they are all there afterwards, in their order,
and the socket peeks where it did (SO_PEEK_OFF)."""
import signal
import sys

from _net import ip
from _scenario import Sandbox, check, read

PROGRAM = '''
import signal, socket, sys
peek_off = 42
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
t.bind(("127.0.0.1", 0))
for i in range(50):
    s.sendto(b"number %d" % i, s.getsockname())
    s.sendto(b"number %d" % i, t.getsockname())
t.setsockopt(socket.SOL_SOCKET, peek_off, 7)
open("ready", "w").close()
signal.sigwait([signal.SIGTERM])
assert s.getsockopt(socket.SOL_SOCKET, peek_off) == -1
assert t.getsockopt(socket.SOL_SOCKET, peek_off) == 7
for i in range(50):
    for x in (s, t):
        got = x.recv(100, socket.MSG_DONTWAIT)
        assert got == b"number %d" % i, got
for x in (s, t):
    try:
        x.recv(100, socket.MSG_DONTWAIT)
        sys.exit("more than there was")
    except BlockingIOError:
        pass
print("PASS", flush=True)
'''

sb = Sandbox.from_env()
ip('link', 'set', 'lo', 'up')
pid = sb.start([sys.executable, '-c', PROGRAM])
sb.wait_ready(pid)
for point in 8 * ['dump-socket-repair', 'dump-socket-repair:2'] + ['dump-memory', 'dump-before-commit']:
    for action in ('kill', 'fail'):
        result = sb.ckpt(*sb.dump_args(pid, 'img'), env={'CKPT_FAULT': f'{point}={action}'})
        check(result.rc != 0, f'{point}={action}: exit status {result.rc}', result.err)
        sb.no_strangers({pid})
sb.dump(pid, 'img', kill=False)
sb.dump(pid, 'img')
sb.restore('img', expect_pid=pid)
sb.signal(pid, signal.SIGTERM)
check(sb.wait_exit(pid) == 0, 'the program failed', read(sb.path('work/out')).decode())
