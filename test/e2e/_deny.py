# SPDX-License-Identifier: GPL-2.0-only
"""ckpt under a seccomp filter that forbids one system call, as the profile of a container engine might."""
import os

DENIED = """#!/usr/bin/env python3
import ctypes, os, struct, sys

def insn(code, jt, jf, k):
    return struct.pack('=HBBI', code, jt, jf, k)

prog = (insn(0x20, 0, 0, 0) + insn(0x15, 0, 1, NUMBER) +   # the number of the call
        insn(0x06, 0, 0, 0x00050001) +                  # EPERM
        insn(0x06, 0, 0, 0x7fff0000))
buf = ctypes.create_string_buffer(prog)
fprog = ctypes.create_string_buffer(struct.pack('@HP', len(prog) // 8, ctypes.addressof(buf)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, fprog, 0, 0) != 0:
    sys.exit(f'seccomp: {os.strerror(ctypes.get_errno())}')
os.execv(CKPT, [CKPT] + sys.argv[1:])
"""


def deny(sb, name, number):
    """Make DIR/name, which runs ckpt, where system call `number` (x86-64) gives EPERM."""
    with open(sb.path(name), 'w') as f:
        f.write(DENIED.replace('CKPT', repr(sb.ckpt_path)).replace('NUMBER', str(number)))
    os.chmod(sb.path(name), 0o755)
