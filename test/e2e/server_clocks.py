#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=300 env=CKPT_TEST_DAYS=5 env=CKPT_TEST_ROUNDS=2
"""Servers that keep absolute deadlines in memory, from a machine that has been up for days longer: their timers go on at
once, not in five days; and once more from the time namespace in which they are then."""
import os
import runpy

import _server
from _scenario import skip

with open('/proc/self/timens_offsets', 'rb') if os.path.exists('/proc/self/timens_offsets') else skip('no time namespaces'):
    pass
for name in ('redis', 'node', 'jvm', 'nginx'):
    runpy.run_path(os.path.join(os.path.dirname(os.path.realpath(_server.__file__)), f'server_{name}.py'), run_name='__main__')
