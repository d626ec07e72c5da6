#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=150
"""Kinds in combination, each program dumped and restored twice: System V IPC with TCP in queues, timers of all clocks, filters
of threads, all closing states in one tree, the same connection in many queues and tables (one that holds itself), a shared
table, peers that have died, windows smaller than a segment, rare options."""
from _net import locks
from _odd import finish, program
from _scenario import Sandbox, check

sb = Sandbox.from_env()
CASES = {}
CASES['ipc'] = '''
import ctypes
assert L.unshare(0x08000000) == 0
L.shmat.restype = ctypes.c_void_p
id = L.shmget(0, 8192, 0o1600); p = L.shmat(id, None, 0)
ctypes.memmove(p, b'shared', 6)
sem = L.semget(0, 3, 0o1600); L.semctl(sem, 1, 16, 7)
q = L.msgget(0, 0o1600); L.msgsnd(q, ctypes.create_string_buffer(struct.pack('l', 5) + b'message'), 7, 0)
a = socket.create_server(('127.0.0.1', 7921)); b = socket.create_connection(('127.0.0.1', 7921)); c, _ = a.accept(); b.send(b'tcp')
x, y = socket.socketpair(); socket.send_fds(x, [b'fd'], [c.fileno(), b.fileno()]); 
f = os.fork()
if f == 0:
    def blk(): 
        L.semop(sem, ctypes.create_string_buffer(struct.pack('Hhh', 2, -1, 0x1000)), 1)
        ctypes.memmove(p, b'SHARED', 6); os._exit(0)
    blk()
asleep(f, 65, 220)
b.close()
ready(); go()
L.semop(sem, ctypes.create_string_buffer(struct.pack('Hhh', 2, 1, 0)), 1)
assert os.waitpid(f, 0)[1] == 0
assert ctypes.string_at(p, 6) == b'SHARED' and L.semctl(sem, 1, 12) == 7 and L.semctl(sem, 2, 12) == 1, L.semctl(sem, 2, 12)
buf = ctypes.create_string_buffer(100); assert L.msgrcv(q, buf, 80, 0, 0) == 7 and buf.raw[8:15] == b'message'
_, fds, _, _ = socket.recv_fds(y, 10, 5)
assert c.recv(10) == b'tcp'
b = socket.socket(fileno=fds[1]); c.send(b'back'); assert b.recv(10) == b'back'
'''
CASES['timers'] = '''
import threading
def tfd(clock, flags, first, iv=0):
    t = L.timerfd_create(clock, 0o4000); assert L.timerfd_settime(t, flags, ctypes.create_string_buffer(struct.pack('qqqq', iv, 0, int(first), int(first * 1000000000) % 1000000000)), None) == 0; return t
now, real = time.monotonic(), time.time()
abs_m = tfd(1, 1, now + 4); abs_e = tfd(1, 1, now + 4); abs_r = tfd(0, 3, real + 4); abs_b = tfd(7, 1, time.clock_gettime(7) + 4); rel = tfd(1, 0, 4); far = tfd(1, 1, now + 86400); iv = tfd(1, 1, now - 3.5, 1)
old = tfd(0, 1, real - 5)
res = {}
def ep():
    e = select.epoll(); e.register(abs_e, 1); t = time.monotonic(); r = e.poll(20); res['ep'] = (r, time.monotonic() - t)
    e2 = select.epoll(); t = time.monotonic(); r = e2.poll(2); res['ep2'] = time.monotonic() - t
T = threading.Thread(target=ep); T.start()
asleep(T.native_id, 232)
ready(); go()
n = struct.unpack('Q', os.read(iv, 8))[0]; assert 4 <= n < 60, n
assert struct.unpack('Q', os.read(old, 8))[0] == 1
d = {t: struct.unpack('qqqq', (lambda b: (L.timerfd_gettime(t, b), b.raw[:32])[1])(ctypes.create_string_buffer(33))) for t in (abs_m, abs_r, abs_b, rel, far)}
assert all(d[t][2] < 4 for t in (abs_m, abs_r, abs_b, rel)) and 86000 < d[far][2] < 86400, d
for t in (abs_m, abs_r, abs_b, rel):
    assert select.select([t], [], [], 6)[0]; os.read(t, 8)
T.join(); assert res['ep'][0] and res['ep'][1] < 20 and 1.5 < res['ep2'] < 20, res
assert time.monotonic() - now < 40
'''
CASES['filtered'] = '''
# seccomp with TCP, unix, epoll in a thread each with another filter; shares nothing
import threading
def flt(nr, err):
    prog = struct.pack('HBBI', 0x20, 0, 0, 0) + struct.pack('HBBI', 0x15, 0, 1, nr) + struct.pack('HBBI', 6, 0, 0, 0x50000 | err) + struct.pack('HBBI', 6, 0, 0, 0x7fff0000)
    pb = ctypes.create_string_buffer(prog); fp = ctypes.create_string_buffer(struct.pack('H6xQ', 4, ctypes.addressof(pb)))
    L.prctl(38, 1, 0, 0, 0); r = L.syscall(317, 1, 0, fp); assert r == 0, ctypes.get_errno()
a = socket.create_server(('127.0.0.1', 7922)); b = socket.create_connection(('127.0.0.1', 7922)); c, _ = a.accept(); b.send(b'x' * 100000)
out = {}
st = threading.Barrier(3); ev = threading.Event()
def th(i):
    flt(41 if i == 1 else 53, 13 + i); st.wait(); ev.wait()
    out[i] = (L.syscall(41, 2, 1, 0), ctypes.get_errno(), L.syscall(53, 1, 1, 0, None), ctypes.get_errno())
T = [threading.Thread(target=th, args=(i,)) for i in (1, 2)]
for t in T: t.start()
st.wait()
flt(87, 99)
ready(); go()
ev.set()
for t in T: t.join()
assert out[1][0] == -1 and out[1][1] == 14 and out[2][2] == -1 and out[2][3] == 15, out
assert L.unlink(b'nothing') == -1 and ctypes.get_errno() == 99
got = 0
while got < 100000: got += len(c.recv(100000))
'''
CASES['closing'] = '''
# every closing state in one tree, shared with a child, with data in both directions
a = socket.create_server(('127.0.0.1', 7930)); v = {}
def pair(name):
    b = socket.create_connection(('127.0.0.1', 7930)); c, _ = a.accept(); v[name] = (b, c)
    b.send(b'to c'); c.send(b'to b'); return b, c
b, c = pair('fw2'); b.shutdown(socket.SHUT_WR)
b, c = pair('both'); b.shutdown(socket.SHUT_WR); c.shutdown(socket.SHUT_WR)
b, c = pair('rd'); b.shutdown(socket.SHUT_RD)
b, c = pair('rdwr'); b.shutdown(socket.SHUT_RDWR)
b, c = pair('closed'); b.recv(10); b.close()
b, c = pair('full'); c.setblocking(False); n = 0
try:
    while True: n += c.send(b'z' * 65536)
except BlockingIOError: pass
c.shutdown(socket.SHUT_WR)   # FIN behind unsent data
def states(): return {k: (b.fileno() >= 0 and state(b), state(c)) for k, (b, c) in v.items()}
st = {'fw2': (5, 8), 'both': (7, 7), 'rd': (1, 1), 'rdwr': (5, 8), 'closed': (False, 8), 'full': (1, 4)}
wait(lambda: states() == st, 'the states')
f = os.fork()
if f == 0:
    while True: time.sleep(1)
p = select.poll()
for b, c in v.values():
    for x in (b, c):
        if x.fileno() >= 0: p.register(x, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
was = sorted(p.poll(0))
ready(); go()
assert states() == st, (st, states())
assert sorted(p.poll(0)) == was, (was, sorted(p.poll(0)))
b, c = v['fw2']; assert c.recv(10) == b'to c' and c.recv(1) == b''; c.send(b'more'); assert b.recv(4) + b.recv(4) == b'to bmore'
b, c = v['both']; assert c.recv(10) == b'to c' and c.recv(1) == b'' and b.recv(10) == b'to b' and b.recv(1) == b''
b, c = v['closed']; assert c.recv(10) == b'to c' and c.recv(1) == b''
b, c = v['full']; got = 0
b.settimeout(20)
while True:
    d = b.recv(1 << 20)
    if not d: break
    got += len(d)
assert got == n + 4, (got, n)
os.kill(f, 9); os.wait()
'''
CASES['fdstorm'] = '''
# the same connection in many queues, in tables of several processes under other numbers, mapped v6, listener in a queue only
import array
a = socket.create_server(('::', 7931), family=socket.AF_INET6, dualstack_ipv6=True)
b = socket.create_connection(('127.0.0.1', 7931)); c, _ = a.accept()
qs = [socket.socketpair(socket.AF_UNIX, t) for t in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)]
for x, y in qs: socket.send_fds(x, [b'm'], [c.fileno(), a.fileno(), y.fileno(), b.fileno()])
m = L.memfd_create(b'x', 2); os.ftruncate(m, 8192); mm = mmap.mmap(m, 8192); mm[:3] = b'abc'
L.fcntl(m, 1033, 2 | 4)
socket.send_fds(qs[1][0], [b'second'], [m]); os.close(m)
d = os.open('del', os.O_RDWR | os.O_CREAT); os.write(d, b'deleted'); os.unlink('del'); socket.send_fds(qs[2][0], [b'third'], [d]); os.close(d)
a.close(); cf = c.detach(); 
f = os.fork()
if f == 0:
    os.dup2(cf, 200); os.close(cf)
    s = socket.socket(fileno=200)
    while True:
        x = s.recv(100)
        s.send(b'child ' + x)
os.close(cf)
asleep(f, 45)
ready(); go()
b.send(b'one'); assert b.recv(100) == b'child one'
for x, y in qs:
    _, fds, _, _ = socket.recv_fds(y, 10, 5); assert len(fds) == 4
    l = socket.socket(fileno=fds[1]); k = socket.create_connection(('::1', 7931)); l.settimeout(5); l.accept()
    assert L.syscall(312, os.getpid(), os.getpid(), 0, fds[2], y.fileno()) == 0
    assert L.syscall(312, os.getpid(), os.getpid(), 0, fds[3], b.fileno()) == 0
    os.dup2(fds[0], 300)
_, fds, _, _ = socket.recv_fds(qs[1][1], 10, 5); assert os.pread(fds[0], 3, 0) == b'abc'; mm[:3] = b'xyz'; assert os.pread(fds[0], 3, 0) == b'xyz'
assert L.fcntl(fds[0], 1034) == 6
_, fds, _, _ = socket.recv_fds(qs[2][1], 10, 5); assert os.pread(fds[0], 10, 0) == b'deleted' and os.lseek(fds[0], 0, 1) == 7
os.kill(f, 9); os.wait()
b.send(b'two'); assert socket.socket(fileno=300).recv(10) == b'two'
'''
CASES['clonefiles'] = '''
# two processes share a table (CLONE_FILES) with TCP, epoll, unix, deleted file
a = socket.create_server(('127.0.0.1', 7932)); b = socket.create_connection(('127.0.0.1', 7932)); c, _ = a.accept()
ep = select.epoll(); ep.register(c, 1); x, y = socket.socketpair(); ep.register(y, 1 | select.EPOLLONESHOT)
d = os.open('del', os.O_RDWR | os.O_CREAT); os.write(d, b'gone'); os.unlink('del')
f = L.syscall(56, 0x400 | 17, 0, 0, 0, 0)
if f == 0:
    while True:
        r = ep.poll(60)
        for fd, e in r:
            if fd == c.fileno():
                n = c.recv(100)
                if n == b'open': os.dup2(d, 50); c.send(b'opened')
                else: c.send(n)
asleep(f, 232)
ready(); go()
b.send(b'ping'); assert b.recv(9) == b'ping'
b.send(b'open'); assert b.recv(9) == b'opened'
assert os.pread(50, 4, 0) == b'gone'
os.kill(f, 9); os.waitpid(f, 0)
x.send(b'1'); assert ep.poll(0) == [(y.fileno(), 1)]
'''
CASES['midtree'] = '''
# a dead peer in the tree: child holds the other ends and has died as a zombie; parent keeps
a = socket.create_server(('127.0.0.1', 7933)); b = socket.create_connection(('127.0.0.1', 7933)); c, _ = a.accept()
u, w = socket.socketpair(); g, h = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
z = os.fork()
if z == 0:
    u.close(); g.close(); b.close(); w.send(b'bye'); h.send(b'dead'); c.send(b'tcp bye'); os._exit(3)
w.close(); h.close(); c.close()
os.waitid(os.P_PID, z, os.WEXITED | os.WNOWAIT)
pf = os.pidfd_open(z)
ready(); go()
assert u.recv(10) == b'bye' and u.recv(1) == b'' and g.recv(10) == b'dead' and b.recv(10) == b'tcp bye' and b.recv(1) == b''
assert select.select([pf], [], [], 0)[0]
assert os.WEXITSTATUS(os.waitpid(z, 0)[1]) == 3
try: b.send(b'x'); polled(b, select.POLLHUP); b.send(b'x'); raise SystemExit('sent')
except OSError: pass
'''
CASES['small windows'] = '''
# smaller than a segment, and full: the sender must not wait for more than there can be
def pair(family, address):
    a = socket.socket(family); a.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096); a.bind((address, 0)); a.listen()
    b = socket.socket(family); b.connect(a.getsockname()); c, _ = a.accept(); b.setblocking(False); c.settimeout(20); n = 0
    try:
        while True: n += b.send(bytes(100))
    except BlockingIOError: pass
    return b, c, n
v = [pair(socket.AF_INET, '127.0.0.1'), pair(socket.AF_INET6, '::1')]
for b, c, n in v: wait(lambda: info(b)[4] >= 2, 'a probe or two')  # tcpi_backoff
ready(); go()
for b, c, n in v:
    start = time.monotonic()
    while n > 0: n -= len(c.recv(65536))
    took = time.monotonic() - start; assert took < 20 * PATIENCE, took
'''
CASES['options'] = '''
# that few have set: IP_MULTICAST_IF, TCP_MAXSEG of who is not connected, options of raw sockets and of RFC 2292
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); l = socket.create_server(('127.0.0.1', 7941)); t = socket.socket()
u6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); r = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
r6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
v = [(u, 0, 32, socket.inet_aton('127.0.0.1')), (u6, 0, 32, socket.inet_aton('127.0.0.1')), (l, 6, 2, 537), (t, 6, 2, 1000), (r, 0, 5, 1)]
v += [(s, 41, n, 1) for s in (u6, r6) for n in (3, 4, 5, 30)] + [(r6, 41, 75, 1), (r6, 41, 78, 1)]
def get(): return [s.getsockopt(level, name, 4) for s, level, name, _ in v]
was = get()
for s, level, name, value in v: s.setsockopt(level, name, value)
now = get(); assert all(x != y for x, y in zip(was, now)), (was, now)
ready(); go()
assert get() == now, (get(), now)
'''

for name, text in CASES.items():
    pid = program(sb, text)
    for n in range(2):
        sb.dump(pid, f'img-{name}-{n}', '--tcp-established')
        sb.restore(f'img-{name}-{n}', '--tcp-established', expect_pid=pid)
        check(locks() == [], f'locks: {locks()}')
    finish(sb, pid, name)
