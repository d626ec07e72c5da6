#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=170
"""Three servers, of IPv4, IPv6 and of both by mapped addresses, whose clients on another machine never stop sending: dumped
by three runs of ckpt side by side, away for 30 s with megabytes under way, and restored side by side. Each run has a lock
of its own and leaves the others' alone, no RST ever leaves, no byte is wrong, no rule is left."""
import os
import time

from _net import Counts, OtherMachine, counter, locks, terminate
from _scenario import Sandbox, check, number, read

MEGABYTE = 1 << 20
GAP = number('GAP', 30)
N = 4
CASES = (('10.9.0.1', '10.9.0.1', '7001'), ('fd09::1', 'fd09::1', '7002'), ('::', '10.9.0.1', '7003'))

sb = Sandbox.from_env()
there = OtherMachine(sb)


class Case:
    def __init__(self, address, peer, port):
        self.port, self.address = port, address
        counts = f'work/server-{port}'
        self.server = sb.start([sb.program('tcp_end'), f'server-{port}', str(N), address, port], out=f'work/out-{port}')
        sb.bystanders.add(self.server)
        sb.wait_for(lambda: os.path.exists(sb.path(counts)) and os.path.getsize(sb.path(counts)), 'the server')
        self.client = there.start([sb.program('tcp_end'), sb.path(f'client-{port}'), str(N), peer, port, 'connect'],
                                  out=f'out-{port}')
        self.here, self.away = Counts(sb.path(counts)), Counts(sb.path(f'client-{port}'))

    def alive(self):
        for pid, name in ((self.server, f'work/out-{self.port}'), (self.client, f'out-{self.port}')):
            check(pid not in sb.children.ended, f'{self.address}: {name} has ended', read(sb.path(name), b'').decode())
        return True

    def flows(self):
        return self.alive() and self.here.least() > 4 * MEGABYTE and self.away.least() > 4 * MEGABYTE

    def drained(self):
        return self.alive() and all(r > s for r, s in zip(self.here.received(), self.sent)) and \
            all(r > g + MEGABYTE for r, g in zip(self.away.received(), self.got))

    def finish(self):
        terminate(sb, self.client, self.server)
        for pid, name in ((self.client, f'out-{self.port}'), (self.server, f'work/out-{self.port}')):
            check(sb.wait_exit(pid) == 0, f'{self.address}: {name} failed', read(sb.path(name), b'').decode())
        check([s for s, _ in self.here.read()] == self.away.received() and
              [s for s, _ in self.away.read()] == self.here.received(), f'{self.address}: not all has arrived')


def no_resets():
    check(counter('OutRsts') == 0 and there.resets() == 0, f'resets: sent {counter("OutRsts")}, there {there.resets()}')


def side_by_side(runs):
    for case, handle in runs:
        result = sb.ckpt_wait(handle)
        check(result.rc == 0, f'{case.address}: {result.argv[1]}: exit status {result.rc}', result.err)


cases = [Case(*c) for c in CASES]
for c in cases:
    sb.wait_for(c.flows, 'the streams to flow')
side_by_side([(c, sb.ckpt_start(*sb.dump_args(c.server, f'img-{c.port}', '--tcp-established'))) for c in cases])
away_since = time.monotonic()
sb.wait_gone([c.server for c in cases])
for c in cases:
    sb.children.ended.pop(c.server, None)
check(len(locks()) == len(CASES), f'locks after the dumps: {locks()}')
result = sb.ckpt('check')
for c in cases:
    check(f'dump of pid {c.server}' in result.out, f'check does not name the lock of {c.address}', result.out)
    c.got = c.away.received()
time.sleep(max(0, GAP - (time.monotonic() - away_since)))
no_resets()
for c in cases:
    c.sent = [s for s, _ in c.away.read()]
    check(min(s - r for s, r in zip(c.sent, c.here.received())) > 0, f'{c.address}: nothing was under way')
print('under way:', [sum(c.sent) - sum(c.here.received()) for c in cases])
# One comes back: the locks of the others stay.
side_by_side([(cases[0], sb.ckpt_start(*sb.restore_args(f'img-{cases[0].port}', '--tcp-established')))])
check(len(locks()) == len(CASES) - 1, f'locks after the first restore: {locks()}')
side_by_side([(c, sb.ckpt_start(*sb.restore_args(f'img-{c.port}', '--tcp-established'))) for c in cases[1:]])
check(locks() == [], f'locks after the restores: {locks()}')
for c in cases:
    sb.wait_for(c.drained, f'{c.address}: what waited to arrive, and more')
no_resets()
for c in cases:
    c.finish()
no_resets()
