#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=60
"""What ckpt may not give a thread, priorities of real time or a nice value, it says before there is any process."""
import os
import signal

from _scenario import Sandbox, check, read
from e2e.harness import skip

WITHOUT = ['/usr/bin/setpriv', '--bounding-set=-sys_nice', '--inh-caps=-sys_nice']


def run(name, before):
    pid = sb.start([*before, *WITHOUT, sb.program('trivial')])
    try:
        sb.wait_ready(pid)
    except Exception:
        skip(f'{name}: not possible here: {read(sb.path("work/out"))}')
    sb.dump(pid, name)
    whole = sb.ckpt_path
    sb.ckpt_path = sb.path('without')
    with open(sb.ckpt_path, 'w') as f:
        # RLIMIT_NICE and RLIMIT_RTPRIO would do as well.
        f.write(f'#!/bin/sh\nulimit -e 0; ulimit -r 0\nexec {" ".join(WITHOUT)} {whole} "$@"\n')
    os.chmod(sb.ckpt_path, 0o755)
    result = sb.ckpt(*sb.restore_args(name), env={'CKPT_FAULT': 'restore-root-cloned=kill'})
    sb.ckpt_path = whole
    check(result.rc == 1, f'{name}: not refused before there is a process', result)
    check('scheduling policy' in result.err and 'CAP_SYS_NICE' in result.err, f'{name}: refused for something else', result)
    sb.no_strangers([])
    sb.restore(name, expect_pid=pid)
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, f'{name}: it found itself changed')
    os.unlink(sb.path('work/ready'))


sb = Sandbox.from_env()
run('nice', ['/usr/bin/nice', '-n', '-5'])
run('round', ['/usr/bin/chrt', '-r', '3'])
run('fifo', ['/usr/bin/chrt', '-f', '3'])
