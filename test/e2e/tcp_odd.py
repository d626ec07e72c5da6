#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=120
"""Odd connections, each dumped and restored twice: with itself, by TCP Fast Open, with 40 MB to be sent, of link-local
addresses, refused, in a group of listeners, reset with something unread, bound while their listener has gone. And those
that are refused: `ckpt check -t` names them as a dump does."""
import os
import re

from _net import OtherMachine, locks
from _odd import finish, program
from _scenario import Sandbox, check, one_clear_line

sb = Sandbox.from_env()
there = OtherMachine(sb)
CASES = {}
CASES['self'] = '''
s = socket.socket(); s.bind(('127.0.0.1', 7900)); s.connect(('127.0.0.1', 7900))
s.send(b'to myself')
ready(); go()
assert s.recv(100) == b'to myself'
s.send(b'again'); assert s.recv(100) == b'again'
'''
CASES['fastopen'] = '''
open('/proc/sys/net/ipv4/tcp_fastopen', 'w').write('1543')
a = socket.socket(); a.setsockopt(6, 23, 5); a.bind(('127.0.0.1', 7901)); a.listen(5)
b = socket.socket(); b.sendto(b'in the syn', 0x20000000, ('127.0.0.1', 7901))
c, _ = a.accept()
ready(); go()
assert c.recv(100) == b'in the syn'
assert a.getsockopt(6, 23) == 5, a.getsockopt(6, 23)
d = socket.socket(); d.sendto(b'again', 0x20000000, ('127.0.0.1', 7901))
e, _ = a.accept()
assert e.recv(100) == b'again'
c.send(b'x'); assert b.recv(1) == b'x'
'''
CASES['large'] = '''
a = socket.create_server(('127.0.0.1', 7902)); b = socket.socket()
b.setsockopt(socket.SOL_SOCKET, 32, 100 << 20)
b.connect(('127.0.0.1', 7902)); c, _ = a.accept()
b.setblocking(False)
blob = bytes(range(251)) * 4000
n = 0
try:
    while n < 60 << 20:
        n += b.send(blob[n % 251:])
except BlockingIOError:
    pass
print('sent', n)
assert n > 40 << 20
ready(); go()
got = 0
c.settimeout(20)
while got < n:
    data = c.recv(1 << 20)
    assert data and data == (blob[got % 251:] + blob[:1000])[:len(data)] or data == (bytes(range(251)) * 8000)[got % 251:][:len(data)], got
    got += len(data)
b.send(b'end'); assert c.recv(10) == b'end'
'''
CASES['linklocal'] = '''
a = socket.socket(socket.AF_INET6); a.bind(('::', 7903)); a.listen()
addr = [l.split() for l in open('/proc/net/if_inet6') if l.startswith('fe80') and 'veth-a' in l][0]
while [l for l in open('/proc/net/if_inet6') if 'veth-a' in l and l.split()[4] == 'c0']: time.sleep(0.01)
ip6 = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(addr[0]))
b = socket.socket(socket.AF_INET6); b.bind((ip6, 0, 0, int(addr[1], 16))); b.connect((ip6, 7903, 0, int(addr[1], 16)))
c, _ = a.accept()
b.send(b'link'); 
names = [x.getsockname() for x in (b, c)] + [x.getpeername() for x in (b, c)]
ready(); go()
assert c.recv(10) == b'link'
assert names == [x.getsockname() for x in (b, c)] + [x.getpeername() for x in (b, c)]
c.send(b'back'); assert b.recv(10) == b'back'
'''
CASES['refused'] = '''
s = socket.socket(); s.setblocking(False)
try: s.connect(('127.0.0.1', 7904))
except BlockingIOError: pass
t = socket.socket(); t.setblocking(False)
try: t.connect(('127.0.0.1', 7904))
except BlockingIOError: pass
for x in (s, t): polled(x, select.POLLERR)
e = t.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR); assert e == 111, e
b = socket.socket(); b.bind(('127.0.0.1', 7905))
p = select.poll()
for x in (s, t, b): p.register(x, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
was = sorted(p.poll(0))
ready(); go()
assert sorted(p.poll(0)) == was, (was, p.poll(0))
e = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR); assert e == 111, e
e = t.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR); assert e == 0, e
a = socket.create_server(('127.0.0.1', 7904))
b.listen(); c = socket.create_connection(('127.0.0.1', 7905)); b.accept()
'''
CASES['group'] = '''
v = []
for i in range(4):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); s.bind(('127.0.0.1', 7906)); s.listen(10 + i); v.append(s)
q = socket.socket(); q.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); q.bind(('127.0.0.1', 7906))
pairs = []
def new():
    c = socket.create_connection(('127.0.0.1', 7906))
    r, _, _ = select.select(v, [], [], 5)
    d, _ = r[0].accept()
    pairs.append((c, d))
for i in range(20): new()
for c, d in pairs: c.send(b'x' * 1000)
ready(); go()
for i in range(20): new()
for c, d in pairs[:20]: assert d.recv(2000) == b'x' * 1000
for c, d in pairs: d.send(b'y'); assert c.recv(1) == b'y'
q.listen(); v.append(q); new()
'''
CASES['sndqueue-closed-peer'] = '''
a = socket.create_server(('127.0.0.1', 7907)); b = socket.create_connection(('127.0.0.1', 7907)); c, _ = a.accept()
b.send(b'last words'); b.close()
d = socket.create_connection(('127.0.0.1', 7907)); e, _ = a.accept()
d.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); d.send(b'then reset'); d.close()
polled(c, select.POLLRDHUP); polled(e, select.POLLHUP)
p = select.poll()
for x in (c, e): p.register(x, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
was = sorted(p.poll(0))
ready(); go()
assert sorted(p.poll(0)) == was, (was, p.poll(0))
assert c.recv(100) == b'last words' and c.recv(1) == b''
assert e.recv(100) == b'then reset'
try:
    e.recv(100); raise SystemExit('no reset')
except ConnectionResetError:
    pass
'''
CASES['orphan-bound'] = '''
a = socket.create_server(('0.0.0.0', 7908)); b = socket.create_connection(('127.0.0.1', 7908)); c, _ = a.accept()
a.close()
c.send(b'no listener')
f = os.fork()
if f == 0:
    c.close()
    while True: time.sleep(1)
b2 = b.dup(); b.close()
ready(); go()
os.kill(f, 9); os.wait()
assert b2.recv(100) == b'no listener'
b2.send(b'fine'); assert c.recv(10) == b'fine'
'''

REFUSED = {}
REFUSED['link-local'] = ('''
a = socket.socket(socket.AF_INET6); a.bind(('::', 7909)); a.listen()
addr = [l.split() for l in open('/proc/net/if_inet6') if l.startswith('fe80') and 'veth-a' in l][0]
b = socket.socket(socket.AF_INET6); b.bind(('fd09::1', 0))
b.connect((socket.inet_ntop(socket.AF_INET6, bytes.fromhex(addr[0])), 7909, 0, int(addr[1], 16)))
c, _ = a.accept()
ready(); go()
c.send(b'x'); assert b.recv(1) == b'x'
''', 'fd 5.*link-local.*device')
REFUSED['data with the SYN'] = ('''
b = socket.socket(); b.setblocking(False)
assert b.sendto(b'in the syn', 0x20000000, ('10.9.0.77', 7999)) == 10 and state(b) == 2
ready(); go()
''', 'fd 3.*Fast Open')
REFUSED['TCP_DEFER_ACCEPT'] = ('''
a = socket.socket(socket.AF_INET6); a.setsockopt(6, 9, 30); a.bind(('::', 7910)); a.listen(5)
b = socket.create_connection(('127.0.0.1', 7910))
ready(); go()
b.send(b'now'); a.settimeout(10)
c, _ = a.accept()
assert c.recv(10) == b'now'
''', 'fd 3.*7910.*nobody has accepted yet wait in it: 1.*--skip-in-flight')
REFUSED['backlogs'] = ('''
v = []
for i in range(3):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); s.bind(('127.0.0.1', 7911)); s.listen(50); v.append(s)
cs = []
while len(select.select(v, [], [], 1)[0]) < 3: cs.append(socket.create_connection(('127.0.0.1', 7911)))
for c in cs: c.send(b'waits in the backlog')
ready(); go()
for i in cs:
    r, _, _ = select.select(v, [], [], 5)
    e, _ = r[0].accept(); assert e.recv(30) == b'waits in the backlog'
''', r'(?s)fd 3.*7911.*accepted.*fd 4.*7911.*accepted.*fd 5.*7911.*accepted')
REFUSED['MD5'] = ('''
s = socket.socket()
s.setsockopt(6, 14, struct.pack('=H2s4s120sBBHI80s', 2, b'', bytes([127, 0, 0, 1]), b'', 0, 0, 3, 0, b'key'))
s.bind(('127.0.0.1', 7914)); s.listen()
ready(); go()
''', 'fd 3.*MD5')
REFUSED['cork'] = ('''
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(('127.0.0.1', 7304))
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); b.connect(('127.0.0.1', 7304))
b.send(b'half', socket.MSG_MORE)
ready(); go()
b.send(b'whole'); assert a.recv(100) == b'halfwhole'
''', 'fd 4.*half written')
with open('/proc/sys/net/ipv4/tcp_fastopen', 'w') as f:
    f.write('1543')
for name, text in CASES.items():
    pid = program(sb, text)
    for n in range(2):
        sb.dump(pid, f'img-{name}-{n}', '--tcp-established')
        sb.restore(f'img-{name}-{n}', '--tcp-established', expect_pid=pid)
        check(locks() == [], f'locks: {locks()}')
    finish(sb, pid, name)
for name, (text, pattern) in REFUSED.items():
    pid = program(sb, text)
    result = sb.ckpt('check', '-t', str(pid), '--tcp-established')
    check(result.rc == 1 and re.search(pattern, result.out), f'{name}: check -t says nothing of it', result.out)
    one_clear_line(sb.ckpt(*sb.dump_args(pid, 'img-refused', '--tcp-established')), pattern, 'as before')
    check(locks() == [], f'locks: {locks()}')
    finish(sb, pid, name)
pid = program(sb, REFUSED['TCP_DEFER_ACCEPT'][0].replace("b.send(b'now')", "b.close(); b = socket.create_connection(('127.0.0.1', 7910)); b.send(b'now')"))
check(sb.ckpt('check', '-t', str(pid), '--tcp-established', '--skip-in-flight').rc == 0, 'check -t --skip-in-flight')
sb.dump(pid, 'img-skip', '--tcp-established', '--skip-in-flight')
sb.restore('img-skip', '--tcp-established', expect_pid=pid)
finish(sb, pid, 'skipped')
