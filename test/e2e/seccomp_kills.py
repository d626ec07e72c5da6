#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: serial timeout=200
"""SIGKILL of ckpt while it is in processes whose seccomp filters forbid every system call of the way out, by killing
them: at each fault point of a visit, and at random moments. The processes run on as they were, and the helper that sees
to it ends. The same with stopped processes. Of a restore, no process is left. A dump and a restore after all that
succeed."""
import os
import random
import signal
import time

from _scenario import SETTLE, Failure, Program, Sandbox, check, number, procview

POINTS = ['dump-seize-each', 'dump-seize-each:2', 'dump-frozen', 'dump-inject-mmap', 'dump-inject-mmap:2', 'dump-inject-mmap:3',
          'dump-in-agent', 'dump-in-agent:2', 'dump-in-agent:3', 'dump-agent-left:2', 'dump-agent-left:3', 'dump-collect',
          'dump-before-commit', 'dump-before-resume']
RESTORE_POINTS = ['restore-threads', 'restore-attributes', 'restore-before-finish', 'restore-finish-half', 'restore-finished']
KILLS = number('KILLS', 40)

sb = Sandbox.from_env()
random.seed(number('SEED', time.time_ns()))
random_kills = 0


def state(pid):
    with open(f'/proc/{pid}/stat') as f:
        return f.read().rsplit(')', 1)[1].split()[0]


def settle(program, tree, what):
    check(sb.children.poll(lambda: not [p for p in sb.others() if p not in tree | sb.bystanders], SETTLE),
          f'{what}: processes of ckpt are left', *sb.where())
    try:
        program.check_same(what)
    except Failure as e:
        raise Failure(f'{what}: {e}', e.details) from e


def kill_at_points(program, tree):
    for point in POINTS:
        os.makedirs(sb.path('points'), exist_ok=True)
        result = sb.ckpt('dump', '-R', '-t', str(program.pid), '-D', sb.path('points'), env={'CKPT_FAULT': f'{point}=kill'})
        check(result.rc == -signal.SIGKILL, f'{point}: not passed', result)
        settle(program, tree, point)


def kill_at_random(program, tree, limit):
    global random_kills
    for i in range(KILLS):
        handle = sb.ckpt_start(*sb.dump_args(program.pid, 'random', '-R'))
        while not os.path.exists(handle.base + '.err'):
            pass  # the shell that becomes ckpt
        end = time.monotonic() + random.uniform(0, limit)
        while time.monotonic() < end and handle.pid not in sb.children.ended:
            sb.children.reap()
        if handle.pid not in sb.children.ended:
            os.kill(handle.pid, signal.SIGKILL)
        result = sb.ckpt_wait(handle, 30)
        random_kills += result.rc == -signal.SIGKILL
        settle(program, tree, f'kill {i} (ckpt: {result.rc})')


def kill_restores(images):
    for point in RESTORE_POINTS:
        for action, rc in (('kill', -signal.SIGKILL), ('fail', 1)):
            result = sb.ckpt(*sb.restore_args(images), env={'CKPT_FAULT': f'{point}={action}'})
            check(result.rc == rc, f'{point}={action}: exit status {result.rc}', result)
            check(sb.children.poll(lambda: not sb.others(), SETTLE), f'{point}={action}: processes are left', *sb.where())


def run(name, args, rest, stopped):
    program = Program(sb, name, *args, rest=rest)
    check(program.wait_ready(), name)
    tree = set(procview.tree(program.pid))
    if stopped:
        # Not the parent, which has no filter: stopped, it leaves a visit when it is continued.
        for p in tree - {program.pid}:
            os.kill(p, signal.SIGSTOP)
        check(sb.children.poll(lambda: all(state(p) == 'T' for p in tree - {program.pid}), SETTLE), 'not all are stopped')
        program.before = sb.view(program.pid, rest=False)
    start = time.monotonic()
    sb.dump(program.pid, 'first', kill=False, decode=False)
    limit = (time.monotonic() - start) * 1.2
    program.check_same('before any kill')
    kill_at_points(program, tree)
    kill_at_random(program, tree, limit)
    sb.dump(program.pid, 'last')
    if not stopped:
        kill_restores('last')
    sb.children.ended.clear()
    sb.restore('last', expect_pid=program.pid)
    program.check_same('restored')
    if stopped:
        for p in tree - {program.pid}:
            os.kill(p, signal.SIGCONT)
    program.finish()


run('seccomp_locked', [], True, False)
run('seccomp_locked', ['spin'], False, False)
run('seccomp_locked', [], True, True)
print(f'{random_kills} kills at random moments')
check(random_kills >= KILLS // 2, f'most kills came too late: {random_kills}')
