#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=240
"""Damaged checkpoints: each image missing, empty, cut off, longer, and with single bits flipped at many places. The
restore fails with one clear line that names the file, leaves no process, and touches nothing; undamaged, the same
images restore."""
import os
import random

from _scenario import Program, Sandbox, check, number, one_clear_line, read, snapshot, write

FLIPS = number('FLIPS', 6)
# Written for people and tools, not read by a restore.
NOT_READ = ('stats-dump', 'stats-restore')

sb = Sandbox.from_env()
random.seed(number('SEED', 20260101))
program = Program(sb, 'fd_pipe_shared')
check(program.wait_ready(), 'the program')
sb.dump(program.pid, 'img')


def files():
    return sorted(f for f in os.listdir(sb.path('img')) if not f.endswith('.log') and not f.startswith(NOT_READ)
                  and f != 'dump.log' and os.path.isfile(sb.path('img', f)))


def state():
    return {f: what for f, what in snapshot(sb.path('img')).items()
            if not f.endswith('.log') and not f.startswith(NOT_READ)}


def refused(name, what, names_file=True):
    before = state()
    result = sb.ckpt(*sb.restore_args('img'))
    try:
        one_clear_line(result, *([name.replace('.', r'\.')] if names_file else []))
        sb.no_strangers(set())
        check(state() == before, 'the failed restore changed the images')
    except Exception as e:
        e.args = (f'{name}, {what}: {e.args[0]}', *e.args[1:])
        raise


n = 0
for name in files():
    path = sb.path('img', name)
    good = read(path)
    damages = [('missing', None), ('empty', b''), ('without its last byte', good[:-1]), ('cut in half', good[:len(good) // 2]),
               ('with a byte more', good + b'\0')]
    positions = {0, 4, 8, len(good) - 1, len(good) // 2} | {random.randrange(len(good)) for _ in range(FLIPS)}
    for pos in sorted(p for p in positions if 0 <= p < len(good)):
        bad = bytearray(good)
        bad[pos] ^= 1 << random.randrange(8)
        damages.append((f'a bit of byte {pos} flipped', bytes(bad)))
    for what, data in damages:
        if data == good:
            continue
        if data is None:
            os.unlink(path)
        else:
            write(path, data)
        # In these two the damage may make it another kind of set: whatever is wrong then may be named.
        refused(name, what, names_file=not name.startswith(('inventory', 'checksums')))
        write(path, good)
        n += 1
# Two images exchanged: each is whole, but not the one that belongs there.
pages = [f for f in files() if f.startswith('pages-')]
if len(pages) > 1:
    a, b = (sb.path('img', f) for f in pages[:2])
    good_a, good_b = read(a), read(b)
    write(a, good_b)
    write(b, good_a)
    refused(pages[0], 'exchanged', names_file=False)
    write(a, good_a)
    write(b, good_b)
    n += 1
print(f'{n} kinds of damage in {len(files())} files')
sb.restore('img', expect_pid=program.pid)
program.check_same('restored from the repaired images')
program.finish()
