#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120 serial
"""Signals to ckpt when it is too late to turn back, while it waits for what needs a CPU: it still ends only when the tree that
was dumped, or its own helper process, has ended."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from _starve import Starved
from e2e import procview
from e2e.harness import CKPT_TIMEOUT, Sandbox, check, tail


def bombard(handle, begun):
    """SIGTERM again and again from the moment on when it is too late."""
    sb.children.poll(lambda: handle.pid in sb.children.ended or begun(), CKPT_TIMEOUT, interval=0.0001)
    sent = 0
    while handle.pid not in sb.children.ended:
        os.kill(handle.pid, signal.SIGTERM)
        sent += 1
        sb.children.reap()
    result = sb.ckpt_wait(handle)
    print(f'{sent} signals')
    return result


def log_has(path, text):
    return lambda: any(text in line for line in tail(path, 20))


def dump(pid, images):
    """Killed tasks are waited for."""
    tree = procview.tree(pid)
    os.kill(pid, signal.SIGSTOP)
    with cpu:
        sb.bystanders.add(cpu.hog)
        handle = sb.ckpt_start(*sb.dump_args(pid, images))
        result = bombard(handle, log_has(sb.path(images, 'dump.log'), 'committed'))
        left, where = sorted(set(sb.others()) & set(tree)), sb.where()
        check(result.rc == 0, 'the dump failed', result)
        check(not left, f'ckpt has ended, but what it has dumped has not: {left}', *where)


def restore(pid, images):
    """Whoever watches over the last step is waited for."""
    if os.path.exists(sb.path('pidfile')):
        os.unlink(sb.path('pidfile'))
    handle = sb.ckpt_start(*sb.restore_args(images, '--pidfile', sb.path('pidfile')))
    result = bombard(handle, lambda: os.path.exists(sb.path('pidfile')))
    left, where = sorted(set(sb.others()) - {pid}), sb.where()
    check(result.rc == 0, 'the restore failed', result)
    check(not left, f'ckpt has ended, but its helpers have not: {left}', *where)


sb = Sandbox.from_env()
cpu = Starved()
root = sb.start(cpu.pinned([sb.program('threads')]))
sb.wait_ready(root)
for name in ('img1', 'img2', 'img3'):
    dump(root, name)
    sb.children.ended.pop(root, None)
    restore(root, name)
os.kill(root, signal.SIGCONT)
sb.signal(root, signal.SIGTERM)
check(sb.wait_exit(root) == 0, 'the program found itself changed')
