#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=150
"""A server whose clients are on another machine and never stop sending: dumped, a gap, restored, twice. No RST ever
leaves, no byte is wrong, all that waits is delivered, and no rule is left."""
import os
import time

from _net import Counts, OtherMachine, counter, locks, terminate
from _scenario import SLOWNESS, Sandbox, check, number, read

MEGABYTE = 1 << 20
GAP = number('GAP', 4)
N = 5

sb = Sandbox.from_env()
there = OtherMachine(sb)


def text(name):
    return read(sb.path(name), b'').decode()


for address, peer, port in (('10.9.0.1', '10.9.0.1', '7001'), ('fd09::1', 'fd09::1', '7002'), ('::', '10.9.0.1', '7003')):
    server = sb.start([sb.program('tcp_end'), 'server', str(N), address, port], out=f'work/out-{port}')
    sb.wait_for(lambda: os.path.exists(sb.path('work/server')) and os.path.getsize(sb.path('work/server')), 'the server')
    client = there.start([sb.program('tcp_end'), sb.path('client'), str(N), peer, port, 'connect'], out=f'client-{port}')
    here, away = Counts(sb.path('work/server')), Counts(sb.path('client'))

    def alive():
        for pid, name in ((server, f'work/out-{port}'), (client, f'client-{port}')):
            check(pid not in sb.children.ended, f'{name} has ended', text(name))
        return True

    sb.wait_for(lambda: alive() and here.least() > MEGABYTE and away.least() > MEGABYTE, 'the streams to flow')
    for n in range(2):
        images = f'img-{port}-{n}'
        sb.dump(server, images, '--tcp-established')
        check(len(locks()) == 1, f'locks after the dump: {locks()}')
        result = sb.ckpt('check')
        check(locks()[0] in result.out and f'dump of pid {server}' in result.out, 'check says nothing of it', result.out)
        time.sleep(GAP)
        sent, before = [s for s, _ in away.read()], here.received()
        start = time.monotonic()
        check(sb.restore(images, '--tcp-established', expect_pid=server) == server, 'another pid')
        check(locks() == [], f'locks after the restore: {locks()}')
        # Not the first byte: all that waited, and more, in both directions.
        got = away.received()
        sb.wait_for(lambda: alive() and all(r > s for r, s in zip(here.received(), sent)) and
                    all(r > g + MEGABYTE for r, g in zip(away.received(), got)), 'the backlog to drain')
        took = time.monotonic() - start
        print(f'{address}: round {n}: drained after {took:.2f} s')
        check(took < 5 * SLOWNESS, f'{address}: what waited took {took:.2f} s to arrive: a peer that has backed off is not woken')
        check(counter('OutRsts') == 0 and there.resets() == 0,
              f'resets: sent {counter("OutRsts")}, there {there.resets()}')
    terminate(sb, client, server)
    check(sb.wait_exit(server) == 0, 'the server failed', text(f'work/out-{port}'))
    check(sb.wait_exit(client) == 0, 'the client failed', text(f'client-{port}'))
    check([s for s, _ in here.read()] == away.received() and [s for s, _ in away.read()] == here.received(),
          'not all has arrived', here.read(), away.read())
    check(counter('OutRsts') == 0 and there.resets() == 0,
              f'resets: sent {counter("OutRsts")}, there {there.resets()}')
    for name in ('work/server', 'client'):
        os.unlink(sb.path(name))
