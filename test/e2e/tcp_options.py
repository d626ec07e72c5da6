#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=120
"""What is refused by name, and the options that decide about connections: --tcp-established, --tcp-close,
--skip-in-flight, --network-lock. Two runs side by side keep to their own locks. crit reads the images."""
import json
import os
import socket
import subprocess


from _net import Counts, OtherMachine, locks, terminate
from _scenario import Sandbox, check, one_clear_line, read

sb = Sandbox.from_env()
there = OtherMachine(sb)
HEAD = '''
import os, socket, time
def ready():
    open('ready', 'w').close()
def go():
    while not os.path.exists('go'):
        time.sleep(0.01)
'''


def program(text):
    for name in ('ready', 'go'):
        if os.path.exists(sb.path('work', name)):
            os.unlink(sb.path('work', name))
    with open(sb.path('work/prog.py'), 'w') as f:
        f.write(HEAD + text)
    pid = sb.start(['/usr/bin/python3', 'prog.py'])
    sb.wait_for(lambda: pid in sb.children.ended or os.path.exists(sb.path('work/ready')), 'the program')
    return pid


def refused(pid, images, *more, patterns, command='dump'):
    result = sb.ckpt(*sb.dump_args(pid, images, *more)) if command == 'dump' else sb.ckpt(*sb.restore_args(images, *more))
    one_clear_line(result, *patterns)
    check(locks() == [], f'locks: {locks()}')


def finish(pid):
    with open(sb.path('work/go'), 'w'):
        pass
    check(sb.wait_exit(pid) == 0, 'the program failed', read(sb.path('work/out')).decode())


# A connection without an option: both dump and restore name it.
pid = program('''
a = socket.create_server(('127.0.0.1', 7300))
b = socket.create_connection(('127.0.0.1', 7300))
c, _ = a.accept()
b.send(b'question')
ready(); go()
c.send(b'answer')
assert c.recv(100) == b'question' and b.recv(100) == b'answer'
''')
refused(pid, 'img', patterns=[r'127\.0\.0\.1:7300.*ESTABLISHED', '--tcp-established', '--tcp-close'])
rc, text = sb.check_tree(pid)
check(rc == 1 and '127.0.0.1:7300' in text, 'check -t says nothing of it', text)
result = sb.ckpt('check', '-t', str(pid), '--tcp-established')
check(result.rc == 0, 'check -t --tcp-established', result.out + result.err)
sb.dump(pid, 'img', '--tcp-established')
streams = sorted(n for n in os.listdir(sb.path('img')) if n.startswith('tcp-stream'))
check(len(streams) == 2, f'images: {streams}')
decoded = [json.loads(subprocess.run(['crit', 'decode', '-i', sb.path('img', n)], check=True, capture_output=True).stdout)
           for n in streams]
entries = [d['entries'][0] for d in decoded]
check(sorted(e['inq_len'] for e in entries) == [0, 8], f'crit: {entries}')
check(all(e['mss_clamp'] > 1000 and e['opt_mask'] & 5 == 5 for e in entries), f'crit: {entries}')
files = json.loads(subprocess.run(['crit', 'decode', '-i', sb.path('img/files.img')], check=True, capture_output=True).stdout)
isks = [e['isk'] for e in files['entries'] if 'isk' in e]
check(sorted((i['state'], i['backlog'] > 0) for i in isks) == [('ESTABLISHED', False)] * 2 + [('LISTEN', True)] or
      sorted((str(i['state']), i['backlog'] > 0) for i in isks) == [('1', False), ('1', False), ('10', True)] or
      sorted(str(i['state']) for i in isks) == ['ESTABLISHED', 'ESTABLISHED', 'LISTEN'], f'crit: {isks}')
refused(pid, 'img', patterns=[r'127\.0\.0\.1', '--tcp-established'], command='restore')
busy = socket.create_server(('127.0.0.1', 7300))
refused(pid, 'img', '--tcp-established', patterns=[r'listening TCP socket 127\.0\.0\.1:7300', 'in use'], command='restore')
busy.close()
sb.restore('img', '--tcp-established', expect_pid=pid)
finish(pid)

# --tcp-close: the program finds its connection closed.
pid = program('''
a = socket.create_server(('127.0.0.1', 7301))
b = socket.create_connection(('127.0.0.1', 7301))
c, _ = a.accept()
ready(); go()
for s in (b, c):
    try:
        s.send(b'x')
        raise SystemExit('still connected')
    except OSError:
        pass
d = socket.create_connection(('127.0.0.1', 7301))
e, _ = a.accept()
d.send(b'new'); assert e.recv(10) == b'new'
''')
sb.dump(pid, 'img2', '--tcp-close')
refused(pid, 'img2', '--tcp-established', patterns=['--tcp-close'], command='restore')
sb.restore('img2', '--tcp-close', expect_pid=pid)
finish(pid)

# Not accepted yet.
pid = program('''
a = socket.create_server(('127.0.0.1', 7302))
ready(); go()
a.settimeout(0.2)
try:
    a.accept(); raise SystemExit('somebody waits')
except TimeoutError:
    pass
''')
waiting = socket.create_connection(('127.0.0.1', 7302))
refused(pid, 'img3', '--tcp-established', patterns=['7302', 'accepted', '--skip-in-flight'])
sb.dump(pid, 'img3', '--tcp-established', '--skip-in-flight')
waiting.settimeout(5)
try:
    check(waiting.recv(1) == b'', 'the connection that waited lives on')
except ConnectionResetError:
    pass
sb.restore('img3', expect_pid=pid)
finish(pid)

# What cannot be carried over.
pid = program('''
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(('127.0.0.1', 7304))
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); b.connect(('127.0.0.1', 7304))
b.send(b'half', socket.MSG_MORE)
ready(); go()
b.send(b'whole')
assert a.recv(100) == b'halfwhole'
''')
refused(pid, 'img5', patterns=['half written', 'fd 4'])
finish(pid)

# Two at a time, each with a client on the other machine; one of them without a lock.
pairs = []
for n, more in ((0, []), (1, ['--network-lock', 'iptables']), (2, ['--network-lock', 'skip'])):
    port, counts = str(7310 + n), sb.path(f'client{n}')
    server = sb.start([sb.program('tcp_end'), f'server{n}', '2', '10.9.0.1', port], out=f'work/out{n}')
    sb.wait_for(lambda: os.path.exists(sb.path(f'work/server{n}')) and os.path.getsize(sb.path(f'work/server{n}')), 'server')
    client = there.start([sb.program('tcp_end'), counts, '2', '10.9.0.1', port, 'connect'], out=f'client-out{n}')
    sb.wait_for(lambda: os.path.exists(counts) and Counts(counts).least() > 100000, 'the streams to flow')
    pairs.append((server, client, Counts(counts), more))
for n, (server, _, _, more) in enumerate(pairs[:2]):
    handle = sb.ckpt(*sb.dump_args(server, f'two{n}', '--tcp-established', *more))
    check(handle.rc == 0, 'dump', handle.err)
    sb.children.ended.pop(server, None)
check(len(set(locks())) == 2, f'locks: {locks()}')
first = set(locks())
sb.restore('two0', '--tcp-established', expect_pid=pairs[0][0])
check(len(locks()) == 1 and set(locks()) < first, f'locks: {locks()}')
server = pairs[2][0]
result = sb.ckpt(*sb.dump_args(server, 'two2', '--tcp-established', '-R', *pairs[2][3]))
check(result.rc == 0 and len(locks()) == 1, f'locks: {locks()}', result.err)
sb.restore('two1', '--tcp-established', *pairs[1][3], expect_pid=pairs[1][0])
check(locks() == [], f'locks: {locks()}')
marks = [c.least() for _, _, c, _ in pairs]
sb.wait_for(lambda: all(c.least() > m + 100000 for (_, _, c, _), m in zip(pairs, marks)), 'all streams to flow')
check(there.resets() == 0, f'resets: {there.resets()}')
for server, client, _, _ in pairs:
    terminate(sb, client, server)
    check(sb.wait_exit(server) == 0 and sb.wait_exit(client) == 0, 'a server or client failed')
