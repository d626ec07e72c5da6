# SPDX-License-Identifier: GPL-2.0-only
"""What is done with a test program: each flavour is a test of its own."""
import os
import re
import signal

from . import procview
from .harness import Failure, check, describe, tail

EXIT_TIMEOUT = 100


class Run:
    """A program under test in its sandbox."""

    def __init__(self, sandbox, spec, binary):
        self.sb, self.spec = sandbox, spec
        self.binary = binary
        self.pid = None
        self.before = None

    def start(self):
        self.pid = self.sb.start([self.binary, *self.spec.args], self.spec.env)
        self.sb.wait_ready(self.pid)
        # It says that it is ready before it lets SIGTERM in, which shows. Of one that rests this is waited for anyway.
        if self.spec.busy:
            self.sb.wait_for(lambda: not procview.blocks(self.pid, signal.SIGTERM), 'the program to let SIGTERM in')
        self.before = self.sb.view(self.pid, rest=not self.spec.busy)

    def same(self, what):
        self.sb.same_view(self.pid, self.before, self.spec.ignore, what)
        self.sb.no_strangers(set(procview.tree(self.pid)))

    def dump(self, images, *more, kill=True):
        self.sb.dump(self.pid, images, *self.spec.dump, *more, kill=kill)

    def restore(self, images):
        self.sb.restore(images, *self.spec.restore, expect_pid=self.pid)
        self.same(f'the tree restored from {images}')

    def finish(self):
        """Let it check itself."""
        self.sb.signal(self.pid, signal.SIGTERM)
        code = self.sb.wait_exit(self.pid, EXIT_TIMEOUT)
        lines = tail(self.sb.path('work/out'), 40)
        said = [line for line in lines if line.startswith(('PASS', 'FAIL'))]
        if code != 0 or any(line.startswith('FAIL') for line in said):
            raise Failure(f'the program {describe(code)}' + (f': {said[0]}' if said else ''))
        check(self.spec.nopass or lines and lines[-1] == 'PASS', 'the program exited with 0 but said no PASS')
        self.sb.no_strangers(set())

    # --- flavours ---------------------------------------------------------------------------------------

    def run_restore(self):
        """Killed and brought back, twice in a row (the second time what was restored is dumped)."""
        self.start()
        for n in range(1, self.spec.rounds + 1):
            self.dump(f'img{n}')
            if n == 1 and not self.spec.nocheck and 'inspect' not in self.sb.without:
                check(self.sb.inspect('img1'), 'ckpt inspect --json shows nothing')
            self.restore(f'img{n}')
        self.finish()

    def run_leave_running(self):
        """Goes on after the dump as if nothing had been; then it comes back from the images."""
        self.start()
        if not self.spec.nocheck and 'check' not in self.sb.without:
            rc, text = self.sb.check_tree(self.pid)
            check(rc == 0, f'ckpt check -t finds something wrong with it (exit status {rc})', text)
            self.same('the tree after ckpt check')
        more = []
        if self.spec.save == 'ready':
            self.sb.save_files()
        elif self.spec.save == 'frozen':
            more = ['--action-script', self._saving_script()]
        self.dump('img', *more, kill=False)
        self.same('the tree that was left running')
        self.finish()
        if self.spec.save != 'none':
            check(os.path.isdir(self.sb.path('saved')), 'the action script did not run')
            self.sb.put_files_back()
        self.sb.children.ended.pop(self.pid, None)
        self.restore('img')
        self.finish()

    def _saving_script(self):
        path = self.sb.path('save.sh')
        with open(path, 'w') as f:
            f.write('#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" = post-dump ] || exit 0\n'
                    f'rm -rf "{self.sb.dir}/saved"; cp -a "{self.sb.dir}/work" "{self.sb.dir}/saved"\n')
        os.chmod(path, 0o755)
        return path

    def run_refused(self):
        """Cannot be dumped, says so, and has changed nothing."""
        self.start()
        pattern = re.compile(self.spec.refused, re.S)
        if not self.spec.nocheck and 'check' not in self.sb.without:
            rc, text = self.sb.check_tree(self.pid)
            check(rc == 1, f'ckpt check -t: exit status {rc}, not 1', text)
            check(pattern.search(text), f'ckpt check -t does not say "{pattern.pattern}"', text)
        result = self.sb.ckpt(*self.sb.dump_args(self.pid, 'img', *self.spec.dump))
        check(result.rc == 1, f'ckpt dump: exit status {result.rc}, not 1', result.err)
        check(pattern.search(result.err), f'ckpt dump does not say "{pattern.pattern}"', result.err)
        check(not os.path.exists(self.sb.path('img/inventory.img')), 'a refused dump left an inventory')
        self.same('the tree whose dump was refused')
        self.finish()


FLAVOURS = {'restore': Run.run_restore, 'leave-running': Run.run_leave_running, 'refused': Run.run_refused}
