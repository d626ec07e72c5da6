# SPDX-License-Identifier: GPL-2.0-only
"""What the scenario scripts share besides e2e.harness. Imported as `_scenario` (the script's own directory)."""
import hashlib
import os
import re
import shutil
import signal
import stat

from e2e import procview
from e2e.harness import SETTLE, SLOWNESS, Failure, Sandbox, check, failure_lines, skip  # noqa: F401


def number(name, default):
    """A bound of the test that can be raised from outside: CKPT_TEST_NAME."""
    return int(os.environ.get('CKPT_TEST_' + name, default))


def read(path, missing=None):
    """The bytes of a file; `missing`, if given, where there is none (yet)."""
    try:
        with open(path, 'rb') as f:
            return f.read()
    except FileNotFoundError:
        if missing is None:
            raise
        return missing


def write(path, data):
    with open(path, 'wb') as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def sha(path):
    return hashlib.sha256(read(path)).hexdigest()


def snapshot(directory):
    """Everything in a directory: name -> kind, size, contents. For "changed nothing"."""
    found = {}
    for root, dirs, files in os.walk(directory):
        for name in dirs + files:
            path = os.path.join(root, name)
            st = os.lstat(path)
            what = stat.S_IFMT(st.st_mode)
            found[os.path.relpath(path, directory)] = (
                what, st.st_size if what == stat.S_IFREG else 0,
                sha(path) if what == stat.S_IFREG else os.readlink(path) if what == stat.S_IFLNK else '')
    return found


def one_clear_line(result, *patterns):
    """A refusal: exit status 1, and on stderr something a person can use that matches each pattern."""
    what = ' '.join(result.argv[:6])
    check(result.rc == 1, f'{what}: exit status {result.rc}, not 1', result.err)
    text = result.err.strip()
    check(text, f'{what}: failed, but stderr is empty')
    check(len(text) < 4000 and len(text.splitlines()) <= 20, f'{what}: {len(text.splitlines())} lines on stderr', text[:2000])
    check(not re.search(r'Traceback|assert|Sanitizer|[Ss]egmentation|core dumped', text), f'{what}: crashed', text)
    check(not re.search(r'errno\s*[:=]?\s*-?\d+|error\s*[:=]?\s*-\d+\b', text), f'{what}: a bare error number', text)
    for pattern in patterns:
        check(re.search(pattern, text, re.I), f'{what}: stderr does not match /{pattern}/', text)
    return text


class Failures:
    """What went wrong in a scenario of many cases, each of which is tried all the same."""

    def __init__(self, sb):
        self.sb, self.heads, self.lines = sb, [], []

    def add(self, case, error):
        """A case has failed: what it left running is ended."""
        message, details = failure_lines(error)
        self.heads.append(f'{case}: {message}')
        self.lines += [f'{case}: {message}', *(f'    {line}' for line in details)]
        for pid in self.sb.others():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.sb.children.poll(lambda: not self.sb.others(), SETTLE)

    def check(self):
        if self.heads:
            raise Failure('; '.join(self.heads), self.lines if len(self.heads) > 1 else self.lines[1:])


class Real:
    """A real program that works for some seconds and leaves files behind. It is run once undisturbed, once with two
    dumps and restores in the middle, and once with `dump -R`, killed after that and restored from the images. What
    it leaves must be the same each time.

    prepare() makes its input in sb.path('work'); argv, env: the program; progress() -> number so far; total: the
    number at its end; result() -> anything that can be compared, after its end."""

    def __init__(self, sb, argv, progress, total, result, prepare=lambda: None, env=None, timeout=60):
        self.sb, self.argv, self.env, self.timeout = sb, argv, env, timeout
        self.progress, self.total, self.result, self.prepare = progress, total, result, prepare
        self.pid = None

    def start(self):
        for entry in os.listdir(self.sb.path('work')):
            remove(self.sb.path('work', entry))
        self.prepare()
        self.sb.children.ended.clear()
        self.pid = self.sb.start(self.argv, self.env, out='work/out')

    def wait_progress(self, share):
        """Until it has done that share of its work; it must not have ended."""
        goal = self.total * share
        self.sb.wait_for(lambda: self.pid in self.sb.children.ended or self.progress() >= goal,
                         f'{self.argv[0]} to do {share:.0%} of its work (has done {self.progress()} of {self.total})',
                         self.timeout)
        self.check_working()

    def check_working(self):
        check(self.pid not in self.sb.children.ended,
              f'{self.argv[0]} has ended ({self.sb.children.ended.get(self.pid)}) where it should be busy',
              *self.output())

    def output(self):
        return read(self.sb.path('work/out')).decode(errors='replace').splitlines()[-20:]

    def finish(self):
        code = self.sb.wait_exit(self.pid, self.timeout)
        check(code == 0, f'{self.argv[0]} ended with {code}', *self.output())
        check(self.progress() == self.total, f'it has done {self.progress()} of {self.total}', *self.output())
        self.sb.no_strangers(set())
        return self.result()

    def undisturbed(self):
        self.start()
        return self.finish()

    def twice(self):
        self.start()
        for n, share in enumerate((0.15, 0.4)):
            self.wait_progress(share)
            self.sb.dump(self.pid, f'twice{n}')
            self.sb.restore(f'twice{n}', expect_pid=self.pid)
            self.check_working()
        return self.finish()

    def left_running(self):
        self.start()
        self.wait_progress(0.2)
        script = self.sb.path('save.sh')
        saved, work = self.sb.path('saved'), self.sb.path('work')
        write(script, '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" = post-dump ] || exit 0\n'
                      f'rm -rf "{saved}"; cp -a "{work}" "{saved}"\n')
        os.chmod(script, 0o755)
        self.sb.dump(self.pid, 'running', '--action-script', script, kill=False)
        check(os.path.isdir(saved), 'the action script did not run')
        self.wait_progress(0.5)
        kill_tree(self.sb, self.pid)
        self.sb.put_files_back()
        self.sb.restore('running', expect_pid=self.pid)
        return self.finish()

    def run(self):
        want = self.undisturbed()
        for how in (self.twice, self.left_running):
            got = how()
            check(got == want, f'{how.__name__}: the result is wrong', f'undisturbed: {want}', f'{how.__name__}: {got}')


def kill_tree(sb, pid):
    """Without anyone in it noticing the end of another: a program would write into its files that it has failed."""
    pids = procview.tree(pid)
    for sig in (signal.SIGSTOP, signal.SIGKILL):
        for p in pids:
            try:
                os.kill(p, sig)
            except ProcessLookupError:
                pass
    sb.wait_gone(set(pids))
    # What it forked meanwhile.
    for p in sb.others():
        os.kill(p, signal.SIGKILL)
    sb.no_strangers(set())
    sb.children.ended.pop(pid, None)


class Program:
    """One of the test programs, in a working directory of its own (so that several can follow each other)."""

    def __init__(self, sb, name, *args, env=None, rest=True):
        self.sb, self.name, self.rest = sb, name, rest
        work = sb.path('work')
        for entry in os.listdir(work):
            remove(os.path.join(work, entry))
        self.pid = sb.start([sb.program(name), *args], env)
        self.skipped = None

    def wait_ready(self):
        """False when the program says that this machine cannot show it."""
        self.sb.wait_for(lambda: self.pid in self.sb.children.ended or os.path.exists(self.sb.path('work/ready')),
                         f'{self.name} to become ready')
        if self.pid in self.sb.children.ended:
            text = read(self.sb.path('work/out')).decode(errors='replace')
            check(self.sb.children.ended[self.pid] == 77, f'{self.name} ended before it was ready', text)
            self.skipped = text.strip()
            return False
        self.before = self.sb.view(self.pid, rest=self.rest)
        return True

    def check_same(self, what, ignore=()):
        self.sb.same_view(self.pid, self.before, ignore, what)
        self.sb.no_strangers(set(procview.tree(self.pid)))

    def is_same(self, ignore=()):
        try:
            now = procview.view(procview.tree(self.pid))
        except procview.Gone:
            return False
        return not procview.diff(procview.without(self.before, ignore), procview.without(now, ignore))

    def outlives(self, pids, ignore=()):
        """After a ckpt that was killed during a restore: False when nothing is left of what it made, True when it was too
        late, and the whole tree of these pids is there. Which of them it is may show only after a while."""
        pids = set(pids)
        decided = self.sb.children.poll(
            lambda: not self.sb.others() or (set(self.sb.others()) == pids and self.is_same(ignore)), SETTLE)
        check(decided, f'neither nothing is left of a restore nor all: {self.sb.others()}', *self.sb.where())
        return bool(self.sb.others())

    def finish(self, timeout=30):
        """SIGTERM: it checks itself."""
        self.sb.signal(self.pid, signal.SIGTERM)
        code = self.sb.wait_exit(self.pid, timeout)
        text = read(self.sb.path('work/out')).decode(errors='replace')
        check(code == 0 and text.rstrip().endswith('PASS'), f'{self.name} ended with {code}', text[-2000:])

    def kill(self):
        kill_tree(self.sb, self.pid)
