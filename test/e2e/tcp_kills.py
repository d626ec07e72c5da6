#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=180
"""ckpt dies, or fails, while it has a server's live connections in hand: the server runs on, its clients on another machine
never notice, no lock stays. A restore that dies leaves the lock, and the next one succeeds."""
import os
import signal

from _net import Counts, OtherMachine, counter, locks
from _scenario import Sandbox, check, number, read

MEGABYTE = 1 << 20
N = 4
BUSY = 'dump-socket-quiet=fail,'
DUMP = [f'{point}={action}' for point in ('dump-network-locked', 'dump-socket-repair', BUSY + 'dump-socket-repair',
                                          BUSY + 'dump-socket-repair:2', 'dump-memory', 'dump-before-commit',
                                          'dump-committed')
        for action in ('kill', 'fail')] + 4 * [where + '=kill' for where in (
            'dump-socket-repair', BUSY + 'dump-socket-repair', BUSY + 'dump-socket-repair:2')]
RESTORE = ['restore-loaded=kill', 'restore-files=kill', 'restore-sockets=kill', 'restore-sockets=fail',
           'restore-finished=kill', 'restore-finished=fail']

sb = Sandbox.from_env()
there = OtherMachine(sb)


def text(name):
    return read(sb.path(name), b'').decode()


def alive():
    for pid, name in ((server, 'work/out-server'), (client, 'out-client')):
        check(pid not in sb.children.ended, f'{name} has ended', text(name))
    return True


def flows(what):
    a, b = here.received(), away.received()
    sb.wait_for(lambda: alive() and all(x > y + MEGABYTE // 4 for x, y in zip(here.received(), a)) and
                all(x > y + MEGABYTE // 4 for x, y in zip(away.received(), b)), f'the streams to flow after {what}')
    check(there.resets() == 0 and counter('OutRsts') == 0, f'{what}: resets')


server = sb.start([sb.program('tcp_end'), 'server', str(N), '10.9.0.1', '7001'], out='work/out-server')
sb.wait_for(lambda: os.path.exists(sb.path('work/server')) and os.path.getsize(sb.path('work/server')), 'the server')
client = there.start([sb.program('tcp_end'), sb.path('client'), str(N), '10.9.0.1', '7001', 'connect'], out='out-client')
here, away = Counts(sb.path('work/server')), Counts(sb.path('client'))
sb.wait_for(lambda: alive() and here.least() > MEGABYTE and away.least() > MEGABYTE, 'the streams to flow')

for n in range(number('ROUNDS', 1)):
    for fault in DUMP:
        # A dump that was killed after its commit has replaced the images, and left the tree: as with -R.
        result = sb.ckpt(*sb.dump_args(server, 'img', '--tcp-established'), env={'CKPT_FAULT': fault})
        check(result.rc != 0, f'{fault}: exit status {result.rc}', result.err)
        flows(fault)
        sb.wait_for(lambda: locks() == [], f'the lock to go after {fault}: {locks()}', 5)
        sb.no_strangers({server, client})
    sb.dump(server, 'img', '--tcp-established')
    lock = locks()
    check(len(lock) == 1, f'locks after the dump: {lock}')
    for fault in RESTORE:
        result = sb.ckpt(*sb.restore_args('img', '--tcp-established'), env={'CKPT_FAULT': fault})
        check(result.rc != 0, f'{fault}: exit status {result.rc}', result.err)
        sb.no_strangers({client})
        check(locks() == lock, f'{fault}: locks: {locks()}, after the dump {lock}')
    sb.children.ended.pop(server, None)  # of the restores that failed
    sb.restore('img', '--tcp-established', expect_pid=server)
    check(locks() == [], f'locks after the restore: {locks()}')
    flows('the restore')
sb.signal(client, signal.SIGTERM)
sb.signal(server, signal.SIGTERM)
check(sb.wait_exit(server) == 0, 'the server failed', text('work/out-server'))
check(sb.wait_exit(client) == 0, 'the client failed', text('out-client'))
