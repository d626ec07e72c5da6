#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120
"""Targets and callers in odd states: each gives one clear line and exit status 1, and changes nothing."""
import fcntl
import os
import re
import signal
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, '..', 'lib'))
from _scenario import Sandbox, check, kill_tree, one_clear_line, read, snapshot, write

sb = Sandbox.from_env()
V2 = [p for p in ('/sys/fs/cgroup', '/sys/fs/cgroup/unified') if os.path.exists(p + '/cgroup.procs')]


def start(name, **kwargs):
    for f in os.listdir(sb.path('work')):
        os.unlink(sb.path('work', f))
    pid = sb.start([sb.program(name)], **kwargs)
    sb.wait_ready(pid)
    return pid


def refuse(pid, *patterns, options=(), directory='img'):
    os.makedirs(sb.path(directory), exist_ok=True)
    result = sb.ckpt('dump', '-t', str(pid), '-D', sb.path(directory), *options)
    one_clear_line(result, *patterns)
    check(not [f for f in os.listdir(sb.path(directory)) if f.endswith('.img') or f.startswith('.')], 'something is left')


def case_trap_flag():
    """The single steps would go on in the agent, and end the program. In its handler, they pause: then it can be dumped."""
    pid = start('stepper')
    for _ in range(300):  # how often it is met outside of its handler depends on the machine
        result = sb.ckpt(*sb.dump_args(pid, 'img-steps', '-R'))
        if result.rc:
            break
    check(result.rc, 'never refused')
    one_clear_line(result, str(pid), 'trap flag', 'unchanged')
    os.kill(pid, signal.SIGUSR1)
    check(sb.wait_exit(pid) == 0, 'the program found itself changed')


class Frozen:
    """A group of cgroup v2 with one frozen process in it."""

    def __init__(self, pid):
        self.dir = tempfile.mkdtemp(prefix='ckpt-odd-', dir=V2[0])
        write(self.dir + '/cgroup.procs', str(pid))
        self.freeze('1')

    def freeze(self, value):
        write(self.dir + '/cgroup.freeze', value)
        sb.wait_for(lambda: f'frozen {value}' in read(self.dir + '/cgroup.events').decode(), 'the cgroup to freeze or thaw')

    def done(self):
        self.freeze('0')


def case_frozen():
    """What is in a frozen cgroup can be stopped, but carries out nothing: said at once for the tree's root, and after a
    while for another process."""
    if not V2:
        print('  no cgroup v2 here')
        return
    groups = []
    try:
        pid = sb.start(['/bin/sleep', '1000'])
        sb.wait_for(lambda: b'sleep' in read(f'/proc/{pid}/comm'), 'sleep')
        groups.append(Frozen(pid))
        refuse(pid, str(pid), 'frozen', 'thaw')
        rc, text = sb.check_tree(pid)
        check(rc == 1 and 'frozen' in text, 'check -t', rc, text)
        groups[-1].freeze('0')
        sb.dump(pid, 'img-thawed')
        pid = sb.start(['/bin/sh', '-c', 'sleep 1000 & wait'])
        sb.wait_for(lambda: b'sleep' in b''.join(read(f'/proc/{p}/comm') for p in sb.others()), 'sleep')
        child = next(p for p in sb.others() if p != pid)
        groups.append(Frozen(child))
        refuse(pid, str(child), 'frozen')
        groups[-1].freeze('0')
        sb.dump(pid, 'img-thawed2')
        sb.restore('img-thawed2', expect_pid=pid)
        kill_tree(sb, pid)
    finally:
        for group in groups:
            group.done()
            sb.wait_for(lambda: not read(group.dir + '/cgroup.procs'), 'the cgroup to be empty')
            os.rmdir(group.dir)


def case_not_killable():
    """Without CAP_KILL another user's process could be dumped, but not ended: nothing may be left half done."""
    pid = sb.start(['/usr/bin/setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '/bin/sleep', '1000'])
    sb.wait_for(lambda: b'sleep' in read(f'/proc/{pid}/comm'), 'sleep')
    before = sb.view(pid)
    out, images = sb.path('capless.out'), sb.path('img-capless')
    os.mkdir(images)
    for more, want in ([], 1), (['-R'], 0):
        handle = sb.start(['/usr/bin/setpriv', '--bounding-set=-kill', '--inh-caps=-kill', sb.ckpt_path, 'dump', '-t', str(pid),
                           '-D', images, *more], out=out, cwd='.')
        sb.bystanders.add(handle)
        check(sb.wait_exit(handle) == want, f'dump {more}', read(out).decode())
        sb.bystanders.discard(handle)
        if want:
            check('CAP_KILL' in read(out).decode(), 'not a clear line', read(out).decode())
            check(not os.listdir(images), 'images are left')
        sb.same_view(pid, before)
    kill_tree(sb, pid)


def case_hostile_name():
    """A name cannot make a terminal do anything, or look like more lines."""
    code = 'import ctypes, os, signal; ctypes.CDLL(None).prctl(15, b"\\x1b[2J\\nOK\\x07"); os.open("/dev/kmsg", 2); ' \
           'open("ready", "w").close(); signal.pause()'
    for f in os.listdir(sb.path('work')):
        os.unlink(sb.path('work', f))
    pid = sb.start(['/usr/bin/python3', '-c', code])
    sb.wait_ready(pid)
    for words in ['check'], ['dump', '-D', sb.path('img')]:
        result = sb.ckpt(*words, '-t', str(pid))
        text = result.out + result.err
        check(result.rc == 1 and 'kmsg' in text and not re.search(r'[^\n -~]|^OK', text, re.M), 'raw names', repr(text))
    kill_tree(sb, pid)


AREAS = """
import ctypes, mmap, os, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
n = int(open('/proc/sys/vm/max_map_count').read())
base = libc.mmap(None, n * 8192, 0, 0x4022, -1, 0)
os.close(os.open('ready.tmp', os.O_CREAT))
i = 0
while libc.mprotect(base + i * 8192, 4096, 3) == 0:
    i += 1
os.rename('ready.tmp', 'ready')
signal.pause()
"""


def case_most_areas():
    """A process with as many areas as the kernel allows one: with ckpt's own they may be too many, and what to do is said.
    (Not tried with a higher limit: it is the whole machine's.)"""
    for f in os.listdir(sb.path('work')):
        os.unlink(sb.path('work', f))
    pid = sb.start(['/usr/bin/python3', '-c', AREAS])
    sb.wait_ready(pid)
    sb.dump(pid, 'img-areas')
    result = sb.ckpt(*sb.restore_args('img-areas'))
    if result.rc:
        one_clear_line(result, str(pid), 'max_map_count')
        sb.no_strangers(set())
    else:
        kill_tree(sb, pid)


def case_no_proc():
    """Without /proc, or with that of another pid namespace."""
    pid = start('trivial')
    for i, words in enumerate((['--mount', '/bin/sh', '-c', 'mount -t tmpfs none /proc && exec "$@"', 'sh'], ['--pid', '--fork'])):
        for more in ['dump', '-t', str(pid)], ['restore', '-d'], ['check', '-t', str(pid)]:
            out = sb.path(f'proc{i}-{more[0]}')
            handle = sb.start(['/usr/bin/unshare', *words, sb.ckpt_path, *more, '-D', sb.path('img')], out=out, cwd='.')
            sb.bystanders.add(handle)
            check(sb.wait_exit(handle) == 1, f'{words} {more}', read(out).decode())
            sb.bystanders.discard(handle)
            check(re.search('ckpt: /proc (is not mounted|belongs to another)', read(out).decode()), f'{more}', read(out).decode())
    kill_tree(sb, pid)


def case_external():
    """Keys of resources that are not carried over are refused by name, by each command that takes them."""
    pid = start('trivial')
    for key in ('mnt[/x]:name', 'mnt[]:ms', 'dev[1/3]:null', 'file[1:2]', 'tty[1:2]', 'net[4026531840]:n', 'pid[4026531836]:p',
                'veth[eth0]:v@br', 'macvlan[a]:b', 'netdev[a]:b', 'unix[x]', 'unix[1', 'unix[]', 'nonsense'):
        refuse(pid, r'--external', key.replace('[', r'\[').replace(']', r'\]'), options=['--external', key])
        for words in (['check', '-t', str(pid)], ['restore', '-D', sb.path('img'), '-d']):
            one_clear_line(sb.ckpt(*words, '--external', 'unix[12]', '--external', key), '--external')
    kill_tree(sb, pid)


def case_log_file():
    """A log must not overwrite a checkpoint, or wait for somebody to read it."""
    pid = start('trivial')
    sb.dump(pid, 'img-log', kill=False)
    before = snapshot(sb.path('img-log'))
    for words in (['dump', '-t', str(pid)], ['restore', '-d'], ['inspect']):
        one_clear_line(sb.ckpt(*words, '-D', sb.path('img-log'), '-o', 'inventory.img'), r'inventory\.img')
    check(snapshot(sb.path('img-log')) == before, 'the checkpoint has changed')
    os.mkfifo(sb.path('fifo'))
    refuse(pid, 'fifo', options=['-o', sb.path('fifo'), '-v4'])
    reader = os.open(sb.path('fifo'), os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 1 << 20)
    result = sb.ckpt('dump', '-t', str(pid), '-D', sb.path('img'), '-o', sb.path('fifo'), '-v4')
    check(result.rc == 0 and b'dumped the tree' in os.read(reader, 1 << 20), 'a FIFO with a reader', result)
    os.close(reader)


for name, case in list(globals().items()):
    if name.startswith('case_'):
        print(name, flush=True)
        case()
        sb.no_strangers(set())
