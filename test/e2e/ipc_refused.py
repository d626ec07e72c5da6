#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=90
"""System V IPC that cannot be carried over is refused by name, and nothing has changed: what belongs to ckpt's own
namespace, a namespace that somebody else is in, or has memory of, a mix of namespaces, POSIX message queues."""
import os
import signal

from e2e import crit
from _scenario import Program, Sandbox, check, one_clear_line, read

# What the message says; whether `check -t`, which stops nothing, knows it already.
KINDS = {
    'undo': (r'semaphores .*ckpt.s own IPC namespace.*SEM_UNDO.*unshare --ipc', False),
    'lost': (r'semaphore \(id \d+, number 1\) that it may not use any more.*SEM_UNDO', False),
    'mqueue': (r'POSIX message queue /odd', True),
    'large': (r'message 0 of the message queue.*larger than kernel.msgmax', False),
    'foreign': (r'System V shared memory.*another IPC', False),
    'forced': (r'attached by nobody.*shm_rmid_forced', True),
    'mixed': (r'another IPC namespace than the root', True),
    'thread': (r'thread \d+ is in another IPC namespace', True),
}

sb = Sandbox.from_env()


def refused(program, directory, pattern, known):
    rc, text = sb.check_tree(program.pid)
    check(rc == (1 if known else 0), f'ckpt check -t: exit status {rc}', text)
    one_clear_line(sb.ckpt(*sb.dump_args(program.pid, directory)), pattern)
    left = [f for f in os.listdir(sb.path(directory)) if not f.endswith('.log')]
    check(not left, f'the refused dump left {left}')


def outsider(program, argv, directory, pattern, known):
    pid = sb.start(['/usr/bin/nsenter', f'--ipc=/proc/{program.pid}/ns/ipc', *argv], out='out')
    sb.bystanders.add(pid)
    inside = os.readlink(f'/proc/{program.pid}/ns/ipc')
    if known:
        sb.wait_for(lambda: os.readlink(f'/proc/{pid}/ns/ipc') == inside, 'the outsider to enter the namespace')
    else:
        sb.wait_for(lambda: os.path.exists(sb.path('work/kept')), 'the outsider to attach the memory')
    refused(program, directory, pattern, known)
    sb.signal(pid, signal.SIGKILL)
    sb.wait_exit(pid)
    sb.bystanders.discard(pid)


for kind, (pattern, known) in KINDS.items():
    program = Program(sb, 'ipc_odd', kind)
    if program.wait_ready():
        refused(program, kind, pattern, known)
        program.check_same('after the refused dump')
        program.finish()

program = Program(sb, 'ipc_odd', 'attached')
if program.wait_ready():
    segment = read(sb.path('work/id')).decode()
    outsider(program, ['/bin/sleep', '1000'], 'outsider', r'pid \d+ \(\w+\) does not belong to the tree', True)
    outsider(program, [sb.program('ipc_odd'), 'keeper', segment], 'keeper', r'attached 2 times, of which 1 in the tree', False)
    # Of many, some are named.
    inside = f'/proc/{program.pid}/ns/ipc'
    many = [sb.start(['/usr/bin/nsenter', f'--ipc={inside}', '/bin/sleep', '1000'], out='out') for _ in range(8)]
    sb.bystanders.update(many)
    sb.wait_for(lambda: all(os.readlink(f'/proc/{p}/ns/ipc') == os.readlink(inside) for p in many), 'them to enter it')
    result = sb.ckpt(*sb.dump_args(program.pid, 'many'))
    check(result.rc == 1 and '3 more processes' in result.err and result.err.count('does not belong') == 5, 'many', result.err)
    for p in many:
        sb.signal(p, signal.SIGKILL)
        sb.wait_exit(p)
        sb.bystanders.discard(p)
    program.check_same('after the refused dumps')
    # Alone, it can go.
    sb.dump(program.pid, 'alone')
    with open(sb.path('alone', 'ipcns-shm-9.img'), 'rb') as f:
        entry = crit.images.load(f, True)['entries'][0]
    check((entry['desc']['id'], entry['size'], entry['desc']['mode']) == (int(segment), 4096, 0o600), f'crit sees {entry}')
    seen = sb.inspect('alone')['ipc_objects']
    check([(o['type'], o['id'], o['bytes']) for o in seen] == [('shared_memory', int(segment), 4096)], f'inspect shows {seen}')
    sb.restore('alone', expect_pid=program.pid)
    program.check_same('after dump and restore', ['ns.ipc'])
    program.finish()
