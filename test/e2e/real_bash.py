#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=150
"""A bash loop with a pipeline of children, which come and go all the time."""
from _scenario import Real, Sandbox, number, read, write

ROUNDS = number('ROUNDS', 250)
SCRIPT = '''
trap 'echo trapped' USR1
declare -A seen
for ((i = 0; i < %d; i++)); do
        seen[$i]=$(seq $((i * 100)) $((i * 100 + 700)) | sort -rn | tr 1 2 | sha1sum | cut -c1-12)
        echo "$i ${seen[$i]}" >>result
        (exit $((i %% 256)))
        echo "status $?" >>statuses
done
echo "${#seen[@]} ${seen[0]} ${seen[$((i - 1))]}" >>result
'''

sb = Sandbox.from_env()


def lines():
    try:
        return read(sb.path('work/result')).count(b'\n')
    except FileNotFoundError:
        return 0


Real(sb, ['/bin/bash', 'loop.sh'], lines, ROUNDS + 1,
     result=lambda: (read(sb.path('work/result')), read(sb.path('work/statuses')), read(sb.path('work/out'))),
     prepare=lambda: write(sb.path('work/loop.sh'), SCRIPT % ROUNDS)).run()
