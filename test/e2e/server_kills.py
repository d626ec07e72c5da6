#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=300
"""SIGKILL at random moments of dumps of redis, to the command or to all of its processes, while a client keeps its pipe
full: redis runs on, its connections go on, every command is carried out once, no lock stays. Then a dump and a restore."""
import os
import random
import signal
import time

import _redis
from _net import counter, locks
from _scenario import Sandbox, check, number, procview

KILLS = number('KILLS', 40)


def wait_until(moment, pid):
    """False if ckpt has ended before."""
    while time.monotonic() < moment:
        sb.children.reap()
        if pid in sb.children.ended:
            return False
    return True


def strike(handle, limit):
    """Returns whether it came in time."""
    while not os.path.exists(handle.base + '.err'):
        pass  # the shell that becomes ckpt
    if not wait_until(time.monotonic() + random.uniform(0, limit), handle.pid):
        return False
    targets = [handle.pid]
    if random.random() < number('ALL', 50) / 100:
        targets = [p for p in procview.tree(handle.pid) if p != server.pid]
    for p in targets:
        try:
            os.kill(p, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return True


sb = Sandbox.from_env()
random.seed(number('SEED', time.time_ns()))
server, port = _redis.start(sb)
server.add_client(lambda client: _redis.Pipelining(port, os.getpid()).ask(client), 2)
server.progress()
before = server.outline()
limit, hit, slowest = 0, 0, 0
for n in range(KILLS + 3):
    start = time.monotonic()
    handle = sb.ckpt_start(*sb.dump_args(server.pid, 'img', '--tcp-established', '-R'))
    if n < 3:
        # How long it takes when it is left alone.
        check(sb.ckpt_wait(handle).rc == 0, 'dump -R failed')
        limit = max(limit, time.monotonic() - start)
        continue
    hit += strike(handle, limit)
    killed = time.monotonic()
    for c in server.clients:
        c.mark()
    result = sb.ckpt_wait(handle, 30)
    check(result.rc in (0, -signal.SIGKILL), f'kill {n}: exit status {result.rc}', result.err)
    sb.wait_for(lambda: server.alive() and all(c.first() for c in server.clients), f'an answer after kill {n}', 10)
    slowest = max(slowest, *(c.first() - killed for c in server.clients))
    sb.no_strangers({server.pid})
    sb.wait_for(lambda: locks() == [], f'the lock to go after kill {n}: {locks()}', 5)
    check(counter('OutRsts') == server.resets, f'kill {n}: RSTs')
    # The last of its threads may still be on its way out of the visit.
    sb.wait_for(lambda: server.outline() == before, f'the server to be what it was after kill {n}: {before}', 10)
print(f'{hit} of {KILLS} kills hit a dump of {limit * 1000:.0f} ms; an answer {slowest * 1000:.0f} ms later at the latest')
check(hit >= KILLS // 4, f'only {hit} of {KILLS} kills came in time')
server.run()
server.stop()
