#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=200
"""make -j half way through compiling a small program."""
import glob
import shutil
import subprocess

from _scenario import Real, Sandbox, check, number, read, sha, skip, write

if not shutil.which('make') or not shutil.which('gcc'):
    skip('there is no make or no gcc')

FILES = number('FILES', 14)
sb = Sandbox.from_env()

MAKEFILE = '''
OBJ := $(sort $(patsubst %.c,%.o,$(wildcard *.c)))
program: $(OBJ)
\t@gcc -o $@ $(OBJ)
\t@./program
%.o: %.c
\t@gcc -O2 -c -o $@.new $< && mv $@.new $@
'''


def prepare():
    import os
    os.mkdir(sb.path('work/tmp'))
    write(sb.path('work/Makefile'), MAKEFILE)
    for i in range(FILES):
        body = ['#include <stdio.h>', '#include <stdlib.h>', '#include <string.h>', '#include <math.h>']
        for j in range(25):
            body.append(f'int f{i}_{j}(int x) {{ int s = {j}; for (int k = 0; k < x; k++) {{ s = s * {31 + j} + k; '
                        f'if (s % {7 + j} == 0) s ^= {i}; switch (k % 5) {{ case 0: s += {j}; break; case 1: s -= x; break; '
                        f'default: s <<= 1; }} }} return s & 0xffff; }}')
        body.append(f'int sum{i}(int x) {{ return ' + ' + '.join(f'f{i}_{j}(x)' for j in range(25)) + '; }')
        write(sb.path(f'work/part{i:02}.c'), '\n'.join(body) + '\n')
    calls = ''.join(f'extern int sum{i}(int);' for i in range(FILES))
    write(sb.path('work/main.c'), f'#include <stdio.h>\n{calls}\nint main(void) {{ printf("%d\\n", '
          + ' + '.join(f'sum{i}({i + 10})' for i in range(FILES)) + '); return 0; }\n')


def objects():
    return len(glob.glob(sb.path('work/*.o')))


def result():
    said = subprocess.run([sb.path('work/program')], capture_output=True, check=True).stdout
    out = read(sb.path('work/out'))
    check(out == said, f'make printed {out!r}, the program prints {said!r}')
    return [sha(p) for p in sorted(glob.glob(sb.path('work/*.o')))] + [said]


Real(sb, ['/usr/bin/make', '-j2'], objects, FILES + 1, result, prepare, env={'TMPDIR': sb.path('work/tmp')}).run()
