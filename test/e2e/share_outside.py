#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""An eventfd that this process has too. A part of a tree that shares a descriptor table or a working directory with its parent, which is not to be dumped, is
refused by name and goes on."""
import os
import re
import signal

from _scenario import Program, Sandbox, check, one_clear_line, procview, write

sb = Sandbox.from_env()
program = Program(sb, 'share_table')
check(program.wait_ready(), 'share_table')
seen = []
for pid in procview.tree(program.pid)[1:]:
    rc, text = sb.check_tree(pid)
    shared = re.findall(r'shares its (.*?) with pid \d+, outside of the tree', text)
    check(not shared or rc == 1, 'not refused', text)
    seen += shared
    if shared:
        result = sb.ckpt(*sb.dump_args(pid, f'img-{pid}', '-j'))
        one_clear_line(result, 'outside of the tree')
check('descriptor table' in seen and 'working directory' in seen, f'not refused by name: {seen}')
program.kill()

TARGET = '''
import os, signal, sys
fd = int(sys.argv[1])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
open('ready', 'w').close()
signal.sigwait([signal.SIGTERM])
assert os.eventfd_read(fd) == 7
'''
write(sb.path('work/target.py'), TARGET.encode())
fd, other = os.eventfd(0), os.eventfd(1)
if os.path.exists(sb.path('work/ready')):
    os.unlink(sb.path('work/ready'))
pid = sb.start(['/usr/bin/python3', 'target.py', str(fd)], pass_fds=[fd])
sb.wait_ready(pid)
pattern = rf'is an eventfd that pid {os.getpid()}, outside of the tree, has open as well'
rc, text = sb.check_tree(pid)
check(rc == 1 and re.search(pattern, text), 'ckpt check -t does not say it', text)
one_clear_line(sb.ckpt(*sb.dump_args(pid, 'img-eventfd')), pattern)
os.eventfd_write(fd, 7)
os.close(fd)
sb.dump(pid, 'img-eventfd')
sb.restore('img-eventfd', expect_pid=pid)
sb.signal(pid, signal.SIGTERM)
check(sb.wait_exit(pid) == 0, 'the counter is lost')
