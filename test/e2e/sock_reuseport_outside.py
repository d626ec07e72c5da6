#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=60
"""A group of SO_REUSEPORT with a classic program, one socket of which belongs to a process outside of the tree: refused by
name, by `check -t` and by `dump`; carried over when that socket is closed."""
import signal
import socket

from _net import ip
from _scenario import Sandbox, check, one_clear_line, read, write

TARGET = '''
import os, signal, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind(('127.0.0.1', int(sys.argv[1])))
import ctypes, struct
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0))
s.setsockopt(socket.SOL_SOCKET, 51, struct.pack('HxxxxxxQ', 1, ctypes.addressof(code)))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
open('ready', 'w').close()
signal.sigwait([signal.SIGTERM])
s.settimeout(20)
assert s.recv(10) == b'hello'
'''
WHY = r'SO_REUSEPORT group with a program.*whose other sockets are not all in the tree'

sb = Sandbox.from_env()
ip('link', 'set', 'lo', 'up')
write(sb.path('work/target.py'), TARGET.encode())
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
own.bind(('127.0.0.1', 0))
address = own.getsockname()
pid = sb.start(['/usr/bin/python3', 'target.py', str(address[1])])
sb.wait_ready(pid)
rc, text = sb.check_tree(pid)
check(rc == 1, f'ckpt check -t: exit status {rc}, not 1', text)
check('whose other sockets are not all in the tree' in text, 'ckpt check -t does not say it', text)
one_clear_line(sb.ckpt(*sb.dump_args(pid, 'refused')), WHY)
own.close()
sb.dump(pid, 'img')
sb.restore('img', expect_pid=pid)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sb.signal(pid, signal.SIGTERM)
sender.sendto(b'hello', address)
check(sb.wait_exit(pid) == 0, 'it got nothing', read(sb.path('work/out')).decode())
