#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: serial timeout=400
"""SIGKILL and Ctrl-C at random moments, to the command or to any other process of it. Of a dump: the tree runs on as
it was (registers, system calls, masks, areas, descriptors), an earlier checkpoint in the directory stays whole. Of a
restore: no process is left. A dump and a restore after all that succeed."""
import os
import random
import signal
import time

from _scenario import SETTLE, Failure, Program, Sandbox, check, kill_tree, number, procview, snapshot

# name -> whether all of it sleeps
PROGRAMS = {'sys_blocked': True, 'regs_general': False, 'tree_sessions': True, 'sig_altstack': True, 'many': True,
            'many_processes processes': True}
# The kernel itself ends sigwaitinfo with EINTR when its thread is stopped: nobody is left to hide it.
ARGS = {'sys_blocked': ['sigwaitinfo-eintr']}
KILLS = number('KILLS', 240)      # of a dump, over all programs
RESTORES = number('RESTORE_KILLS', 120)

sb = Sandbox.from_env()
random.seed(number('SEED', time.time_ns()))
counts = {}


def count(what):
    counts[what] = counts.get(what, 0) + 1


def images(directory):
    """The images, and under '' which set they are."""
    try:
        st = os.stat(sb.path(directory, 'inventory.img'))
    except FileNotFoundError:
        st = None
    return {'': st and (st.st_ino, st.st_mtime_ns)} | {f: what for f, what in snapshot(sb.path(directory)).items() if f.endswith('.img') and not f.startswith('stats-')}


def strike(handle, limit, tree):
    """Wait some time below limit, then hit the command or one of its processes. What is being
    restored is not ckpt's own: who kills that gets what he wanted. Returns how."""
    while not os.path.exists(handle.base + '.err'):
        pass  # the shell that becomes ckpt
    end = time.monotonic() + random.uniform(0, limit) * random.choice((0.3, 1, 1))
    while time.monotonic() < end and handle.pid not in sb.children.ended:
        sb.children.reap()
    how = random.choice(('kill command', 'kill command', 'kill another', 'kill all', 'interrupt', 'terminate'))
    if handle.pid in sb.children.ended:
        return 'too late'
    targets = [p for p in procview.tree(handle.pid) if p not in tree]
    if how == 'kill another':
        targets = targets[1:] and [random.choice(targets[1:])] or targets
    elif how != 'kill all':
        targets = [handle.pid]
    sig = {'interrupt': signal.SIGINT, 'terminate': signal.SIGTERM}.get(how, signal.SIGKILL)
    for p in targets:
        try:
            os.kill(p, sig)
        except ProcessLookupError:
            pass
    return how


def wait_ckpt_gone(tree):
    """Whatever process of ckpt remains to roll back ends by itself."""
    check(sb.children.poll(lambda: not [p for p in sb.others() if p not in tree], SETTLE), 'processes of ckpt are left',
          *sb.where())


def check_earlier(directory, whole):
    """The earlier checkpoint is untouched, or the new one has been committed and can be read. Returns what to compare
    with next time; None in the middle of a commit, whose files may be either's."""
    committing = os.path.exists(sb.path(directory, '.ckpt-commit'))
    now = images(directory)
    if whole and not committing and now[''] == whole['']:
        lost = {f for f in whole if now.get(f) != whole[f]}
        check(not lost, f'images of the earlier checkpoint are changed or gone: {sorted(lost)}')
        return whole
    result = sb.ckpt('inspect', '-D', sb.path(directory))
    check(result.rc == 0, 'the new checkpoint cannot be read', result.err)
    count('committed')
    return None if os.path.exists(sb.path(directory, '.ckpt-commit')) else images(directory)


def kill_dumps(name, n):
    program = Program(sb, *name.split(), *ARGS.get(name, ()), rest=PROGRAMS[name])
    check(program.wait_ready(), name)
    tree = procview.tree(program.pid)
    directory = f'dump-{name}'.replace(' ', '-')
    start = time.monotonic()
    sb.dump(program.pid, directory, kill=False, decode=False)
    limit = (time.monotonic() - start) * 1.2
    program.check_same('before any kill')
    whole = images(directory)
    for i in range(n):
        handle = sb.ckpt_start(*sb.dump_args(program.pid, directory, '-R'))
        how = strike(handle, limit, tree)
        result = sb.ckpt_wait(handle, 30)
        wait_ckpt_gone(set(tree) | sb.bystanders)
        what = f'{name}, dump {i}: {how} (ckpt: {result.rc})'
        count(how if result.rc else 'too late')
        try:
            check(result.rc in (0, 1, -signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT,
                                128 + signal.SIGTERM), 'an odd exit status', result.err)
            program.check_same(what)
            whole = check_earlier(directory, whole)
        except Failure as e:
            raise Failure(f'{what}: {e}', e.details) from e
    fresh = f'fresh-{name}'.replace(' ', '-')
    sb.dump(program.pid, fresh, kill=False, decode=False)
    pids = sb.dump(program.pid, directory)
    check(images(directory).keys() == images(fresh).keys(), 'left in the image directory by killed dumps: '
          f'{sorted(images(directory).keys() ^ images(fresh).keys())}')
    strange = {f for f in os.listdir(sb.path(directory)) if not f.endswith('.log')} - set(os.listdir(sb.path(fresh)))
    check(not strange, f'left in the image directory by killed dumps: {sorted(strange)}')
    return program, pids, directory


def kill_restores(program, pids, directory, n):
    start = time.monotonic()
    sb.restore(directory, expect_pid=program.pid)
    limit = (time.monotonic() - start) * 1.2
    program.check_same('restored')
    sb.dump(program.pid, directory, decode=False)
    whole = images(directory)
    for i in range(n):
        handle = sb.ckpt_start(*sb.restore_args(directory))
        how = strike(handle, limit, pids)
        result = sb.ckpt_wait(handle, 30)
        what = f'{program.name}, restore {i}: {how} (ckpt: {result.rc})'
        count(how if result.rc else 'too late')
        try:
            check(images(directory) == whole, 'the images are changed')
            if result.rc == 0 or program.outlives(pids):
                # It was done already, then; what is there must be the whole tree, let go and as it was.
                check(set(sb.others()) == set(pids), f'processes are left: {sb.others()}', *sb.where())
                program.check_same(what)
                kill_tree(sb, program.pid)
            sb.no_strangers(set())
        except Failure as e:
            raise Failure(f'{what}: {e}', e.details) from e
    # How the processes of killed restores ended is not how this one does.
    sb.children.reap()
    sb.children.ended.clear()
    sb.restore(directory, expect_pid=program.pid)
    program.check_same('restored at last')
    program.finish()


for name in PROGRAMS:
    kill_restores(*kill_dumps(name, KILLS // len(PROGRAMS)), RESTORES // len(PROGRAMS))
print(', '.join(f'{how} {n}' for how, n in sorted(counts.items())))
check(sum(n for how, n in counts.items() if how not in ('too late', 'committed')) >= (KILLS + RESTORES) // 4, f'most kills came too late: {counts}')
