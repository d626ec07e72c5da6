#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=180
"""ckpt, or who reads sockets for it, dies, or fails, while it has a server's live connections in hand: the server runs on, its
clients on another machine never notice, no lock stays. A restore that dies leaves the lock, and the next one succeeds."""
import os
import re
import signal
import time

from _net import Counts, OtherMachine, counter, locks, terminate
from _scenario import Sandbox, check, number, read

MEGABYTE = 1 << 20
N = 4
BUSY = 'dump-socket-quiet=fail,'
DUMP = [f'{point}={action}' for point in ('dump-network-locked', BUSY + 'dump-socket-each:6',
                                          'dump-socket-repair', BUSY + 'dump-socket-repair',
                                          BUSY + 'dump-socket-repair:2', 'dump-memory', 'dump-before-commit',
                                          'dump-committed')
        for action in ('kill', 'fail')] + ['dump-socket-each=kill'] + 4 * [where + '=kill' for where in (
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

def state(pid):
    return read(f'/proc/{pid}/stat', b') ?').rsplit(b')', 1)[1].split()[0]


def late(faults):
    """ckpt is killed, and who has a socket in repair mode is late, as on a busy machine: until then the server does not run."""
    handle = sb.ckpt_start(*sb.dump_args(server, 'img', '--tcp-established'), env={'CKPT_FAULT': faults})
    said = re.compile(rb'fault point dump-socket-each: pid (\d+) pause\n')
    sb.wait_for(lambda: said.search(read(handle.base + '.err', b'')), 'a socket in repair mode')
    reader = int(said.search(read(handle.base + '.err', b''))[1])
    sb.wait_for(lambda: state(reader) == b'T', 'the reader to be held up')
    os.kill(handle.pid, signal.SIGKILL)
    check(sb.ckpt_wait(handle).rc == -signal.SIGKILL, 'ckpt was not killed')
    for _ in range(20):
        check(state(server) == b't', 'the server runs while a socket of it is in repair mode', state(server))
        time.sleep(0.01)
    os.kill(reader, signal.SIGCONT)
    flows(faults)
    sb.wait_for(lambda: locks() == [], f'the lock to go after {faults}: {locks()}')
    sb.no_strangers({server, client})


for n in range(number('ROUNDS', 1)):
    # What traces the server then is what traces tasks under seccomp.
    if sb.ckpt('check', '--feature', 'seccomp_suspend').rc == 0:
        for faults in ('dump-socket-each=pause', BUSY + 'dump-socket-each:2=pause', BUSY + 'dump-socket-each:7=pause'):
            late(faults)
    for fault in DUMP:
        # A dump that was killed after its commit has replaced the images, and left the tree: as with -R.
        result = sb.ckpt(*sb.dump_args(server, 'img', '--tcp-established'), env={'CKPT_FAULT': fault})
        check(result.rc != 0, f'{fault}: exit status {result.rc}', result.err)
        flows(fault)
        sb.wait_for(lambda: locks() == [], f'the lock to go after {fault}: {locks()}')
        sb.no_strangers({server, client})
    # Killed while it kills the tree: that is completed, behind the lock, which stays.
    result = sb.ckpt(*sb.dump_args(server, 'img', '--tcp-established'), env={'CKPT_FAULT': 'dump-kill-half=kill'})
    check(result.rc == -signal.SIGKILL, 'ckpt was not killed', result.err)
    sb.wait_gone([server])
    sb.no_strangers({client})
    lock = locks()
    check(len(lock) == 1, f'locks after the dump was killed while it killed the tree: {lock}')
    sb.children.ended.pop(server, None)
    sb.restore('img', '--tcp-established', expect_pid=server)
    check(locks() == [], f'locks after the restore: {locks()}')
    flows('the restore of what was being killed')
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
terminate(sb, client, server)
check(sb.wait_exit(server) == 0, 'the server failed', text('work/out-server'))
check(sb.wait_exit(client) == 0, 'the client failed', text('out-client'))
