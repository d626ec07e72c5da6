#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=150
"""sqlite3 in the middle of a transaction, with its rollback journal. File locks come later: the VFS that takes
none is used, and temporary tables stay in memory (its temporary files are deleted ones)."""
import shutil

from _scenario import Real, Sandbox, check, number, read, skip, write

if not shutil.which('sqlite3'):
    skip('there is no sqlite3')

STEPS = number('STEPS', 90)
sb = Sandbox.from_env()


def script():
    lines = ['PRAGMA temp_store=MEMORY;', 'PRAGMA cache_size=50;', 'CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c REAL);',
             "INSERT INTO t VALUES(0, 'before', 0);", 'BEGIN;']
    for i in range(STEPS):
        lines += [f'WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<4000) '
                  f"INSERT INTO t(b, c) SELECT printf('%d-%d', x, {i}), x * 1.5 FROM n;",
                  f'UPDATE t SET c = c + 1 WHERE a % 7 = {i % 7};', f".print step {i}"]
    lines += ['COMMIT;', 'CREATE INDEX i ON t(b);', 'SELECT count(*), sum(c), min(b), max(b), total(length(b)) FROM t;',
              'PRAGMA integrity_check;']
    return '\n'.join(lines) + '\n'


def steps():
    try:
        return read(sb.path('work/out')).count(b'step ')
    except FileNotFoundError:
        return 0


def result():
    out = read(sb.path('work/out'))
    check(out.rstrip().endswith(b'ok'), 'the database is damaged', out[-300:])
    return out


class Sqlite(Real):
    def check_working(self):
        super().check_working()
        if 0 < self.progress() < self.total:
            check(read(sb.path('work/data.db-journal')), 'it is not in a transaction')


Sqlite(sb, ['/usr/bin/stdbuf', '-oL', '/usr/bin/sqlite3', '-batch', '-vfs', 'unix-none', 'data.db', '.read script.sql'], steps, STEPS, result,
       prepare=lambda: write(sb.path('work/script.sql'), script())).run()
