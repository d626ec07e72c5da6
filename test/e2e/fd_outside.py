#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""What this process has open as well: a timerfd, or a deleted file that one of both can write to, is refused by name until it is
closed here; a deleted file that nobody can write to is not. Of a position in common there is a warning."""
import ctypes
import mmap
import os
import re
import signal

from _scenario import Sandbox, check, one_clear_line, read, write

sb = Sandbox.from_env()
TARGET = '''
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
open('ready', 'w').close()
signal.sigwait([signal.SIGTERM])
fd = int(sys.argv[1])
assert sys.argv[2] == 'timer' or os.pread(fd, 5, 0) == b'hello'
'''


def make_timer():
    libc = ctypes.CDLL(None, use_errno=True)
    return [libc.timerfd_create(1, 0) for _ in range(2)]


def make_deleted(flags):
    path = sb.path('work/deleted')
    write(path, b'hello')
    fds = [os.open(path, flags[0]), os.open(path, flags[1])]
    os.unlink(path)
    return fds


def make_mapped():
    """What this process has is only mapped."""
    fds = make_deleted((os.O_RDWR, os.O_RDONLY))
    maps.append(mmap.mmap(fds[0], 0))
    os.close(fds[0])
    fds[0] = -1
    return fds


maps = []
CASES = (
    ('timer', make_timer, 'is a timerfd that pid {}, outside of the tree, has open as well'),
    ('written', lambda: make_deleted((os.O_RDONLY, os.O_RDWR)), 'is the deleted file .*/deleted, which pid {} outside of'),
    ('writer', lambda: make_deleted((os.O_RDWR, os.O_RDONLY)), 'is the deleted file .*/deleted, which pid {} outside of'),
    ('mapped', make_mapped, 'is the deleted file .*/deleted, which pid {} outside of'),
    ('constant', lambda: make_deleted((os.O_RDONLY, os.O_RDONLY)), None),
)
write(sb.path('work/target.py'), TARGET.encode())
for what, make, pattern in CASES:
    own, its = make()
    # Timers are told apart by their descriptions.
    given = own if what == 'timer' else its
    if os.path.exists(sb.path('work/ready')):
        os.unlink(sb.path('work/ready'))
    pid = sb.start(['/usr/bin/python3', 'target.py', str(given), what], pass_fds=[given])
    sb.wait_ready(pid)
    if given == its:
        os.close(its)
    if pattern:
        pattern = pattern.format(os.getpid())
        rc, text = sb.check_tree(pid)
        check(rc == 1 and re.search(pattern, text), f'ckpt check -t does not say it of {what}', text)
        one_clear_line(sb.ckpt(*sb.dump_args(pid, 'img-' + what)), pattern)
        if own >= 0:
            os.close(own)
        while maps:
            maps.pop().close()
    sb.dump(pid, 'img-' + what)
    sb.restore('img-' + what, expect_pid=pid)
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, f'{what}: it is not as it was')
    if not pattern:
        os.close(own)

# Positions that an ancestor has in common: a warning, once, unless all is appended.
for name, flags, warned in (('plain', os.O_RDWR, True), ('appended', os.O_WRONLY | os.O_APPEND, False)):
    fd = os.open(sb.path('work/' + name), flags | os.O_CREAT)
    os.unlink(sb.path('work/ready'))
    pid = sb.start(['/usr/bin/python3', 'target.py', str(fd), 'timer'], pass_fds=[fd])
    sb.wait_ready(pid)
    result = sb.ckpt(*sb.dump_args(pid, 'img-' + name))
    check(result.rc == 0, 'the dump failed', result)
    text = read(sb.path(f'img-{name}/dump.log')).decode()
    lines = [line for line in text.splitlines() if f'/work/{name} is also that of pid {os.getpid()}' in line]
    check(len(lines) == warned, f'{name}: warned {len(lines)} times', text)
    os.close(fd)
