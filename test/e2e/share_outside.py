#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A part of a tree that shares a descriptor table or a working directory with its parent, which is not to be dumped, is
refused by name and goes on."""
import re

from _scenario import Program, Sandbox, check, one_clear_line, procview

sb = Sandbox.from_env()
program = Program(sb, 'share_table')
check(program.wait_ready(), 'share_table')
seen = []
for pid in procview.tree(program.pid)[1:]:
    rc, text = sb.check_tree(pid)
    shared = re.findall(r'shares its (.*?) with pid \d+, outside of the tree', text)
    check(not shared or rc == 1, 'not refused', text)
    seen += shared
    if shared:
        result = sb.ckpt(*sb.dump_args(pid, f'img-{pid}', '-j'))
        one_clear_line(result, 'outside of the tree')
check('descriptor table' in seen and 'working directory' in seen, f'not refused by name: {seen}')
program.kill()
