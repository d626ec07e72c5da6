#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Home nodes of NUMA policies (set_mempolicy_home_node): no program can ask for them, but the next dump sees that they have come
back."""
import glob

import _images
from _scenario import Program, Sandbox, check, skip

VMAS, HOME_NODE = 14, 2005


def homes(sb, images):
    """Where areas with home nodes begin."""
    found = set()
    for path in glob.glob(sb.path(f'{images}/mm-*.img')):
        _, entries = _images.load(path)
        for number, _, value in entries[0]:
            area = _images.decode(value) if number == VMAS else []
            if _images.get(area, HOME_NODE) is not None:
                found.add((path.rsplit('/', 1)[1], _images.get(area, 1), _images.get(area, HOME_NODE)))
    return found


sb = Sandbox.from_env()
if sb.ckpt('check', '--feature', 'bpf_task_vma').rc != 0:
    skip('nothing tells of home nodes without BPF')
program = Program(sb, 'numa_areas', 'home')
if not program.wait_ready():
    skip(program.skipped)
sb.dump(program.pid, 'img0')
first = homes(sb, 'img0')
check(len(first) == 1, f'home nodes: {first}')
for n in range(2):
    sb.restore(f'img{n}', expect_pid=program.pid)
    sb.dump(program.pid, f'img{n + 1}')
    check(homes(sb, f'img{n + 1}') == first, f'home nodes: {homes(sb, f"img{n + 1}")}, not {first}')
sb.restore('img2', expect_pid=program.pid)
program.finish()
