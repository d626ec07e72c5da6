#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=60
"""A network lock that nobody will ever need again: `ckpt check` names it and offers to remove it, on a terminal only; and
keeps its hands off one that a running ckpt works with, and off everybody else's tables."""
import os
import shutil
import signal

from _net import OtherMachine, check_on_terminal, locks, nft
from _scenario import Sandbox, check, read

sb = Sandbox.from_env()
there = OtherMachine(sb)


def serve(port):
    server = sb.start([sb.program('tcp_end'), f'server-{port}', '1', '10.9.0.1', port], out=f'work/out-{port}')
    sb.bystanders.add(server)
    path = sb.path(f'work/server-{port}')
    sb.wait_for(lambda: os.path.exists(path) and os.path.getsize(path), 'the server')
    there.start([sb.program('tcp_end'), sb.path(f'client-{port}'), '1', '10.9.0.1', port, 'connect'], out=f'out-{port}')
    sb.wait_for(lambda: os.path.exists(sb.path(f'client-{port}')), 'the client')
    return server


def dump(server, images):
    result = sb.ckpt(*sb.dump_args(server, images, '--tcp-established'))
    check(result.rc == 0, f'dump: exit status {result.rc}', result.err)
    sb.wait_gone([server])


nft('add table inet ckpt-not-one-of-ours; add table inet somebodys')
dump(serve('7001'), 'img1')
first, = [n for n in locks() if n != 'ckpt-not-one-of-ours']
shutil.rmtree(sb.path('img1'))
# In a script it only says so.
result = sb.ckpt('check')
check(f'nft delete table inet {first}' in result.out and 'Remove it now' not in result.out, 'check in a script', result.out)
asked, text = check_on_terminal(sb, b'n')
check(asked == 1 and first in locks(), f'asked {asked} times; answered no: {locks()}', text)

# A dump that is under way: it waits in its action script.
gate = sb.path('gate')
os.mkfifo(gate)
script = sb.path('action')
with open(script, 'w', encoding='ascii') as f:
    f.write(f'#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-dump ] || read line <{gate}\n')
os.chmod(script, 0o755)
server = serve('7002')
handle = sb.ckpt_start(*sb.dump_args(server, 'img2', '--tcp-established', '--action-script', script))
sb.wait_for(lambda: len(locks()) == 3, 'the lock of the second dump')
second, = [n for n in locks() if n not in (first, 'ckpt-not-one-of-ours')]
asked, text = check_on_terminal(sb, b'y')
check(asked == 1 and 'Removed' in text and f'{second}: pid ' in text, f'asked {asked} times', text)
check(sorted(locks()) == sorted([second, 'ckpt-not-one-of-ours']), f'locks: {locks()}', text)
with open(gate, 'w', encoding='ascii') as f:
    f.write('go on\n')
result = sb.ckpt_wait(handle)
check(result.rc == 0, f'the second dump: exit status {result.rc}', result.err)
sb.wait_gone([server])
sb.children.ended.pop(server, None)
result = sb.ckpt(*sb.restore_args('img2', '--tcp-established'))
check(result.rc == 0, f'its restore: exit status {result.rc}', result.err)
check(locks() == ['ckpt-not-one-of-ours'] and 'somebodys' in nft('list tables'), f'locks: {locks()}')
sb.signal(server, signal.SIGKILL)
