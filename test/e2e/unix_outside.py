#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=150
"""Unix sockets that have to do with others than the tree: refused by name, before the freeze and in it, with the program
going on; connected again by their name with --ext-unix-sk or --external unix[INODE]. And paths that are taken when a
socket is to be bound again."""
import os
import re
import signal
import socket

from _scenario import Sandbox, check, one_clear_line, read, remove, write

sb = Sandbox.from_env()
count = 0


def start(kind, address, **more):
    global count
    count += 1
    if os.path.exists(sb.path('work/ready')):
        os.unlink(sb.path('work/ready'))
    pid = sb.start([sb.program('unix_end'), kind, address], out=f'work/out{count}', **more)
    sb.wait_ready(pid)
    return pid, f'img{count}'


def finish(pid):
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, 'the program failed', read(sb.path(f'work/out{count}')).decode())


def refused(pid, images, *patterns, options=()):
    rc, text = sb.check_tree(pid) if not options else (1, None)
    check(rc == 1, f'check -t: exit status {rc}', text)
    for pattern in patterns if text is not None else ():
        check(re.search(pattern, text), f'check -t does not match /{pattern}/', text)
    one_clear_line(sb.ckpt(*sb.dump_args(pid, images, *options)), *patterns)


def answer(sock):
    check(sock.recv(16) == b'ping', 'no ping')
    sock.send(b'pong')


def inode(pid):
    links = (os.readlink(f'/proc/{pid}/fd/{fd}') for fd in os.listdir(f'/proc/{pid}/fd'))
    return next(link[8:-1] for link in links if link.startswith('socket:['))


def listener(path, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_UNIX, kind)
    s.settimeout(20)
    s.bind(path)
    if kind == socket.SOCK_STREAM:
        s.listen(5)
    return s


# A pair, one end here.
ours, theirs = socket.socketpair()
pid, images = start('inherited', str(theirs.fileno()), pass_fds=[theirs.fileno()])
refused(pid, images, r'fd \d+ is a unix stream socket .*other end, a unix stream socket of pid \d+', 'outside of the tree')
refused(pid, images, 'also|as well', f'pid {os.getpid()}', options=['--ext-unix-sk'])
theirs.close()
refused(pid, images, 'has no name', options=['--ext-unix-sk'])
sb.signal(pid, signal.SIGTERM)
answer(ours)
finish(pid)

# A client of a server here: refused, then connected by its name.
path = sb.path('outside.sock')
for name, address in (('path', path), ('abstract', f'@{path}')):
    server = listener(address if name == 'path' else '\0' + path)
    pid, images = start('client', address)
    old = server.accept()[0]
    refused(pid, images, re.escape(address), f'of pid {os.getpid()}', r'--external unix\[')
    old.send(b'unread')
    refused(pid, images, '6 unread bytes', options=['--ext-unix-sk'])
    refused(pid, images, re.escape(address), options=['--external', 'unix[1]'])
    old.close()
    server.close()
    os.kill(pid, signal.SIGKILL)
    sb.wait_exit(pid)
    if name == 'path':
        os.unlink(path)
    server = listener(address if name == 'path' else '\0' + path)
    pid, images = start('client', address)
    old = server.accept()[0]
    option = ['--ext-unix-sk'] if name == 'path' else ['--external', f'unix[{inode(pid)}]']
    sb.dump(pid, images, *option)
    check(old.recv(1) == b'', 'the old connection goes on')
    one_clear_line(sb.ckpt(*sb.restore_args(images)), re.escape(address), '--ext-unix-sk')
    check(sb.restore(images, *option, expect_pid=pid) == pid, 'another pid')
    new = server.accept()[0]
    sb.signal(pid, signal.SIGTERM)
    answer(new)
    finish(pid)
    server.close()
os.unlink(path)

# Datagrams to one here: who gets them does not notice.
server = listener(path, socket.SOCK_DGRAM)
pid, images = start('datagram-client', path)
refused(pid, images, re.escape(path), 'outside of the tree')
sb.dump(pid, images, '--ext-unix-sk')
sb.restore(images, '--ext-unix-sk', expect_pid=pid)
sb.dump(pid, images + 'b', '--ext-unix-sk')
server.close()
one_clear_line(sb.ckpt(*sb.restore_args(images + 'b', '--ext-unix-sk')), re.escape(path), 'nobody', 'nothing was created')
os.unlink(path)
server = listener(path, socket.SOCK_DGRAM)
sb.restore(images + 'b', '--ext-unix-sk', expect_pid=pid)
sb.signal(pid, signal.SIGTERM)
check(server.recv(16) == b'ping', 'no ping')
finish(pid)
server.close()
os.unlink(path)

# Datagrams from one here.
pid, images = start('datagram-server', path)
client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
client.connect(path)
refused(pid, images, 'outside of the tree', 'connected to')
sb.dump(pid, images, '--ext-unix-sk')
sb.restore(images, '--ext-unix-sk', expect_pid=pid)
client.connect(path)
client.send(b'ping')
finish(pid)
os.unlink(path)

# A client from here that waits to be accepted.
pid, images = start('server', path)
client = socket.socket(socket.AF_UNIX)
client.settimeout(20)
client.connect(path)
refused(pid, images, re.escape(path), 'waits to be accepted')
client.send(b'ping')
sb.signal(pid, signal.SIGTERM)
check(client.recv(16) == b'pong', 'no pong')
finish(pid)
os.unlink(path)

# The mark of urgent data from here, which has been read.
server = listener(path)
pid = sb.start([sb.program('unix_end'), 'marked', path], out=f'work/out{count}')
old = server.accept()[0]
old.send(b'u', socket.MSG_OOB)
sb.wait_ready(pid)
refused(pid, f'img{count}', 'at the mark of urgent data', options=['--ext-unix-sk'])
sb.signal(pid, signal.SIGTERM)
answer(old)
finish(pid)
server.close()
os.unlink(path)

# What nobody can read without BPF.
os.environ['CKPT_FAULT'] = 'kernel-bpf:*=fail'
for kind, pattern in (('unaccepted', 'sent something'), ('closed', 'closed its end'), ('urgent', 'urgent'),
                      ('unaccepted-rights', 'sent something'), ('unaccepted-urgent', 'sent something')):
    pid, images = start(kind, path)
    refused(pid, images, pattern)
    finish(pid)
    os.unlink(path)
del os.environ['CKPT_FAULT']

# Taken paths.
pid, images = start('server', path)
sb.dump(pid, images)
check(os.path.exists(path), 'the path has gone with the tree')


def not_restored(*patterns):
    before = os.lstat(path) if os.path.lexists(path) else None
    one_clear_line(sb.ckpt(*sb.restore_args(images)), *patterns)
    after = os.lstat(path) if os.path.lexists(path) else None
    check((before and (before.st_ino, before.st_mode)) == (after and (after.st_ino, after.st_mode)), 'the path was changed')


os.rename(path, path + '.left')
write(path, 'a file')
not_restored(re.escape(path), 'taken')
os.unlink(path)
os.symlink('/nowhere', path)
not_restored(re.escape(path), 'taken')
os.unlink(path)
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    live = listener(path, kind)
    not_restored(re.escape(path), 'taken')
    if kind == socket.SOCK_STREAM:
        live.settimeout(0)
        try:
            live.accept()
            check(False, 'ckpt has connected to somebody')
        except BlockingIOError:
            pass
    live.close()
    os.unlink(path)
dead = listener(path)
dead.close()
os.chown(path, 4321, 4321)
not_restored(re.escape(path), 'taken')
os.unlink(path)
# Its own, dead.
os.rename(path + '.left', path)
sb.restore(images, expect_pid=pid)
sb.dump(pid, images + 'b')
os.unlink(path)
images += 'b'
sb.restore(images, expect_pid=pid)
client = socket.socket(socket.AF_UNIX)
client.settimeout(20)
client.connect(path)
client.send(b'ping')
sb.signal(pid, signal.SIGTERM)
check(client.recv(16) == b'pong', 'no pong')
finish(pid)
remove(path)

# A restore that fails takes its path with it.
os.mkdir(sb.path('work/gone'))
pid, images = start('server', sb.path('work/gone/x.sock'))
sb.dump(pid, images)
os.rename(sb.path('work/gone'), sb.path('work/elsewhere'))
one_clear_line(sb.ckpt(*sb.restore_args(images)), 'directory')
os.rename(sb.path('work/elsewhere'), sb.path('work/gone'))
os.unlink(sb.path('work/gone/x.sock'))
result = sb.ckpt(*sb.restore_args(images), env={'CKPT_FAULT': 'restore-attributes=fail'})
check(result.rc == 1, f'the restore did not fail: {result.rc}', result.err)
check(not os.listdir(sb.path('work/gone')), 'the failed restore has left its path')
