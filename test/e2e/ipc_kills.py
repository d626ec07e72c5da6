#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120
"""SIGKILL at fault points and at random moments of a dump or a restore of programs with System V IPC. Of a dump: the
program finds its segments, attachments, semaphores with their adjustments and messages as they were. Of a
restore: nothing is left, and the next one succeeds."""
import random
import time

from _scenario import Program, Sandbox, check, number

PROGRAMS = ('ipc_shm', 'ipc_undo', 'ipc_msg')
DUMP_POINTS = ('dump-frozen', 'dump-inject-mmap', 'dump-in-agent', 'dump-agent-left', 'dump-collect', 'dump-memory-half',
               'dump-before-commit')
RESTORE_POINTS = ('restore-loaded', 'restore-root-cloned', 'restore-tree-half', 'restore-memory', 'restore-tree',
                  'restore-attributes', 'restore-finish-half')
KILLS = number('KILLS', 60) // 12
sb = Sandbox.from_env()
random.seed(number('SEED', time.time_ns()))


def kill_at_random(args, limit):
    handle = sb.ckpt_start(*args)
    time.sleep(random.uniform(0, limit))
    sb.signal(handle.pid, 9)
    sb.children.wait(handle.pid, 20)
    sb.bystanders.discard(handle.pid)


for name in PROGRAMS:
    program = Program(sb, name)
    if not program.wait_ready():
        continue
    for action in ('kill', 'fail'):
        for point in DUMP_POINTS:
            result = sb.ckpt(*sb.dump_args(program.pid, f'{name}-dump'), env={'CKPT_FAULT': f'{point}={action}'})
            check(result.rc == (-9 if action == 'kill' else 1), f'{point}: exit status {result.rc}', result.err)
            program.check_same(f'after {point}={action}')
    start = time.monotonic()
    sb.dump(program.pid, f'{name}-dump', kill=False)
    limit = time.monotonic() - start
    for _ in range(2 * KILLS):
        kill_at_random(sb.dump_args(program.pid, f'{name}-dump', '-R'), limit)
        program.check_same('after a killed dump')
    pids = sb.dump(program.pid, f'{name}-img')
    for action in ('kill', 'fail'):
        for point in RESTORE_POINTS:
            result = sb.ckpt(*sb.restore_args(f'{name}-img'), env={'CKPT_FAULT': f'{point}={action}'})
            check(result.rc == (-9 if action == 'kill' else 1), f'{point}: exit status {result.rc}', result.err)
            sb.no_strangers(set())
    for _ in range(2 * KILLS):
        kill_at_random(sb.restore_args(f'{name}-img'), limit / 8)
        if program.outlives(pids, ['ns.ipc']):
            # The kill came too late: the tree had been let go.
            sb.dump(program.pid, f'{name}-img')
        sb.no_strangers(set())
    sb.children.ended.pop(program.pid, None)
    sb.restore(f'{name}-img', expect_pid=program.pid)
    program.check_same('after all', ['ns.ipc'])
    program.finish()
