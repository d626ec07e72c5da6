# SPDX-License-Identifier: GPL-2.0-only
"""Real servers with clients that stay connected: dump, wait, restore, CKPT_TEST_ROUNDS times in a row on the same
server, while every answer that a client gets is checked.

    def ask(client):                       # runs in a process of its own, outside of the tree
        s = connect(port)
        while client.goes_on():
            ...                            # ask, check(the answer)
            client.answered()

    server = Server(sb, 'redis', ['/usr/bin/redis-server', ...], port)
    server.add_client(ask)
    server.run()

Needs `# e2e: netns`: the network is the test's own, so any port will do and any RST is a failure."""
import ctypes
import mmap
import os
import signal
import socket
import statistics
import time

from _net import counter, locks
from _scenario import SLOWNESS, Failure, check, failure_lines, kill_tree, number, procview, read

ROUNDS = number('ROUNDS', 3)
DAYS = number('DAYS', 0)   # that the clocks of the machine where the server was started are ahead of this one's
GAP = 0.1              # seconds between dump and restore
LONG_GAP = number('LONG_GAP', 2)   # the same, once: clients have tried again and again by then, and rest in between
PATIENCE = (30 + 2 * LONG_GAP) * SLOWNESS  # seconds that a client waits for an answer
SLOWEST_ANSWER = 0.9   # seconds from the end of the restore to the first answer: below any backed-off retransmission


def free_port():
    """Nobody else is in this network namespace who could take it meanwhile."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def connect(port):
    s = socket.create_connection(('127.0.0.1', port), PATIENCE)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def listens(port):
    """Without disturbing it: by what the kernel lists."""
    rows = [line.split() for path in ('/proc/net/tcp', '/proc/net/tcp6') for line in read(path).decode().splitlines()[1:]]
    return any(row[1].endswith(f':{port:04X}') and row[3] == '0A' for row in rows)


class Shared(ctypes.Structure):
    """What a client and the test tell each other."""
    _fields_ = [('answers', ctypes.c_uint64), ('mark', ctypes.c_double), ('first', ctypes.c_double),
                ('stop', ctypes.c_int)]


class Client:
    """A process that asks and checks the answers until it is told to stop. patient: it expects no answer at once."""

    def __init__(self, sb, name, ask, patient):
        self.sb, self.name, self.patient = sb, name, patient
        self.waits_since, self.heard = 0, set()
        self.shared = Shared.from_buffer(mmap.mmap(-1, mmap.PAGESIZE))
        self.out = sb.path(f'client-{name}')
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                with open(self.out, 'w', encoding='utf-8') as out:
                    try:
                        ask(self)
                        code = 0
                    except BaseException as e:  # pylint: disable=broad-except
                        message, details = failure_lines(e)
                        out.write('\n'.join([message, *details]))
            finally:
                os._exit(code)
        sb.bystanders.add(self.pid)

    # In the client's process.

    def goes_on(self):
        return not self.shared.stop

    def answered(self, n=1, connection=0, of=1):
        """With many connections, the first answer counts when each of them has got one."""
        self.shared.answers += n
        mark = self.shared.mark
        if mark != self.waits_since:
            self.waits_since, self.heard = mark, set()
        self.heard.add(connection)
        if mark and not self.shared.first and len(self.heard) == of:
            self.shared.first = time.monotonic()

    # In the test.

    def said(self):
        """Why it failed, if it has, and more about that."""
        message, _, details = read(self.out, b'').decode().partition('\n')
        return message, details

    def answers(self):
        if self.pid in self.sb.children.ended:
            message, details = self.said()
            raise Failure(f'client {self.name} has ended: {message}', [details])
        return self.shared.answers

    def mark(self):
        """From now on, wait for the first answer."""
        self.shared.mark = 0
        self.shared.first = 0
        self.shared.mark = time.monotonic()

    def first(self):
        """When the first answer after mark() came; 0 so far if there was none."""
        self.answers()
        return self.shared.first

    def finish(self):
        self.shared.stop = 1
        code, (message, details) = self.sb.wait_exit(self.pid, 60), self.said()
        check(code == 0, f'client {self.name} has failed: {message}', details)


def time_namespace(pid):
    return os.readlink(f'/proc/{pid}/ns/time')


def resident(pids):
    """KiB that the tree has for itself: shared pages are divided among those that share them."""
    total = 0
    for pid in pids:
        with open(f'/proc/{pid}/smaps_rollup', encoding='ascii') as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith(('Pss_Anon:', 'Pss_Shmem:')))
    return total


def outline(pids):
    """What must be the same in each round, load or not: processes, threads, descriptors that do not come and go."""
    found = {}
    for pid in pids:
        with open(f'/proc/{pid}/status', encoding='ascii', errors='replace') as f:
            status = dict(line.rstrip('\n').split(':\t', 1) for line in f if ':\t' in line)
        found[pid] = {key: status[key] for key in ('Name', 'Uid', 'Gid', 'Groups', 'Threads', 'PPid', 'NSsid', 'SigBlk',
                                                   'SigIgn', 'SigCgt', 'CapEff', 'Cpus_allowed')}
        found[pid]['fds'] = len(os.listdir(f'/proc/{pid}/fd'))
    return found


class Server:
    """varies: keys of outline() that the server itself changes all the time (threads that come and go)."""

    def __init__(self, sb, name, argv, port, env=None, varies=(), more=(), timeout=60):
        self.sb, self.name, self.varies, self.more = sb, name, varies, more
        self.clients = []
        self.resets = counter('OutRsts')
        self.times = {'dump': [], 'restore': [], 'first answer': []}
        ahead = ['/usr/bin/unshare', '--time', '--monotonic', str(DAYS * 86400), '--boottime', str(DAYS * 86400)]
        self.pid = sb.start([*(ahead if DAYS else []), *argv], env, out=f'work/{name}.out')
        sb.wait_for(lambda: self.alive() and listens(port), f'{name} to listen', timeout)

    def alive(self):
        check(self.pid not in self.sb.children.ended, f'{self.name} has ended ({self.sb.children.ended.get(self.pid)})',
              read(self.sb.path(f'work/{self.name}.out'), b'').decode(errors='replace')[-2000:])
        return True

    def add_client(self, ask, n=1, patient=False):
        for _ in range(n):
            self.clients.append(Client(self.sb, f'{self.name}-{ask.__name__}-{len(self.clients)}', ask, patient))

    def progress(self, answers=20, what='the clients to be answered'):
        """Until each client got that many answers more."""
        goal = {c: c.answers() + answers for c in self.clients}
        self.sb.wait_for(lambda: self.alive() and all(c.answers() >= g for c, g in goal.items()), what, 30)

    def outline(self):
        found = outline(procview.tree(self.pid))
        for values in found.values():
            for key in self.varies:
                values.pop(key, None)
        return found

    def check_intact(self, what):
        """No RST was sent, no lock is left, nothing of ckpt runs. (EstabResets counts a socket that ckpt closes without a
        packet; a client that saw a reset would have failed.)"""
        check(counter('OutRsts') == self.resets, f'{what}: {counter("OutRsts") - self.resets} RST sent')
        check(locks() == [], f'{what}: locks: {locks()}')
        self.sb.no_strangers(set(procview.tree(self.pid)))

    def timed(self, what, call, *args, **kwargs):
        start = time.monotonic()
        result = call(*args, **kwargs)
        self.times[what].append(time.monotonic() - start)
        return result

    def dump_command(self, n):
        """The dump alone, as it is timed; then that the tree is gone and the images can be read."""
        pids = procview.tree(self.pid)
        result = self.timed('dump', self.sb.ckpt, *self.sb.dump_args(self.pid, 'img', '--tcp-established', *self.more))
        check(result.rc == 0, f'round {n}: ckpt dump: exit status {result.rc}', result.err)
        self.sb.wait_gone(pids)
        self.sb.children.ended.pop(self.pid, None)
        self.sb.no_strangers(set())

    def round(self, n):
        self.progress()
        if n == 0:
            # Once with crit, which takes longer than all else; the server goes on.
            self.sb.dump(self.pid, 'img', '--tcp-established', *self.more, kill=False)
            self.progress(what='the clients to be answered after dump -R')
            self.check_intact('after dump -R')
        before, memory = self.outline(), resident(procview.tree(self.pid))
        self.dump_command(n)
        time.sleep(LONG_GAP if n == 1 else GAP)
        for c in self.clients:
            c.mark()
        self.timed('restore', self.sb.restore, 'img', '--tcp-established', *self.more, expect_pid=self.pid)
        end = time.monotonic()
        if DAYS:
            check(time_namespace(self.pid) != time_namespace('self'), f'round {n}: restored on clocks that are behind')
        self.sb.wait_for(lambda: self.alive() and all(c.first() for c in self.clients),
                         f'a first answer after restore {n}', 30)
        late = {c.name: max(0, c.first() - end) for c in self.clients if not c.patient}
        self.times['first answer'].append(max(late.values()))
        self.check_intact(f'round {n}')
        memory_after, after = resident(procview.tree(self.pid)), self.outline()
        check(after == before, f'round {n}: the processes are not what they were', before, after)
        check(memory_after < memory * 1.3 + 4096, f'round {n}: {memory} KiB became {memory_after} KiB')
        return late

    def run(self):
        for n in range(ROUNDS):
            for _ in range(5):
                late = self.round(n)
                if max(late.values()) < SLOWEST_ANSWER:
                    break  # late once is the machine, late every time is not
            else:
                raise Failure(f'round {n}, five times: seconds from the restore to the first answer: {late}')
        self.progress()
        for c in self.clients:
            c.finish()
        self.check_intact('at the end')
        print(f'{self.name}: {ROUNDS} rounds, {sum(c.shared.answers for c in self.clients)} answers; ' +
              ', '.join(f'{what} {statistics.median(t) * 1000:.0f} ms (at most {max(t) * 1000:.0f})'
                        for what, t in self.times.items() if t))

    def stop(self):
        """It still knows how to end by itself."""
        self.sb.signal(self.pid, signal.SIGTERM)
        code = self.sb.wait_exit(self.pid)
        check(code in (0, -signal.SIGTERM, 128 + signal.SIGTERM), f'{self.name} ended with {code}')
        self.sb.no_strangers(set())

    def kill(self):
        kill_tree(self.sb, self.pid)
