#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=180
"""Nothing is dropped silently. Each kind of state beyond files, pipes and memory is either refused by name, by
`check -t` and by `dump`, with nothing changed and the program going on; or it is carried over, and works after a
restore. Several in one program are all named in one run."""
import os
import re

from _scenario import Failure, Failures, Program, Sandbox, check, one_clear_line

# What the message has to say, whatever else it says.
KINDS = {
    'unix-stream': r'unix.*socket|socket.*unix', 'unix-datagram': r'unix.*socket|socket.*unix',
    'tcp': r'tcp|inet', 'udp': r'udp|inet', 'netlink': r'netlink', 'epoll-lost': r'epoll.*member',
    'inotify-unread': r'inotify.*read', 'inotify-deleted': r'inotify.*watch', 'fanotify': r'fanotify',
    'pidfd-outside': r'pidfd.*outside',
    'pty': r'pty|terminal|tty|ptmx', 'deleted-linked': r'deleted.*other names',
    'deleted-large': r'deleted.*limit',
    'io_uring': r'io_uring', 'aio-inherited': r'AIO context of another', 'userfaultfd': r'userfaultfd', 'secret-memory': r'memfd_secret', 'perf': r'perf',
    'mqueue': r'mqueue|message queue', 'sysv-shm': r'sysv|system v', 'device': r'device|kmsg', 'fdinfo': r'fd \d+ is /proc/\d+/fdinfo/1,',
    'mntns': r'(mnt|mount).*namespace|namespace.*(mnt|mount)', 'netns': r'net.*namespace|namespace.*net',
    'netns-thread': r'thread.*network namespace', 'netns-dead-leader': r'network namespace',
    'utsns': r'uts.*namespace|namespace.*uts', 'ipcns': r'ipc.*namespace|namespace.*ipc',
    'userns': r'user.*namespace|namespace.*user', 'pidns': r'pid.*namespace|namespace.*pid',
    'timens': r'time.*namespace|namespace.*time', 'flock': r'lock', 'posix-lock': r'lock', 'ofd-lock': r'lock',
    'lease': r'lease|lock', 'seccomp': r'seccomp', 'seccomp-strict': r'seccomp', 'traced': r'trace',
}
TOGETHER = ['epoll-lost,inotify-unread,pidfd-outside', 'pty,deleted-linked,unix-stream,seccomp', 'io_uring,netns,flock']

sb = Sandbox.from_env()


def carry_over(program, directory):
    """`check -t` has said that it can be dumped: then it must be whole afterwards."""
    sb.dump(program.pid, directory)
    sb.restore(directory, expect_pid=program.pid)
    program.check_same('after dump and restore')
    program.finish()


def refuse(names, directory):
    """Returns what was done: skipped, refused or carried over."""
    program = Program(sb, 'refuse', names)
    if not program.wait_ready():
        return skipped
    patterns = [KINDS[name] for name in names.split(',') if name not in carried]
    rc, text = sb.check_tree(program.pid)
    if rc == 0 and len(patterns) <= 1:
        program.check_same('after ckpt check')
        carry_over(program, directory)
        return carried
    check(rc == 1, f'ckpt check -t: exit status {rc}, not 1', text)
    for pattern in patterns:
        check(re.search(pattern, text, re.I | re.S), f'ckpt check -t does not match /{pattern}/', text)
    program.check_same('after ckpt check')
    result = sb.ckpt(*sb.dump_args(program.pid, directory))
    one_clear_line(result, *patterns)
    left = [f for f in os.listdir(sb.path(directory)) if not f.endswith('.log')]
    check(not left, f'the refused dump left {left}')
    program.check_same('after the refused dump')
    program.finish()
    return refused


failures, skipped, refused, carried = Failures(sb), [], [], []
for i, names in enumerate([*KINDS, *TOGETHER]):
    try:
        refuse(names, f'img{i}').append(names)
    except Failure as e:
        failures.add(names, e)
for what, names in (('refused', refused), ('carried over', carried), ('not possible here', skipped)):
    print(f'{len(names)} {what}: {", ".join(names)}')
failures.check()
