# SPDX-License-Identifier: GPL-2.0-only
"""Small programs in Python for scripts that have many. They call ready() when their state is there, and go() waits for the
time to check it."""
import os

from _scenario import SLOWNESS, check, read

HEAD = '''
import ctypes, fcntl, mmap, os, select, signal, socket, struct, sys, time
L = ctypes.CDLL(None, use_errno=True)
PATIENCE = float(os.environ.get('CKPT_TEST_PATIENCE', 1))
def ready():
    open('ready', 'w').close()
def go():
    while not os.path.exists('go'):
        time.sleep(0.01)
def wait(condition, what):
    end = time.monotonic() + 25
    while not condition():
        if time.monotonic() > end: raise SystemExit(f'waited in vain for {what}')
        time.sleep(0.01)
def asleep(tid, *calls):  # in one of these system calls
    wait(lambda: open(f'/proc/{tid}/syscall').read().split()[0] in map(str, calls), f"{tid} to call {calls}")
def info(s):
    return s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
def state(s):
    return info(s)[0]
def polled(s, events):  # until all of them are there; POLLERR and POLLHUP are always looked at
    p = select.poll(); p.register(s, events & ~(select.POLLERR | select.POLLHUP))
    wait(lambda: p.poll(0) and p.poll(0)[0][1] & events == events, f'events {events}')
'''


def program(sb, text):
    for name in ('ready', 'go'):
        if os.path.exists(sb.path('work', name)):
            os.unlink(sb.path('work', name))
    with open(sb.path('work/prog.py'), 'w') as f:
        f.write(HEAD + text)
    pid = sb.start(['/usr/bin/python3', 'prog.py'], {'CKPT_TEST_PATIENCE': str(SLOWNESS)})
    sb.wait_for(lambda: pid in sb.children.ended or os.path.exists(sb.path('work/ready')), 'the program')
    check(pid not in sb.children.ended, 'ended', read(sb.path('work/out')).decode())
    return pid


def finish(sb, pid, what):
    with open(sb.path('work/go'), 'w'):
        pass
    check(sb.wait_exit(pid) == 0, f'{what}: the program failed', read(sb.path('work/out')).decode())
