#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=120
"""Connections over which nothing passes are read with fewer questions. The images are the same as those of the long way, and
neither changes anything of the sockets."""
import os
import re
import signal

from _scenario import Sandbox, check, read
from e2e import crit

PROGRAM = '''
import os, select, signal, socket
SO_PEEK_OFF = 42
def pair(family, host):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    listener.bind((host, 0))
    listener.listen()
    one = socket.socket(family)
    one.connect(listener.getsockname())
    other = listener.accept()[0]
    listener.close()
    return one, other
pairs = []
sizes = {}
for family, host in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
    for reuse in (0, 1):
        pairs += [pair(family, host) for _ in range(5)]
for i, (one, other) in enumerate(pairs):
    kind = i % 5
    if kind >= 1:
        one.send(b'first' * 100)
        other.send(b'answer')
    if kind == 2:  # more than there is room for
        one.setblocking(False)
        sent = 500
        try:
            while True:
                sent += one.send(b'many' * 5000)
        except BlockingIOError:
            pass
        sizes[i] = sent
    if kind == 3:
        other.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 7)
    if kind == 4:
        one.send(b'!', socket.MSG_OOB)
        one.send(b'behind')
        select.select([], [], [other], 10)
        if i >= 10:
            other.recv(1, socket.MSG_OOB)
def look():
    return [(s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR), s.getsockopt(socket.SOL_SOCKET, SO_PEEK_OFF))
            for p in pairs for s in p]
def take(s, n):
    data = b''
    while len(data) < n:
        data += s.recv(n - len(data))
    return data
before = look()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
open('ready', 'w').close()
while signal.sigwait([signal.SIGUSR1, signal.SIGUSR2]) == signal.SIGUSR1:
    assert look() == before, (look(), before)
    open('same', 'w').close()
assert look() == before, (look(), before)
for i, (one, other) in enumerate(pairs):
    kind = i % 5
    if kind >= 1:
        assert take(one, 6) == b'answer'
        if kind == 3:
            other.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, -1)
        assert take(other, 500) == b'first' * 100
    if kind == 2:
        rest = take(other, sizes[i] - 500)
        assert rest == (b'many' * (len(rest) // 4 + 1))[:len(rest)]
    if kind == 4:
        if i < 10:
            assert other.recv(1, socket.MSG_OOB) == b'!'
        assert take(other, 6) == b'behind'
    one.setblocking(True)
    for a, b in ((one, other), (other, one)):
        a.send(b'on')
        assert take(b, 2) == b'on'
print('PASS')
'''

sb = Sandbox.from_env()


def decode(images):
    found = {}
    for name in sorted(os.listdir(sb.path(images))):
        if name.startswith('tcp-stream'):
            with open(sb.path(images, name), 'rb') as f:
                entry = crit.images.load(f, False)['entries'][0]
            entry.pop('timestamp')  # a clock
            found[name] = entry
    return found


def quiet(images):
    match = re.search(rb'(\d+) connections were quiet', read(sb.path(images, 'dump.log')))
    return int(match[1]) if match else -1


def same():
    sb.signal(pid, signal.SIGUSR1)
    sb.wait_for(lambda: pid in sb.children.ended or os.path.exists(sb.path('work/same')), 'the program to compare')
    check(pid not in sb.children.ended, 'the program has ended', read(sb.path('work/out'), b'').decode())
    os.unlink(sb.path('work/same'))


def dump(images, env=None):
    os.makedirs(sb.path(images), exist_ok=True)
    result = sb.ckpt(*sb.dump_args(pid, images, '--tcp-established', '-R'), env=env)
    check(result.rc == 0, 'the dump', result.err)
    same()


pid = sb.start(['/usr/bin/python3', '-c', PROGRAM])
sb.wait_for(lambda: pid in sb.children.ended or os.path.exists(sb.path('work/ready')), 'the program')
check(pid not in sb.children.ended, 'the program has ended', read(sb.path('work/out'), b'').decode())
dump('long', {'CKPT_FAULT': 'dump-socket-quiet=fail'})
check(quiet('long') == 0, f'{quiet("long")} connections were quiet')
dump('short')
# A full window is probed again and again.
check(32 <= quiet('short') <= 40, f'only {quiet("short")} connections were quiet')
long, short = decode('long'), decode('short')
check(len(long) == 40, f'{len(long)} connections')
for name, entry in long.items():
    if entry['outq_len'] > 0 or entry['inq_len'] > 1000:
        continue  # of those some more goes over from time to time
    check(short[name] == entry, f'{name} differs', f'{entry}', f'{short[name]}')
check(sum(e['inq_len'] > 0 for e in short.values()) == 32 and sum(e['outq_len'] > 0 for e in short.values()) == 4,
      'the queues', short)
sb.dump(pid, 'last', '--tcp-established')
check(quiet('last') >= 32, f'only {quiet("last")} connections were quiet')
sb.restore('last', '--tcp-established', expect_pid=pid)
same()
sb.signal(pid, signal.SIGUSR2)
check(sb.wait_exit(pid) == 0 and b'PASS' in read(sb.path('work/out')), 'the program', read(sb.path('work/out')).decode())
