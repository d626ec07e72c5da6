#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120
"""What options of dump and restore do, each seen from outside: pid file, status descriptor, action scripts, stopped
trees, siblings, staying in the foreground, becoming another program, shell jobs, time limit, statistics, logs."""
import os
import signal
import struct
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, '..', 'lib'))
import _images
from e2e.harness import Sandbox, check

sb = Sandbox.from_env()
SCRIPT = '''#!/bin/sh
echo "$CRTOOLS_SCRIPT_ACTION $CRTOOLS_INIT_PID $CRTOOLS_IMAGE_DIR" >>"{log}"
[ "$CRTOOLS_SCRIPT_ACTION" != "{fail}" ]
'''


def start(**kwargs):
    for name in os.listdir(sb.path('work')):
        os.unlink(sb.path('work', name))
    pid = sb.start([sb.program('family')], **kwargs)
    sb.wait_ready(pid)
    return pid


def end(pid):
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, 'the program found itself changed')


def state(pid):
    with open(f'/proc/{pid}/stat') as f:
        return f.read().rsplit(')', 1)[1].split()[0]


def parent(pid):
    with open(f'/proc/{pid}/stat') as f:
        return int(f.read().rsplit(')', 1)[1].split()[1])


def script(name, fail='nothing'):
    log = sb.path(name + '.log')
    with open(sb.path(name), 'w') as f:
        f.write(SCRIPT.format(log=log, fail=fail))
    os.chmod(sb.path(name), 0o755)
    return sb.path(name), log


def actions(log):
    with open(log) as f:
        return [line.split() for line in f]


def case_pidfile_and_status():
    pid = start()
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    sb.dump(pid, 'img')
    pidfile = sb.path('root.pid')
    handle = sb.children.start([sb.ckpt_path, 'restore', '-D', sb.path('img'), '-d', '--pidfile', pidfile,
                                '--status-fd', str(theirs)], sb.dir, dict(os.environ), sb.path('status.out'),
                               pass_fds=[theirs])
    os.close(theirs)
    check(sb.wait_exit(handle) == 0, 'restore failed', open(sb.path('status.out')).read())
    check(os.read(ours, 10) == b'\0' and os.read(ours, 10) == b'', 'not one zero byte on the status descriptor')
    os.close(ours)
    check(open(pidfile).read() == f'{pid}\n', 'wrong pid file')
    again = sb.ckpt('restore', '-D', sb.path('img'), '-d', '--pidfile', pidfile)
    check(again.rc == 1 and 'root.pid' in again.err, 'an existing pid file is overwritten', again)
    end(pid)


def case_action_scripts():
    pid = start()
    path, log = script('watch')
    sb.dump(pid, 'img-actions', '--action-script', path)
    names = [a[0] for a in actions(log)]
    check(names[0] == 'pre-dump' and 'post-dump' in names, 'stages of a dump', names)
    check(all(a[1] == str(pid) and a[2] == sb.path('img-actions') for a in actions(log)), 'environment', actions(log))
    os.unlink(log)
    sb.restore('img-actions', '--action-script', path)
    names = [a[0] for a in actions(log)]
    check([n for n in names if n in ('pre-restore', 'post-restore', 'pre-resume', 'post-resume')] ==
          ['pre-restore', 'post-restore', 'pre-resume', 'post-resume'], 'stages of a restore', names)
    # A script that fails stops the operation, and nothing has changed.
    path, log = script('refuse', fail='post-dump')
    before = sb.view(pid)
    result = sb.ckpt(*sb.dump_args(pid, 'img-refused', '--action-script', path))
    check(result.rc == 1 and 'post-dump' in result.err, 'a failing script was ignored', result)
    check(not os.path.exists(sb.path('img-refused', 'inventory.img')), 'a checkpoint was made')
    sb.same_view(pid, before)
    sb.dump(pid, 'img-actions2')
    path, log = script('refuse2', fail='pre-resume')
    result = sb.ckpt(*sb.restore_args('img-actions2', '--action-script', path))
    check(result.rc == 1 and 'pre-resume' in result.err, 'a failing script was ignored', result)
    sb.no_strangers([])
    sb.children.ended.pop(pid, None)
    sb.restore('img-actions2')
    end(pid)


def case_leave_stopped():
    pid = start()
    result = sb.ckpt(*sb.dump_args(pid, 'img-stopped', '-s'))
    check(result.rc == 0 and state(pid) == 'T', 'not stopped after dump -s', result, state(pid))
    os.kill(pid, signal.SIGKILL)
    sb.wait_exit(pid)
    kill_rest()
    sb.children.ended.pop(pid, None)
    sb.restore('img-stopped', '-s')
    check(state(pid) == 'T', 'not stopped after restore -s', state(pid))
    for p in sb.others():
        os.kill(p, signal.SIGCONT)
    end(pid)


def kill_rest():
    for p in sb.others():
        os.kill(p, signal.SIGKILL)
    sb.no_strangers([])


def case_foreground():
    pid = start()
    sb.dump(pid, 'img-fg')
    handle = sb.ckpt_start('restore', '-D', sb.path('img-fg'))
    sb.wait_for(lambda: os.path.exists(sb.path('img-fg', 'stats-restore')), 'the tree to be complete')
    check(parent(pid) == handle.pid, 'not a child of ckpt')
    os.kill(pid, signal.SIGTERM)
    result = sb.ckpt_wait(handle)
    check(result.rc == 0, 'the exit status of the root is not passed on', result)
    pid = start()
    sb.dump(pid, 'img-fg2')
    handle = sb.ckpt_start('restore', '-D', sb.path('img-fg2'))
    sb.wait_for(lambda: os.path.exists(sb.path('img-fg2', 'stats-restore')), 'the tree to be complete')
    os.kill(pid, signal.SIGKILL)
    result = sb.ckpt_wait(handle)
    check(result.rc == 128 + signal.SIGKILL, 'the death of the root is not passed on', result)
    kill_rest()


def case_sibling():
    pid = start()
    sb.dump(pid, 'img-sib')
    sb.restore('img-sib', '-S')
    check(parent(pid) == os.getpid(), 'not a sibling of ckpt', parent(pid), os.getpid())
    end(pid)


def case_exec_cmd():
    pid = start()
    sb.dump(pid, 'img-exec')
    handle = sb.ckpt_start('restore', '-D', sb.path('img-exec'), '--exec-cmd', '--', '/bin/sh', '-c',
                           'read line < /proc/$PPID/comm; kill -TERM "$1"; wait; exec cat /proc/self/comm; exit', 'x', str(pid))
    result = sb.ckpt_wait(handle)
    check(result.rc == 0 and 'cat' in result.out, 'the command did not run', result)
    result = sb.ckpt('restore', '-D', sb.path('img-exec'), '--exec-cmd', '--', '/no/such/program')
    check(result.rc == 1 and '/no/such/program' in result.err, 'restored for a command that does not exist', result)
    sb.no_strangers([])


def case_shell_job():
    pid = start(new_session=False)
    result = sb.ckpt(*sb.dump_args(pid, 'img-job'))
    check(result.rc == 1 and '--shell-job' in result.err, 'dumped without its session', result)
    sb.dump(pid, 'img-job', '-j')
    result = sb.ckpt(*sb.restore_args('img-job', '-j'))
    check(result.rc == 0 and os.getsid(pid) == os.getsid(0), 'not in the session of ckpt', result)
    end(pid)


def case_timeout():
    for name in os.listdir(sb.path('work')):
        os.unlink(sb.path('work', name))
    pid = sb.start([sb.program('vforker')])
    sb.wait_ready(pid)
    before = sb.view(pid, rest=False)
    result = sb.ckpt(*sb.dump_args(pid, 'img-vfork', '--timeout', '1'))
    check(result.rc == 1 and str(pid) in result.err and 'runs on' in result.err, 'not refused in time', result)
    sb.same_view(pid, before)
    child = next(p for p in sb.others() if p != pid)
    os.kill(child, signal.SIGUSR1)
    check(sb.wait_exit(pid) == 0, 'it did not survive')


def case_statistics():
    pid = start()
    work = sb.path('stats')
    os.makedirs(work)
    result = sb.ckpt(*sb.dump_args(pid, 'img-stats', '-W', work, '--display-stats'))
    check(result.rc == 0 and 'pages' in result.out, 'no statistics shown', result)
    _, entries = _images.load(os.path.join(work, 'stats-dump'))
    dump = _images.decode(_images.get(entries[0], 1))
    written = _images.get(dump, 7)
    size = sum(os.path.getsize(sb.path('img-stats', f)) for f in os.listdir(sb.path('img-stats'))
               if f.startswith('pages-'))
    check(0 < written <= size // 4096, 'pages written', written, size)
    check(0 < _images.get(dump, 1) <= _images.get(dump, 2), 'freezing and frozen time', dump)
    check(os.path.exists(os.path.join(work, 'dump.log')), 'the log is not in the work directory')
    sb.children.ended.pop(pid, None)
    result = sb.ckpt(*sb.restore_args('img-stats', '-W', work, '--display-stats', '--log-pid'))
    check(result.rc == 0 and 'Restored in' in result.out, 'no statistics shown', result)
    _, entries = _images.load(os.path.join(work, 'stats-restore'))
    restore = _images.decode(_images.get(entries[0], 2))
    check(_images.get(restore, 4) > 0 and _images.get(restore, 5) > 0, 'time and pages', restore)
    check('[' in open(os.path.join(work, 'restore.log')).read(), 'no pids in the log')
    end(pid)


for name, case in list(globals().items()):
    if name.startswith('case_'):
        print(name)
        sys.stdout.flush()
        case()
