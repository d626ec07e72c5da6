#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A program that goes from directory to directory, and opens and renames files all the time: nothing of that stands against a
dump, whatever is seen half before and half after a change."""
import os

from _scenario import Program, Sandbox, check

CHECKS = 60

sb = Sandbox.from_env()
program = Program(sb, 'restless', rest=False)
sb.wait_for(lambda: os.path.exists(sb.path('work/ready')), 'the program to become ready')
for n in range(CHECKS):
    rc, text = sb.check_tree(program.pid)
    check(rc == 0, f'ckpt check -t, call {n}: exit status {rc}', text)
for n in range(3):
    sb.dump(program.pid, f'img{n}', decode=False)
    sb.restore(f'img{n}', expect_pid=program.pid)
program.finish()
