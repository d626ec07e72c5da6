# SPDX-License-Identifier: GPL-2.0-only
"""Drive ckpt and the programs that it dumps.

In a scenario script (test/e2e/NAME.py):

    from e2e.harness import Sandbox, check

    sb = Sandbox.from_env()
    pid = sb.start(['/bin/bash', '-c', '...'])
    sb.wait_for(lambda: os.path.exists(sb.path('work/started')), 'the script to start')
    sb.dump(pid, 'img')                  # fails the test unless it succeeds and the tree is gone
    sb.restore('img')
    result = sb.ckpt('dump', '-t', str(pid), '-D', sb.path('img2'))    # any call: .rc .out .err
    check(result.rc == 1 and 'io_uring' in result.err, 'not refused', result)
    sb.signal(pid, signal.SIGTERM)
    check(sb.wait_exit(pid) == 0, 'it failed')

An exception fails the test; exit status 77 (`skip("reason")`) skips it.
"""
import faulthandler
import json
import os
import shutil
import signal
import stat
import sys
import time
import traceback
import types

from . import crit, procview, system

SLOWNESS = float(os.environ.get('CKPT_TEST_PATIENCE', 1))
CKPT_TIMEOUT = 120 * SLOWNESS
WHERE_SIGNAL = signal.SIGSYS  # asks a script where it is; no test uses it
SETTLE = 30 * SLOWNESS  # seconds in which what has to become so has to: an idle machine needs some milliseconds


class Failure(Exception):
    """The test has failed; the message says why, details follow in lines."""

    def __init__(self, message, details=()):
        super().__init__(message)
        self.details = list(details)


def check(condition, message, *details):
    if not condition:
        raise Failure(message, [str(d) for d in details])


def failure_lines(error):
    """Why a script failed: a line that says it, and lines of details. Where a test says by itself what is wrong, a place
    in the script is enough beside that; only what nobody expected needs the whole way there."""
    if not isinstance(error, Failure):
        return f'{type(error).__name__}: {error}', ''.join(traceback.format_exception(error)).splitlines()
    places = [f'{os.path.basename(f.filename)}:{f.lineno}' for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    return str(error), [line for d in error.details for line in str(d).splitlines()] + [f'at {" > ".join(places)}']


def _report_failures():
    """In a script: what ends it goes into the file that the runner gave, which tells of it first of all. Where a script
    is run by hand, or one of its children fails, it goes to stderr."""
    path, owner = os.environ.get('E2E_FAILURE'), os.getpid()

    def report(_kind, error, _trace):
        message, details = failure_lines(error)
        if path and os.getpid() == owner:
            with open(path, 'w') as f:
                json.dump({'message': message, 'details': details}, f)
            return
        print('\n'.join([f'FAIL: {message}', *(f'  {line}' for line in details)]), file=sys.stderr)

    sys.excepthook = report
    # Of a script that hangs the runner wants to know where.
    faulthandler.register(WHERE_SIGNAL, all_threads=True)


def skip(reason):
    print(f'SKIP: {reason}')
    sys.stdout.flush()
    os._exit(77)


def tail(path, lines=30):
    try:
        with open(path, errors='replace') as f:
            return f.read().splitlines()[-lines:]
    except OSError:
        return []


class Sandbox:
    """A test's private directory and the processes in it.

    DIR/work is where programs run, DIR/out what they print, everything else (images, logs) stands beside."""

    def __init__(self, directory, ckpt, children=None, known_kinds=frozenset(), without=()):
        self.dir = directory
        self.ckpt_path = ckpt
        self.children = children or system.Children()
        self.known_kinds = set(known_kinds)
        self.kinds = set()     # of images that crit has read here
        self.without = without
        self.runs = 0
        self.logs = []         # of the ckpt runs so far, for the report of a failure
        self.bystanders = {1, os.getpid()}
        os.makedirs(self.path('work'), exist_ok=True)
        # A test may drop its privileges before it says that it is ready.
        os.chmod(self.dir, 0o755)
        os.chmod(self.path('work'), 0o777)

    @classmethod
    def from_env(cls):
        system.become_subreaper()
        _report_failures()
        return cls(os.environ['TMPDIR'], os.environ['CKPT'],
                   without=tuple(os.environ.get('E2E_WITHOUT', '').split()))

    def path(self, *names):
        return os.path.join(self.dir, *names)

    # --- programs ---------------------------------------------------------------------------------------

    def program(self, name):
        """Path of the program built from test/e2e/NAME.c."""
        return os.path.join(os.environ['E2E_BIN'], name)

    def start(self, argv, env=None, out='work/out', cwd='work', new_session=True, stdin='/dev/null', pass_fds=()):
        """Start a program in its own session with nothing but stdin, stdout and stderr. Returns its pid."""
        clean = {'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL': 'C.UTF-8'}
        return self.children.start(argv, self.path(cwd), clean | (env or {}), self.path(out), new_session, stdin,
                                   pass_fds)

    def wait_for(self, condition, what, timeout=30):
        timeout *= SLOWNESS
        check(self.children.poll(condition, timeout), f'waited {timeout} s in vain for {what}')

    def wait_ready(self, pid, timeout=30):
        """Wait for a program's test_ready()."""
        self.wait_for(lambda: pid in self.children.ended or os.path.exists(self.path('work/ready')),
                      'the program to become ready', timeout)
        if pid in self.children.ended:
            code = self.children.ended[pid]
            if code == 77:
                skip(' '.join(line.removeprefix('SKIP: ') for line in tail(self.path('work/out'), 1)))
            raise Failure(f'the program {describe(code)} before it was ready')

    def signal(self, pid, sig):
        os.kill(pid, sig)

    def wait_exit(self, pid, timeout=30):
        """Exit status of a child, adopted or not (negative: the signal)."""
        timeout *= SLOWNESS
        code = self.children.wait(pid, timeout)
        check(code is not None, f'waited {timeout} s in vain for pid {pid} to end', *self.where())
        return code

    def others(self):
        """Pids in this namespace beside the harness itself."""
        self.children.reap()
        return [p for p in procview.all_pids() if p not in self.bystanders]

    def wait_gone(self, pids, timeout=SETTLE):
        pids = set(pids)
        gone = self.children.poll(lambda: not pids & set(procview.all_pids()), timeout)
        check(gone, f'still there: pids {sorted(pids & set(procview.all_pids()))}', *self.where())

    def where(self):
        """What every process is doing, for the report of a time-out."""
        lines = []
        for pid in procview.all_pids():
            if pid in self.bystanders:
                continue
            try:
                tids = sorted(os.listdir(f'/proc/{pid}/task'))
            except OSError:
                continue  # it has ended meanwhile
            for tid in tids:
                base = f'/proc/{pid}/task/{tid}'
                texts = {n: ' '.join(tail(f'{base}/{n}', 1)) for n in ('stat', 'wchan', 'syscall')}
                lines.append(f'pid {pid} tid {tid}: {" ".join(texts["stat"].split()[1:5])}; in {texts["wchan"]}; '
                             f'syscall {texts["syscall"]}')
                if len(lines) >= 40:
                    return lines
        return lines

    # --- the view from outside --------------------------------------------------------------------------

    def view(self, root, rest=True):
        """The tree of root as /proc shows it, once it is at rest: every thread asleep, and nothing changing.
        Where some thread never sleeps, it is enough after three seconds that nothing changes; with rest=False, even
        that is not asked for."""
        seen, patience = {}, time.monotonic() + 3

        def stable():
            try:
                pids = procview.tree(root)
                if rest and not procview.is_resting(pids) and time.monotonic() < patience:
                    return False
                now = procview.view(pids)
            except procview.Gone:
                return False
            same = not rest or seen.get('view') == now
            seen['view'], seen['pids'] = now, pids
            return same and bool(pids)

        check(self.children.poll(stable, SETTLE), f'pid {root} did not come to rest in {SETTLE} s', *self.where())
        return seen['view']

    def same_view(self, root, before, ignore=(), what='the tree'):
        """Fail unless the tree of root looks as before, within the time that it takes to settle."""
        seen = {}
        before = procview.without(before, ignore)

        def same():
            try:
                seen['diff'] = procview.diff(before, procview.without(procview.view(procview.tree(root)), ignore))
            except procview.Gone as e:
                seen['diff'] = [f'a process ended while it was looked at: {e}']
            return not seen['diff']

        if not self.children.poll(same, SETTLE, interval=0.02):
            raise Failure(f'{what} is not what it was', seen['diff'][:80])

    # --- ckpt -------------------------------------------------------------------------------------------

    def ckpt(self, *args, timeout=CKPT_TIMEOUT, env=None):
        """Run ckpt with these arguments in DIR. Returns .rc .out .err .argv"""
        result = self.ckpt_wait(self.ckpt_start(*args, env=env), timeout)
        return result

    def ckpt_start(self, *args, env=None):
        """Start ckpt and return a handle with .pid for ckpt_wait()."""
        self.runs += 1
        argv = [self.ckpt_path, *args]
        base = self.path(f'ckpt-{self.runs}')
        keep = {k: v for k, v in os.environ.items() if k in ('PATH', 'LC_ALL') or k.startswith(('ASAN', 'UBSAN', 'CKPT_'))}
        # stdout and stderr apart: what a person reads must be on stderr.
        wrapped = ['/bin/sh', '-c', 'exec 2>"$0"; exec "$@"', base + '.err', *argv]
        pid = self.children.start(wrapped, self.dir, keep | {'TMPDIR': self.dir} | (env or {}), base + '.out')
        self.bystanders.add(pid)
        self.logs.append(base + '.err')
        return types.SimpleNamespace(pid=pid, argv=argv, base=base)

    def ckpt_wait(self, handle, timeout=CKPT_TIMEOUT):
        rc = self.children.wait(handle.pid, timeout)
        check(rc is not None, f'{" ".join(handle.argv)} did not end in {timeout} s', *self.where())
        self.bystanders.discard(handle.pid)
        texts = []
        for ext in ('.out', '.err'):
            with open(handle.base + ext, errors='replace') as f:
                texts.append(f.read())
        return types.SimpleNamespace(rc=rc, out=texts[0], err=texts[1], argv=handle.argv)

    def dump_args(self, pid, images, *more):
        os.makedirs(self.path(images), exist_ok=True)
        self.logs.append(self.path(images, 'dump.log'))
        return ['dump', '-t', str(pid), '-D', self.path(images), '-o', 'dump.log', '-v4', *more]

    def dump(self, pid, images, *more, kill=True, decode=True):
        """Dump a tree, see that it is gone (or, with kill=False, adds -R), and that crit can read the images.
        Returns the pids of the tree."""
        pids = procview.tree(pid)
        result = self.ckpt(*self.dump_args(pid, images, *([] if kill else ['-R']), *more))
        check(result.rc == 0, f'ckpt dump: exit status {result.rc}', result.err)
        if kill:
            self.wait_gone(pids)
            self.children.ended.pop(pid, None)
            self.no_strangers(set())
        if decode and 'crit' not in self.without:
            kinds, complaints = crit.decode_all(self.path(images), self.known_kinds)
            self.kinds |= kinds
            self.known_kinds |= kinds
            check(not complaints, 'crit cannot read the images', *complaints)
        return pids

    def restore_args(self, images, *more):
        self.logs.append(self.path(images, 'restore.log'))
        return ['restore', '-D', self.path(images), '-d', '-o', 'restore.log', '-v4', *more]

    def restore(self, images, *more, expect_pid=None):
        """Restore a tree, detached. Returns the root's pid as the pidfile says it."""
        pidfile = self.path('pidfile')
        if os.path.exists(pidfile):
            os.unlink(pidfile)
        result = self.ckpt(*self.restore_args(images, '--pidfile', pidfile, *more))
        check(result.rc == 0, f'ckpt restore: exit status {result.rc}', result.err)
        with open(pidfile) as f:
            pid = int(f.read().strip())
        check(expect_pid in (None, pid), f'the pidfile says {pid}, it was {expect_pid}')
        return pid

    def check_tree(self, pid):
        """`ckpt check -t`: rc and everything it printed."""
        result = self.ckpt('check', '-t', str(pid))
        return result.rc, result.out + result.err

    def inspect(self, images):
        """`ckpt inspect --json` as data; also runs it for people."""
        result = self.ckpt('inspect', '-D', self.path(images), '--json')
        check(result.rc == 0, f'ckpt inspect --json: exit status {result.rc}', result.err)
        try:
            data = json.loads(result.out)
        except ValueError as e:
            raise Failure(f'ckpt inspect --json printed no JSON: {e}', result.out.splitlines()[:20]) from e
        result = self.ckpt('inspect', '-D', self.path(images))
        check(result.rc == 0 and result.out.strip(), f'ckpt inspect: exit status {result.rc}', result.err)
        return data

    def no_strangers(self, expected):
        """No process beside these: neither of ckpt nor half a tree."""
        strange = []

        def none():
            strange[:] = [p for p in self.others() if p not in expected]
            return not strange

        if not self.children.poll(none, SETTLE):
            raise Failure(f'processes are left over: {strange}', self.where())

    # --- files ------------------------------------------------------------------------------------------

    def save_files(self):
        """Keep a copy of DIR/work: a program that goes on after -R changes its files, and a restore rightly
        refuses files that have changed."""
        shutil.rmtree(self.path('saved'), ignore_errors=True)
        _copy_tree(self.path('work'), self.path('saved'))

    def put_files_back(self):
        """DIR/work as it was at save_files(); files that still exist keep their inode."""
        _make_same(self.path('saved'), self.path('work'))


def _copy_tree(src, dst):
    os.makedirs(dst, exist_ok=True)
    _make_same(src, dst)


def _make_same(src, dst):
    """Make directory dst hold what src does: regular files, directories, fifos, symbolic links."""
    names = set(os.listdir(src))
    for name in set(os.listdir(dst)) - names:
        path = os.path.join(dst, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    for name in names:
        a, b = os.path.join(src, name), os.path.join(dst, name)
        st = os.lstat(a)
        if os.path.lexists(b) and stat.S_IFMT(os.lstat(b).st_mode) != stat.S_IFMT(st.st_mode):
            os.unlink(b)
        exists = os.path.lexists(b)
        if stat.S_ISDIR(st.st_mode):
            _copy_tree(a, b)
        elif stat.S_ISREG(st.st_mode):
            with open(a, 'rb') as f, open(b, 'r+b' if exists else 'w+b') as g:
                g.truncate(0)
                shutil.copyfileobj(f, g, 1 << 20)
                g.truncate(st.st_size)
        elif stat.S_ISFIFO(st.st_mode) and not exists:
            os.mkfifo(b)
        elif stat.S_ISLNK(st.st_mode) and not exists:
            os.symlink(os.readlink(a), b)
        else:
            continue
        if not stat.S_ISLNK(st.st_mode):
            os.chown(b, st.st_uid, st.st_gid)
            os.chmod(b, stat.S_IMODE(st.st_mode))
            os.utime(b, ns=(st.st_atime_ns, st.st_mtime_ns))


def describe(code):
    if code is None:
        return 'is still running'
    if code >= 0:
        return f'exited with {code}'
    names = {s.value: s.name for s in signal.Signals}
    return f'was killed by {names.get(-code, f"signal {-code}")}'
