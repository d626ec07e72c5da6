#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=180
"""Bad input and bad luck: each gives one clear line and exit status 1, and changes nothing."""
import ctypes
import os
import shutil
import signal
import sys

from _scenario import Failures, Program, Sandbox, check, kill_tree, one_clear_line, procview, read, snapshot, write

UNPRIVILEGED = ['/usr/bin/setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all', '--bounding-set=-all']
sb = Sandbox.from_env()
libc = ctypes.CDLL(None, use_errno=True)


class Result:
    def __init__(self, rc, err, argv):
        self.rc, self.err, self.argv = rc, err, argv


def run_as_nobody(*args):
    """ckpt with no privileges at all. A copy of it: where it was built, nobody may not be able to go."""
    copy = shutil.copy(sb.ckpt_path, sb.path('ckpt-for-all'))
    os.chmod(copy, 0o755)
    argv = [*UNPRIVILEGED, copy, *args]
    pid = sb.start(argv, out='nobody.out', cwd='.')
    sb.bystanders.add(pid)
    rc = sb.wait_exit(pid)
    sb.bystanders.discard(pid)
    return Result(rc, read(sb.path('nobody.out')).decode(), argv[len(UNPRIVILEGED):])


def fresh(name, mode=0o755):
    """An empty image directory."""
    shutil.rmtree(sb.path(name), ignore_errors=True)
    os.mkdir(sb.path(name))
    os.chmod(sb.path(name), mode)
    return name


def start(name='trivial', *args):
    program = Program(sb, name, *args)
    check(program.wait_ready(), f'{name} is not possible here')
    return program


def refuse_dump(program, *patterns, directory='img', more=()):
    result = sb.ckpt(*sb.dump_args(program.pid, fresh(directory), *more))
    one_clear_line(result, *patterns)
    check(not [f for f in os.listdir(sb.path(directory)) if f.endswith('.img') and not f.startswith('stats-')],
          'images are left')


def refuse_restore(directory, *patterns, strangers=frozenset()):
    one_clear_line(sb.ckpt(*sb.restore_args(directory)), *patterns)
    sb.no_strangers(set(strangers))


# --- the target -----------------------------------------------------------------------------------------


def no_such_pid():
    for pid in ('4194000', '32000'):
        one_clear_line(sb.ckpt('dump', '-t', pid, '-D', sb.path(fresh('img'))), pid)
        one_clear_line(sb.ckpt('check', '-t', pid), pid)
    for pid in ('0', '-1', 'x', '', '99999999999999'):
        one_clear_line(sb.ckpt('dump', '-t', pid, '-D', sb.path(fresh('img'))))


def a_thread_that_leads_nothing():
    program = start('threads_many')
    tid = max(int(t) for t in os.listdir(f'/proc/{program.pid}/task'))
    one_clear_line(sb.ckpt('dump', '-t', str(tid), '-D', sb.path(fresh('img'))), str(tid))
    program.check_same('after the refusal')
    program.finish()


def a_zombie():
    pid = sb.start(['/bin/sh', '-c', 'setsid true & exec sleep 1000'])
    sb.wait_for(lambda: any(read(f'/proc/{p}/stat').split()[2] == b'Z' for p in procview.tree(pid)), 'a zombie')
    zombie = procview.tree(pid)[-1]
    one_clear_line(sb.ckpt('dump', '-t', str(zombie), '-D', sb.path(fresh('img'))), str(zombie), 'zombie|exited|ended')
    kill_tree(sb, pid)


def pid_1():
    one_clear_line(sb.ckpt('dump', '-t', '1', '-D', sb.path(fresh('img'))), r'\b1\b|itself')


def ckpt_itself():
    """ckpt is a child of the tree it shall dump."""
    directory = sb.path(fresh('img'))
    write(sb.path('work/self.sh'), f'"{sb.ckpt_path}" dump -t $$ -D "{directory}" 2>err\necho $? >rc\n')
    pid = sb.start(['/bin/sh', 'self.sh'])
    check(sb.wait_exit(pid) == 0, 'the shell')
    one_clear_line(Result(int(read(sb.path('work/rc'))), read(sb.path('work/err')).decode(), ['ckpt', 'dump']),
                   'itself|ckpt|own')


def another_session():
    """The root belongs to a session whose leader is not in the tree."""
    pid = sb.start(['/bin/sleep', '1000'], new_session=False)
    one_clear_line(sb.ckpt(*sb.dump_args(pid, fresh('img'))), 'session', 'shell-job')
    kill_tree(sb, pid)


def other_user():
    program = start()
    fresh('nobody', 0o777)
    text = one_clear_line(run_as_nobody('dump', '-t', str(program.pid), '-D', sb.path('nobody')))
    check(any(w in text.lower() for w in ('permi', 'privileg', 'capab', 'root', 'user', 'allowed')), 'it does not say why', text)
    program.check_same('after the refusal')
    program.finish()


def no_privileges():
    """Its own process, but without a capability; and a restore."""
    pid = sb.start([*UNPRIVILEGED, '/bin/sleep', '1000'])
    sb.wait_for(lambda: b'sleep' in read(f'/proc/{pid}/comm'), 'sleep')
    before = sb.view(pid)
    fresh('nobody', 0o777)
    one_clear_line(run_as_nobody('dump', '-t', str(pid), '-D', sb.path('nobody')), 'privileg|capab|CAP_|permi|root')
    sb.same_view(pid, before)
    kill_tree(sb, pid)
    program = start()
    sb.dump(program.pid, fresh('img'))
    for root, _, names in os.walk(sb.path('img')):
        for name in names:
            os.chmod(os.path.join(root, name), 0o644)
    one_clear_line(run_as_nobody('restore', '-D', sb.path('img'), '-d'), 'privileg|capab|CAP_|permi|root')
    sb.no_strangers(set())


TRACER = '''
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE = 0x4206
if libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) < 0:
    sys.exit(5)
print("traced", flush=True)
os.read(0, 1)
'''


def traced_target():
    """By another program, as gdb and strace do it; the tracer is named. Afterwards it can be dumped."""
    program = start()
    os.mkfifo(sb.path('hold'))
    keep = os.open(sb.path('hold'), os.O_RDWR)
    tracer = sb.start(['/usr/bin/python3', '-c', TRACER, str(program.pid)], out='tracer.out', cwd='.', stdin=sb.path('hold'))
    sb.bystanders.add(tracer)
    sb.wait_for(lambda: b'traced' in read(sb.path('tracer.out'), b''), 'the tracer')
    refuse_dump(program, str(program.pid), 'trace', str(tracer))
    check(f'TracerPid:\t{tracer}\n' in read(f'/proc/{program.pid}/status').decode(), 'it is no longer traced')
    os.write(keep, b'x')
    os.close(keep)
    check(sb.wait_exit(tracer) == 0, 'the tracer failed')
    sb.bystanders.discard(tracer)
    os.unlink(sb.path('hold'))
    program.check_same('after the tracer has gone')
    sb.dump(program.pid, fresh('img'))
    sb.restore('img', expect_pid=program.pid)
    program.finish()


# --- the images -----------------------------------------------------------------------------------------


def not_an_image_directory():
    one_clear_line(sb.ckpt('restore', '-D', sb.path('nowhere'), '-d'), 'nowhere')
    refuse_restore(fresh('empty'), 'empty|inventory')
    shutil.copytree('/etc/default', sb.path('other'), dirs_exist_ok=True)
    refuse_restore('other', 'other|inventory')
    write(sb.path('a-file'), 'text')
    one_clear_line(sb.ckpt('restore', '-D', sb.path('a-file'), '-d'), 'a-file')
    write(sb.path(fresh('junk'), 'inventory.img'), b'\x01\x02\x03\x04' * 100)
    write(sb.path('junk', 'pstree.img'), b'')
    refuse_restore('junk', r'inventory\.img')
    os.mkfifo(sb.path(fresh('fifo'), 'inventory.img'))
    refuse_restore('fifo', r'inventory\.img')
    program = start()
    one_clear_line(sb.ckpt('dump', '-t', str(program.pid), '-D', sb.path('nowhere')), 'nowhere')
    one_clear_line(sb.ckpt('dump', '-t', str(program.pid), '-D', sb.path('a-file')), 'a-file')
    program.check_same('after the refusals')
    program.finish()


def no_space():
    """On a small file system, with an earlier checkpoint in it."""
    fresh('small')
    check(libc.mount(b'tmpfs', sb.path('small').encode(), b'tmpfs', 0, b'size=2m') == 0, 'cannot mount a tmpfs')
    try:
        program = start()
        sb.dump(program.pid, 'small', kill=False)
        program.kill()
        for log in [f for f in os.listdir(sb.path('small')) if f.endswith('.log')]:
            os.unlink(sb.path('small', log))
        work = snapshot(sb.path('work'))
        shutil.copytree(sb.path('work'), sb.path('first-work'))
        before = {f: w for f, w in snapshot(sb.path('small')).items() if not f.startswith('stats-')}
        big = start('mem_sparse')
        result = sb.ckpt('dump', '-t', str(big.pid), '-D', sb.path('small'))
        one_clear_line(result, 'no space|full|ENOSPC')
        big.check_same('after the disk was full')
        after = {f: w for f, w in snapshot(sb.path('small')).items() if not f.startswith('stats-')}
        check(before == after, f'the earlier checkpoint changed: {sorted(set(before.items()) ^ set(after.items()))[:6]}')
        big.finish()
        shutil.rmtree(sb.path('work'))
        shutil.copytree(sb.path('first-work'), sb.path('work'))
        check(snapshot(sb.path('work')).keys() == work.keys(), 'the files')
        check(sb.restore('small', expect_pid=program.pid) == program.pid, 'the earlier checkpoint restores')
        program.finish()
    finally:
        libc.umount2(sb.path('small').encode(), 2)


# --- the restore ----------------------------------------------------------------------------------------


def pid_taken():
    """The holder is named; it is left alone."""
    program = start('tree_deep')
    pids = sb.dump(program.pid, fresh('img'), kill=False)
    refuse_restore('img', rf'\b{program.pid}\b', 'tree_deep', strangers=pids)
    program.check_same('which holds the pids')
    # One in the middle of the tree.
    program.kill()
    victim = pids[len(pids) // 2]
    write('/proc/sys/kernel/ns_last_pid', str(victim - 1))
    holder = sb.start(['/bin/sleep', '1000'])
    check(holder == victim, f'cannot take pid {victim} (got {holder})')
    sb.wait_for(lambda: b'sleep' in read(f'/proc/{holder}/comm'), 'sleep')
    write('/proc/sys/kernel/ns_last_pid', str(max(pids) + 1000))  # ckpt itself shall not take one
    refuse_restore('img', rf'\b{victim}\b', 'sleep', strangers=[holder])
    kill_tree(sb, holder)
    sb.restore('img', expect_pid=program.pid)
    program.finish()


PARENT = '''
import os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
pid = os.fork()
if pid == 0:
    os.setsid()
    for fd in 1, 2:
        os.dup2(0, fd)
    os.execv("/bin/sleep", ["sleep", "1000"])
print(pid, flush=True)
signal.sigwait({signal.SIGUSR1})
os.waitpid(pid, 0)
print("reaped", flush=True)
signal.pause()
'''


def pid_taken_by_zombie():
    parent = sb.start(['/usr/bin/python3', '-c', PARENT], out='parent.out', cwd='.')
    sb.wait_for(lambda: read(sb.path('parent.out'), b'').endswith(b'\n'), 'the parent')
    pid = int(read(sb.path('parent.out')))
    sb.wait_for(lambda: b'sleep' in read(f'/proc/{pid}/comm'), 'sleep')
    result = sb.ckpt(*sb.dump_args(pid, fresh('img')))
    check(result.rc == 0, 'dump', result.err)
    sb.wait_for(lambda: b'(zombie)' in read(f'/proc/{pid}/status'), 'a zombie')
    refuse_restore('img', rf'\b{pid}\b', 'zombie', rf'\b{parent}\b', strangers=[parent, pid])
    os.kill(parent, signal.SIGUSR1)
    sb.wait_for(lambda: b'reaped' in read(sb.path('parent.out'), b''), 'the parent to wait for it')
    kill_tree(sb, parent)
    sb.restore('img', expect_pid=pid)
    kill_tree(sb, pid)


MEMBER = '''
import os, signal, sys
if os.fork():
    os._exit(0)
if sys.argv[1] == "session":
    os.setpgid(0, 0)
print(os.getpid(), flush=True)
signal.pause()
'''


def pid_taken_by_members():
    """Of a group, or a session, that has lost its leader: nothing in /proc has that number."""
    for kind in 'group', 'session':
        program = start()
        sb.dump(program.pid, fresh('img'))
        write('/proc/sys/kernel/ns_last_pid', str(program.pid - 1))
        leader = sb.start(['/usr/bin/python3', '-c', MEMBER, kind], out='member.out', cwd='.')
        check(leader == program.pid, f'cannot take pid {program.pid} (got {leader})')
        sb.wait_exit(leader)
        sb.children.ended.pop(leader, None)
        sb.wait_for(lambda: read(sb.path('member.out'), b'').endswith(b'\n'), 'the member')
        member = int(read(sb.path('member.out')))
        write('/proc/sys/kernel/ns_last_pid', str(member + 1000))  # no number of this round comes again
        refuse_restore('img', rf'pid {program.pid} is taken by a .*{kind}', rf'pid {member} \(python3\)', strangers=[member])
        kill_tree(sb, member)
        sb.restore('img', expect_pid=program.pid)
        program.finish()
        os.unlink(sb.path('member.out'))


ORPHANS = '''
import ctypes, os, signal
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
r, w = os.pipe()
def say():
    os.write(w, f"{os.getpid()} ".encode())
    signal.pause()
def gone(what):  # by a child that ends
    pid = os.fork()
    if pid == 0:
        what()
        os._exit(0)
    os.waitpid(pid, 0)
if os.fork() == 0:  # the leader of a session, with an orphan in it
    os.setsid()
    gone(lambda: os.fork() or say())
    say()
def leave_group():
    os.setpgid(0, 0)
    os.fork() or say()
gone(leave_group)
text = b""
while text.count(b" ") < 3:
    text += os.read(r, 100)
open("pids", "w").write(text.decode())
open("ready", "w").close()
signal.pause()
'''


def take_pid(pid, ours):
    write('/proc/sys/kernel/ns_last_pid', str(pid - 1))
    holder = sb.start(['/bin/sleep', '1000'])
    check(holder == pid, f'cannot take pid {pid} (got {holder})')
    sb.wait_for(lambda: b'sleep' in read(f'/proc/{holder}/comm'), 'sleep')
    write('/proc/sys/kernel/ns_last_pid', str(max(ours) + 1000))
    return holder


def pid_of_helper_taken():
    """Numbers that helpers of the restore need for a moment: any free one will do below the leader of a session, but a
    dead leader's is told before anything starts."""
    for f in os.listdir(sb.path('work')):
        os.unlink(sb.path('work', f))
    root = sb.start(['/usr/bin/python3', '-c', ORPHANS])
    sb.wait_for(lambda: os.path.exists(sb.path('work/ready')), 'the orphans')

    def fields(pid):
        return read(f'/proc/{pid}/stat').decode().rsplit(')', 1)[1].split()[1:4]  # parent, group, session

    ids = {int(p): fields(int(p)) for p in read(sb.path('work/pids')).split()}
    dead = [int(group) for _, group, _ in ids.values() if int(group) not in ids and int(group) != root]
    check(len(dead) == 1, 'there is no group without a leader', ids)
    pids = sb.dump(root, fresh('img'))
    holder = take_pid(max(*pids, *dead) + 1, pids)
    sb.restore('img', expect_pid=root)
    check({p: fields(p) for p in ids} == ids, 'parents, groups, sessions', ids, {p: fields(p) for p in ids})
    os.kill(holder, signal.SIGKILL)
    sb.wait_exit(holder)
    pids = sb.dump(root, fresh('img'))
    holder = take_pid(dead[0], pids)
    refuse_restore('img', rf'pid {dead[0]} is taken by sleep', 'nothing was created', strangers=[holder])
    kill_tree(sb, holder)
    sb.restore('img', expect_pid=root)
    kill_tree(sb, root)


def files_changed():
    """Missing, of another size, of another kind: refused by name; put right, it restores."""
    program = start('fd_regular')
    sb.dump(program.pid, fresh('img'))
    path = sb.path('work/append')
    os.rename(path, path + '.away')
    refuse_restore('img', 'work/append')
    write(path, 'short')
    refuse_restore('img', 'work/append', 'size|bytes')
    os.unlink(path)
    os.mkdir(path)
    refuse_restore('img', 'work/append')
    os.rmdir(path)
    os.rename(path + '.away', path)
    with open(path, 'ab') as f:
        f.write(b'more')
    refuse_restore('img', 'work/append', 'size|bytes')
    os.truncate(path, os.path.getsize(path) - 4)
    sb.restore('img', expect_pid=program.pid)
    program.check_same('after all')
    program.finish()


def mapped_files_missing():
    """The executable itself."""
    program = start('mem_fields')
    path = sb.path('work/mem_fields.copy')
    sb.dump(program.pid, fresh('img'))
    os.rename(path, path + '.away')
    refuse_restore('img', 'mem_fields.copy')
    os.rename(path + '.away', path)
    sb.restore('img', expect_pid=program.pid)
    program.finish()


def directory_missing():
    program = start('fs_cwd')
    sb.dump(program.pid, fresh('img'))
    os.rename(sb.path('work/other/dir'), sb.path('work/other/gone'))
    refuse_restore('img', 'other/dir')
    os.rename(sb.path('work/other/gone'), sb.path('work/other/dir'))
    sb.restore('img', expect_pid=program.pid)
    program.finish()


def stopped_and_leave_stopped():
    """-s: the tree stays stopped after a dump and after a restore, and goes on with SIGCONT."""
    program = start()
    result = sb.ckpt(*sb.dump_args(program.pid, fresh('img'), '-s'))
    check(result.rc == 0, 'dump -s', result.err)
    check(b'T (stopped)' in read(f'/proc/{program.pid}/status'), 'dump -s: it is not stopped')
    program.kill()
    sb.restore('img', '-s', expect_pid=program.pid)
    check(b'T (stopped)' in read(f'/proc/{program.pid}/status'), 'restore -s: it is not stopped')
    os.kill(program.pid, signal.SIGCONT)
    program.check_same('after SIGCONT')
    program.finish()


CASES = [no_such_pid, a_thread_that_leads_nothing, a_zombie, pid_1, ckpt_itself, another_session, other_user, no_privileges,
         traced_target, not_an_image_directory, no_space, pid_taken, pid_taken_by_zombie, pid_taken_by_members, pid_of_helper_taken, files_changed, mapped_files_missing,
         directory_missing, stopped_and_leave_stopped]
only = sys.argv[1:] or os.environ.get('CKPT_TEST_ONLY', '').split()
failures = Failures(sb)
for case in CASES:
    if only and case.__name__ not in only:
        continue
    try:
        case()
        sb.no_strangers(set())
        print(f'{case.__name__}: ok', flush=True)
    except Exception as e:  # pylint: disable=broad-except
        failures.add(case.__name__, e)
failures.check()
