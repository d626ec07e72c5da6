#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120
"""Images on a tmpfs, for which ckpt asks for huge pages: one with room, one that the images just fit into, one that is too
small for them."""
import ctypes
import os
import shutil
import signal

from _scenario import Sandbox, check, one_clear_line

sb = Sandbox.from_env()
libc = ctypes.CDLL(None, use_errno=True)
KIB = 1024


def mount(name, kib):
    os.makedirs(sb.path(name), exist_ok=True)
    check(libc.mount(b'tmpfs', sb.path(name).encode(), b'tmpfs', 0, f'size={kib}k'.encode()) == 0, 'cannot mount a tmpfs')


def used_kib(name):
    return sum(os.lstat(sb.path(name, f)).st_blocks for f in os.listdir(sb.path(name))) // 2


def main():
    mount('ample', 256 * KIB)
    # 16 MiB and some, of which the last part is no whole huge page.
    pid = sb.start([sb.program('mem_sparse')], {'CKPT_TEST_SPARSE_MIB': '1024'})
    sb.wait_ready(pid)
    sb.dump(pid, 'ample', kill=False)
    needed = used_kib('ample')
    check(needed > 16 * KIB, f'the images have only {needed} KiB')
    mount('small', needed - 1 * KIB)
    one_clear_line(sb.ckpt(*sb.dump_args(pid, 'small')), 'no space|full|ENOSPC')
    check(not [f for f in os.listdir(sb.path('small')) if f.endswith('.img')], 'images are left')
    mount('exact', needed + 256)
    for images in ('exact', 'ample'):
        shutil.rmtree(sb.path(images), ignore_errors=True)
        sb.dump(pid, images)
        check(used_kib(images) <= needed + 256, f'{images}: {used_kib(images)} KiB instead of {needed}')
        check(sb.restore(images, expect_pid=pid) == pid, 'another pid')
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, 'it found its memory wrong')


try:
    main()
finally:
    for place in ('ample', 'small', 'exact'):
        libc.umount2(sb.path(place).encode(), 2)
