#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120
"""Pages that were only read, or never touched, cost nothing in the images, nor does the rest of a sparse mapping."""
import os

from _scenario import Program, Sandbox, check

MIB = 1 << 20
sb = Sandbox.from_env()

for name, most, least in (('mem_zero', 2 * MIB, 0), ('mem_sparse', 14 * MIB, 12 * MIB)):
    program = Program(sb, name)
    check(program.wait_ready(), name)
    sb.dump(program.pid, name)
    files = {f: os.stat(sb.path(name, f)) for f in os.listdir(sb.path(name)) if f.endswith('.img')}
    total = sum(st.st_size for st in files.values())
    blocks = sum(st.st_blocks * 512 for st in files.values())
    # Not by holes in the image files either.
    check(least < total <= most, f'{name}: {total} bytes of images, at most {most} expected',
          *(f'{f} {st.st_size}' for f, st in sorted(files.items())))
    check(blocks <= most + MIB, f'{name}: {blocks} bytes on disk')
    sb.restore(name, expect_pid=program.pid)
    program.check_same('after the restore')
    program.finish()
