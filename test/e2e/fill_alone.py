#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120
"""Where ckpt may not write into the memory of others (a container engine's seccomp profile forbids process_vm_writev),
a task fills all of its memory itself, small pages and huge ones."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'lib'))
from e2e.harness import Sandbox, check

DENIED = """#!/usr/bin/env python3
import ctypes, os, struct, sys

def insn(code, jt, jf, k):
    return struct.pack('=HBBI', code, jt, jf, k)

prog = (insn(0x20, 0, 0, 0) + insn(0x15, 0, 1, 311) +   # the number of the call; process_vm_writev?
        insn(0x06, 0, 0, 0x00050001) +                  # EPERM
        insn(0x06, 0, 0, 0x7fff0000))
buf = ctypes.create_string_buffer(prog)
fprog = ctypes.create_string_buffer(struct.pack('@HP', len(prog) // 8, ctypes.addressof(buf)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, fprog, 0, 0) != 0:
    sys.exit(f'seccomp: {os.strerror(ctypes.get_errno())}')
os.execv(CKPT, [CKPT] + sys.argv[1:])
"""


def run(sb, program, mib, images):
    ready = sb.path('work/ready')
    if os.path.exists(ready):
        os.unlink(ready)
    pid = sb.start([sb.program(program)], {'CKPT_TEST_SPARSE_MIB': str(mib)})
    sb.wait_ready(pid)
    sb.dump(pid, images)
    sb.ckpt_path, plain = sb.path('denied'), sb.ckpt_path
    try:
        sb.restore(images)
    finally:
        sb.ckpt_path = plain
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, f'{program} found its memory wrong')
    if len(os.sched_getaffinity(0)) > 1:
        with open(sb.path(images, 'restore.log')) as f:
            check('fills its memory alone' in f.read(), 'nobody tried to help, so that nothing was tested')


def main():
    sb = Sandbox.from_env()
    with open(sb.path('denied'), 'w') as f:
        f.write(DENIED.replace('CKPT', repr(sb.ckpt_path)))
    os.chmod(sb.path('denied'), 0o755)
    run(sb, 'mem_sparse', 1024, 'small')
    run(sb, 'mem_large_family', 0, 'huge')


main()
