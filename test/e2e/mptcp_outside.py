#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=180
"""A client on MPTCP sockets whose server, on another machine, knows only TCP: both never stop sending. Dumps that leave it
running, fail or die are not noticed; it is dumped and restored, also after a dump that was killed while it killed the tree, and
again as what it then is. No RST arrives, no byte is wrong, no rule is left."""
import os
import signal
import socket
import time

from _net import Counts, OtherMachine, locks, terminate
from _scenario import Sandbox, check, number, read, skip

MEGABYTE = 1 << 20
GAP = number('GAP', 1)
N = 4
FAULTS = [f'{point}={action}' for point in ('dump-network-locked', 'dump-socket-repair', 'dump-memory', 'dump-committed')
          for action in ('kill', 'fail')]

sb = Sandbox.from_env()
try:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
except OSError as e:
    skip(f'no MPTCP here: {e}')
if sb.ckpt('check', '--feature', 'bpf_peek').rc != 0:
    skip('no BPF here')
there = OtherMachine(sb)


def text(name):
    return read(sb.path(name), b'').decode()


class Streams:
    def __init__(self, address, port):
        self.name = f'{address} {port}'
        self.out, self.out_there = f'work/out-{port}', f'out-{port}'
        self.server = there.start([sb.program('tcp_end'), sb.path(f'server-{port}'), str(N), address, port], out=self.out_there)
        counts = sb.path(f'server-{port}')
        sb.wait_for(lambda: os.path.exists(counts) and os.path.getsize(counts), 'the server')
        self.client = sb.start([sb.program('tcp_end'), f'client-{port}', str(N), address, port, 'mptcp'], out=self.out)
        self.away, self.here = Counts(counts), Counts(sb.path(f'work/client-{port}'))
        sb.wait_for(lambda: os.path.exists(sb.path(f'work/client-{port}')) and self.alive(), 'the client')
        self.flow('the start')

    def alive(self):
        for pid, name in ((self.client, self.out), (self.server, self.out_there)):
            check(pid not in sb.children.ended, f'{name} has ended', text(name))
        return True

    def flow(self, what):
        a, b = self.here.received() or [0] * N, self.away.received() or [0] * N
        sb.wait_for(lambda: self.alive() and len(self.here.received()) == N and
                    all(x > y + MEGABYTE // 4 for x, y in zip(self.here.received(), a)) and
                    all(x > y + MEGABYTE // 4 for x, y in zip(self.away.received(), b)), f'the streams to flow after {what}')
        # What is sent here in the end is held back by the lock.
        check(there.resets() == 0, f'{self.name}: {what}: {there.resets()} resets')

    def dump(self, images, *args, fault=None):
        return sb.ckpt(*sb.dump_args(self.client, images, '--tcp-established', *args), env={'CKPT_FAULT': fault} if fault else None)

    def restore(self, images):
        check(len(locks()) == 1, f'locks after the dump: {locks()}')
        time.sleep(GAP)
        sb.children.ended.pop(self.client, None)
        sb.restore(images, '--tcp-established', expect_pid=self.client)
        check(locks() == [], f'locks after the restore: {locks()}')
        self.flow(f'the restore from {images}')

    def end(self):
        terminate(sb, self.server, self.client)
        check(sb.wait_exit(self.client) == 0, 'the client failed', text(self.out))
        check(sb.wait_exit(self.server) == 0, 'the server failed', text(self.out_there))
        check([s for s, _ in self.here.read()] == self.away.received() and
              [s for s, _ in self.away.read()] == self.here.received(), 'not all has arrived', self.here.read(), self.away.read())


for at, address in enumerate(('10.9.0.2', 'fd09::2')):
    s = Streams(address, f'70{at}1')
    result = s.dump('img-none', fault='kernel-bpf=fail')
    check(result.rc == 1 and 'speaks plain TCP' in result.err and 'bpf_peek' in result.err, 'it was not refused', result.err)
    s.flow('the refusal')
    for fault in FAULTS:
        result = s.dump('img-fault', fault=fault)
        check(result.rc != 0, f'{fault}: exit status {result.rc}', result.err)
        s.flow(fault)
        sb.wait_for(lambda: locks() == [], f'the lock to go after {fault}: {locks()}')
        sb.no_strangers({s.client, s.server})
    for n in range(3):
        result = s.dump(f'img-left-{n}', '-R')
        check(result.rc == 0, f'dump -R: exit status {result.rc}', result.err)
        check(locks() == [], f'locks after dump -R: {locks()}')
        s.flow('dump -R')
    for n in range(2):
        images = f'img-{at}-{n}'
        result = s.dump(images)
        check(result.rc == 0, f'dump: exit status {result.rc}', result.err)
        s.restore(images)
    s.end()
    s = Streams(address, f'70{at}2')
    result = s.dump('img-killed', fault='dump-kill-half=kill')
    check(result.rc == -signal.SIGKILL, f'exit status {result.rc}', result.err)
    sb.wait_for(lambda: not os.path.exists(f'/proc/{s.client}'), 'the tree to be dead')
    s.restore('img-killed')
    s.end()
