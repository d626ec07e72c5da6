#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=280
"""PostgreSQL, which has an IPC namespace of its own, with clients that are not dumped: one in the middle of a
transaction, with a temporary table, a cursor, a prepared statement and a lock; one that waits for that lock; one that has
asked for a notification. The server is dumped and restored CKPT_TEST_ROUNDS times (6), each server twice, and the clients go
on over the same connections."""
import os
import pwd
import re
import select
import shutil
import signal
import socket
import subprocess
import time

from _scenario import Failure, Sandbox, check, number, read, skip, write

ROUNDS = number('ROUNDS', 6)
BIN = '/usr/lib/postgresql/15/bin'
TCP = '--tcp-established'
CONF = '''
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
shared_buffers = 24MB
max_connections = 20
fsync = off
autovacuum_naptime = 1s
statement_timeout = 0
log_destination = stderr
'''


def owner():
    for name in ('postgres', 'nobody'):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    skip('there is no user to run a server as')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def as_user(user, *argv):
    return ['/usr/bin/setpriv', f'--reuid={user.pw_uid}', f'--regid={user.pw_gid}', '--clear-groups', *argv]


class Client:
    """A psql that is told what to do over a pipe; its answers end with a mark."""

    def __init__(self, sb, port):
        env = {'PATH': '/usr/bin:/bin', 'LC_ALL': 'C.UTF-8', 'HOME': sb.dir, 'PGCONNECT_TIMEOUT': '20'}
        self.sb, self.asked, self.text = sb, 0, b''
        self.process = subprocess.Popen(
            ['/usr/bin/stdbuf', '-oL', f'{BIN}/psql', '-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=0', '-h', '127.0.0.1',
             '-p', str(port), '-U', 'tester', 'postgres'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=sb.dir)
        sb.bystanders.add(self.process.pid)

    def send(self, sql):
        self.asked += 1
        self.process.stdin.write(f'{sql};\n\\echo mark {self.asked}\n'.encode())
        self.process.stdin.flush()

    def answer(self, timeout=60):
        mark = f'mark {self.asked}\n'.encode()
        end = time.monotonic() + timeout
        while not self.text.endswith(mark):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b''
            check(data, 'psql ' + ('is gone' if ready else 'waits in vain'), self.text.decode())
            self.text += data
        answer, self.text = self.text[:-len(mark)], b''
        return answer.decode().strip()

    def ask(self, sql, want=None):
        self.send(sql)
        got = self.answer()
        if want is not None:
            check(got == str(want), f'{sql}: the answer is {got!r}, not {want!r}')
        return got

    def is_silent(self):
        return not select.select([self.process.stdout], [], [], 0)[0]

    def end(self):
        self.process.stdin.close()
        code = self.sb.children.wait(self.process.pid, 20)
        check(code == 0, f'psql ended with {code}')
        self.process.stdout.close()
        self.sb.bystanders.discard(self.process.pid)


class Server:
    def __init__(self, sb, user):
        self.sb, self.port, self.user = sb, free_port(), user
        self.data, self.log = sb.path('work/data'), sb.path('work/log')
        shutil.rmtree(self.data, ignore_errors=True)
        subprocess.run(as_user(user, f'{BIN}/initdb', '-D', self.data, '-U', 'tester', '-A', 'trust', '-N',
                               '--no-instructions'), check=True, stdout=subprocess.DEVNULL, cwd=sb.dir,
                       env={'PATH': '/usr/bin:/bin', 'LC_ALL': 'C.UTF-8'})
        with open(f'{self.data}/postgresql.conf', 'a') as f:
            f.write(CONF.format(port=self.port))
        self.pid = sb.start(['/usr/bin/unshare', '--ipc', *as_user(user, f'{BIN}/postgres', '-D', self.data)],
                            out='work/log')
        sb.wait_for(self.is_up, 'PostgreSQL to start')

    def is_up(self):
        check(self.pid not in self.sb.children.ended, 'PostgreSQL did not start', read(self.log, b'').decode())
        return b'ready' in read(f'{self.data}/postmaster.pid', b'')

    def carry_over(self, images):
        self.sb.dump(self.pid, images, TCP)
        self.sb.restore(images, TCP, expect_pid=self.pid)

    def stop(self):
        self.sb.signal(self.pid, signal.SIGINT)
        code = self.sb.wait_exit(self.pid)
        check(code == 0, f'PostgreSQL ended with {code}', read(self.log, b'').decode())
        text = read(self.log, b'').decode()
        check('PANIC' not in text and 'terminated by signal' not in text, 'PostgreSQL had trouble', text)


def under_load(server, rounds):
    """pgbench asks as fast as it gets answers; no transaction fails, none is lost or done twice."""
    env = {'PATH': '/usr/bin:/bin', 'LC_ALL': 'C.UTF-8', 'HOME': sb.dir}
    at = ['-h', '127.0.0.1', '-p', str(server.port), '-U', 'tester', 'postgres']
    subprocess.run([f'{BIN}/pgbench', '-i', '-q', *at], check=True, env=env, stderr=subprocess.DEVNULL)
    # Rather too long than too short: it is told to end.
    pid = sb.start([f'{BIN}/pgbench', '-n', '-c', '4', '-T', '100000', '-P', '1', *at], env, out='bench')
    sb.bystanders.add(pid)
    for n in range(rounds):
        sb.wait_for(lambda: read(sb.path('bench'), b'').count(b' tps, ') > n, 'some work to be done')
        check(pid not in sb.children.ended, 'pgbench has ended', read(sb.path('bench'), b'').decode())
        server.carry_over(f'bench{n}')
    sb.wait_for(lambda: read(sb.path('bench'), b'').count(b' tps, ') > rounds, 'some work to be done')
    check(pid not in sb.children.ended, 'pgbench has ended', read(sb.path('bench'), b'').decode())
    text = read(sb.path('bench'), b'').decode()
    check(not re.search('error|fatal|abort', text, re.I) and not re.search('[1-9][0-9]* failed', text), 'pgbench had trouble', text)
    sb.signal(pid, signal.SIGINT)
    sb.wait_exit(pid)
    sb.bystanders.discard(pid)
    client = Client(sb, server.port)
    sums = [client.ask(f'SELECT coalesce(sum({c}), 0) FROM pgbench_{t}')
            for t, c in (('accounts', 'abalance'), ('tellers', 'tbalance'), ('branches', 'bbalance'), ('history', 'delta'))]
    check(len(set(sums)) == 1, f'the balances are {sums}')
    check(int(client.ask('SELECT count(*) FROM pgbench_history')) > 100, 'pgbench did hardly anything')
    client.end()


sb = Sandbox.from_env()
if not os.path.exists(f'{BIN}/postgres'):
    skip('there is no PostgreSQL 15')
user = owner()
for n in range((ROUNDS + 1) // 2):
    server = Server(sb, user)
    busy, waiting, listening = (Client(sb, server.port) for _ in range(3))
    busy.ask('CREATE TABLE kept (i int PRIMARY KEY, t text)')
    busy.ask("INSERT INTO kept SELECT i, md5(i::text) FROM generate_series(1, 1000) i")
    listening.ask('LISTEN news')
    busy.ask('CREATE TEMPORARY TABLE mine (i int, t text)')
    busy.ask("INSERT INTO mine SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 20000) i")
    sum_of_mine = busy.ask('SELECT sum(i), md5(string_agg(t, \'\' ORDER BY i)) FROM mine')
    busy.ask('PREPARE plus AS SELECT $1::int + 1')
    busy.ask('BEGIN')
    busy.ask("UPDATE kept SET t = 'changed' WHERE i = 7")
    busy.ask("INSERT INTO mine VALUES (20001, 'in the transaction')")
    busy.ask('DECLARE steps CURSOR FOR SELECT i FROM kept ORDER BY i')
    busy.ask('FETCH 10 FROM steps', '\n'.join(str(i) for i in range(1, 11)))
    xid = busy.ask('SELECT txid_current()')
    backend = busy.ask('SELECT pg_backend_pid()')
    waiting.send("UPDATE kept SET t = t || ' twice' WHERE i = 7 RETURNING t")
    sb.wait_for(lambda: listening.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == '1', 'a client to wait for the lock')
    for m in range(2):
        server.carry_over(f'img{n}.{m}')
        busy.ask('SELECT txid_current()', xid)
        busy.ask('SELECT pg_backend_pid()', backend)
        busy.ask(f'EXECUTE plus({m})', m + 1)
        busy.ask('FETCH 10 FROM steps', '\n'.join(str(i) for i in range(10 * m + 11, 10 * m + 21)))
        busy.ask("SELECT t FROM mine WHERE i = 20001", 'in the transaction')
        listening.ask("SELECT t FROM kept WHERE i = 7", '8f14e45fceea167a5a36dedd4bea2543')
        check(waiting.is_silent(), 'the one that waits got an answer', waiting.text.decode())
        new = Client(sb, server.port)
        new.ask('SELECT count(*) FROM kept', 1000)
        new.ask('SELECT count(*) FROM pg_stat_activity WHERE backend_type = \'client backend\'', 4)
        new.end()
    busy.ask('COMMIT')
    check(waiting.answer() == 'changed twice', 'the one that waited got something else')
    busy.ask('DELETE FROM mine WHERE i = 20001')
    busy.ask('SELECT sum(i), md5(string_agg(t, \'\' ORDER BY i)) FROM mine', sum_of_mine)
    busy.ask("NOTIFY news, 'all is well'")
    got = listening.ask('SELECT 1')
    check('all is well' in got, f'no notification came: {got!r}')
    # Work in parallel takes shared memory that did not exist before.
    busy.ask('CREATE TABLE large AS SELECT i FROM generate_series(1, 300000) i')
    busy.ask('ANALYZE large')
    busy.ask('SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0')
    busy.ask('SELECT sum(i::bigint) FROM large', 300000 * 300001 // 2)
    busy.ask('CHECKPOINT; VACUUM kept')
    for client in (busy, waiting, listening):
        client.end()
    if n == 0:
        under_load(server, ROUNDS)
    server.stop()
