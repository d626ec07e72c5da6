#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120
"""What a dump meets once the tree is stopped, and was not there when it was looked at, does not fail it: it lets the tree
run for a moment and tries again, some times. What lasts is refused in the end, with the tree as it was. And what
cannot fail it any more once the checkpoint is complete."""
import os
import signal

from _scenario import Program, Sandbox, check, one_clear_line, procview, read

sb = Sandbox.from_env()


def dump(program, images, faults='', *args):
    os.makedirs(sb.path(images), exist_ok=True)
    return sb.ckpt('dump', '-t', str(program.pid), '-D', sb.path(images), '-v4', '-o', 'dump.log', *args,
                   env={'CKPT_FAULT': faults})


def tries(images):
    return read(sb.path(images, 'dump.log')).decode().count('trying again')


def case_again():
    """Twice it is not to be had, the third time it is."""
    program = Program(sb, 'family')
    check(program.wait_ready(), 'family')
    for point in ('dump-frozen', 'dump-in-agent', 'dump-collect'):
        result = dump(program, point, f'{point}=again,{point}:2=again', '-R')
        check(result.rc == 0, f'{point}: failed', result)
        check(tries(point) == 2, f'{point}: {tries(point)} more attempts, not 2')
        program.check_same(point)
    script = sb.path('script')
    with open(script, 'w') as f:
        f.write(f'#!/bin/sh\necho "$CRTOOLS_SCRIPT_ACTION" >>{sb.path("actions")}\n')
    os.chmod(script, 0o755)
    result = dump(program, 'always', ','.join(f'dump-collect:{n}=again' for n in range(1, 8)), '--action-script', script)
    one_clear_line(result, 'fault point dump-collect')
    check(tries('always') == 4, f'{tries("always")} more attempts, not 4')
    check(read(sb.path('actions')).decode().split() == ['pre-dump'], 'other than one action before the dump',
          read(sb.path('actions')))
    program.check_same('after the last attempt')
    # From the commit on there is nothing to try again.
    result = dump(program, 'late', 'dump-before-commit=again', '-R')
    one_clear_line(result, 'fault point dump-before-commit')
    check(tries('late') == 0, 'tried again after the images were written')
    program.check_same('after the late failure')
    program.finish()


def case_event():
    """An event comes while the only reader is stopped already."""
    program = Program(sb, 'watcher')
    check(program.wait_ready(), 'watcher')
    os.makedirs(sb.path('event'))
    handle = sb.ckpt_start('dump', '-t', str(program.pid), '-D', sb.path('event'), '-v4', '-o', 'dump.log',
                           env={'CKPT_FAULT': 'dump-frozen=pause'})
    sb.wait_for(lambda: b'fault point dump-frozen' in read(handle.base + '.err', b''), 'the freeze')
    with open(sb.path('work/watched/file'), 'w'):
        pass
    os.kill(handle.pid, signal.SIGCONT)
    result = sb.ckpt_wait(handle, 30)
    check(result.rc == 0, 'the dump failed', result)
    check(tries('event') >= 1, 'there was no need to try again')
    sb.wait_gone([program.pid])
    sb.children.ended.clear()
    sb.restore('event', expect_pid=program.pid)
    program.finish()


LEAVES = """
import ctypes, os, signal, time
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGUSR1, lambda *a: ctypes.CDLL(None).unshare(0x04000000))
    open('ready', 'w').write(str(os.getpid()))
while True:
    signal.pause()
"""


def case_namespace():
    """A process leaves its namespace after it was looked at, and before it is stopped."""
    pid = sb.start(['/usr/bin/python3', '-c', LEAVES])
    sb.wait_for(lambda: read(sb.path('work/ready'), b''), 'the child')
    child = int(read(sb.path('work/ready')))
    own = os.readlink('/proc/self/ns/uts')
    os.makedirs(sb.path('namespace'))
    handle = sb.ckpt_start('dump', '-t', str(pid), '-D', sb.path('namespace'), env={'CKPT_FAULT': 'dump-seize-each=pause'})
    sb.wait_for(lambda: b'fault point dump-seize-each' in read(handle.base + '.err', b''), 'the first seize')
    os.kill(child, signal.SIGUSR1)
    sb.wait_for(lambda: os.readlink(f'/proc/{child}/ns/uts') != own, 'the child to leave')
    os.kill(handle.pid, signal.SIGCONT)
    one_clear_line(sb.ckpt_wait(handle, 30), f'pid {child} .*another UTS namespace', 'nothing was stopped|runs on')
    for p in (child, pid):
        os.kill(p, signal.SIGKILL)
    sb.wait_exit(pid)
    sb.wait_gone([child])
    sb.children.ended.clear()
    os.unlink(sb.path('work/ready'))


def leaves_in_a_loop(kind):
    """Likewise, and waits again by then as it did before, so that nothing of it but its namespace tells that."""
    program = Program(sb, 'leaver', kind, rest=False)
    check(program.wait_ready(), 'leaver')
    pid = program.pid
    own = os.readlink('/proc/self/ns/uts')

    def waiting():
        found = [f'{p}/task/{t}' for p in procview.tree(pid) for t in os.listdir(f'/proc/{p}/task')
                 if (p, int(t)) != (pid, pid) and read(f'/proc/{p}/task/{t}/syscall', b'').startswith(b'0 ')]
        return f'/proc/{found[0]}' if found else None

    sb.wait_for(waiting, 'it to wait')
    who = waiting()
    before = read(f'{who}/syscall')
    os.makedirs(sb.path('loop-' + kind))
    handle = sb.ckpt_start('dump', '-t', str(pid), '-D', sb.path('loop-' + kind), env={'CKPT_FAULT': 'dump-seize-each=pause'})
    sb.wait_for(lambda: b'fault point dump-seize-each' in read(handle.base + '.err', b''), 'the first seize')
    with open(sb.path('work/go'), 'wb', buffering=0) as f:
        f.write(b'x')
    sb.wait_for(lambda: os.readlink(f'{who}/ns/uts') != own and read(f'{who}/syscall') == before, 'it to leave and wait')
    os.kill(handle.pid, signal.SIGCONT)
    one_clear_line(sb.ckpt_wait(handle, 30), 'another UTS namespace', 'nothing was stopped|runs on')
    program.kill()
    sb.children.ended.clear()


def case_namespace_loop():
    leaves_in_a_loop('child')
    leaves_in_a_loop('thread')


def case_left_behind():
    """Stopped for job control, a process cannot leave the visit of a ckpt that was killed."""
    program = Program(sb, 'sig_altstack')
    check(program.wait_ready(), 'sig_altstack')
    os.kill(program.pid, signal.SIGSTOP)
    result = dump(program, 'killed', 'dump-in-agent=kill', '-R')
    check(result.rc == -signal.SIGKILL, 'not killed', result)
    result = dump(program, 'stuck', '', '-R')
    one_clear_line(result, 'has not left yet', 'the tree runs on')
    check(tries('stuck') == 4, f'{tries("stuck")} more attempts, not 4')
    os.kill(program.pid, signal.SIGCONT)
    program.check_same('continued')
    result = dump(program, 'free', '', '-R')
    check(result.rc == 0, 'refused', result)
    program.finish()


def case_statistics():
    """They cannot be written, and the checkpoint is complete."""
    program = Program(sb, 'family')
    check(program.wait_ready(), 'family')
    os.makedirs(sb.path('work-dir', 'stats-dump'))
    result = dump(program, 'stats', '', '-W', sb.path('work-dir'))
    check(result.rc == 0, 'the dump failed', result)
    check('stats-dump' in read(sb.path('work-dir', 'dump.log')).decode(), 'no warning')
    sb.wait_gone([program.pid])
    sb.children.ended.clear()
    sb.restore('stats', expect_pid=program.pid)
    program.finish()


for case in (case_again, case_event, case_namespace, case_namespace_loop, case_left_behind, case_statistics):
    case()
    sb.children.reap()
    sb.children.ended.clear()
