# SPDX-License-Identifier: GPL-2.0-only
"""A CPU on which nothing but ckpt gets anywhere, so that whatever is true only once a task has run is not true yet when ckpt
has ended. For scenario scripts, which have to be `serial`: others would starve, too."""
import os
import signal
import time

from e2e.harness import skip

HOG, FIRST = 1, 2                  # priorities: who starves the others, and whom it does not
SCHED_RESET_ON_FORK = 0x40000000


def _real_time(pid, priority):
    """SCHED_FIFO; what it forks is ordinary again."""
    os.sched_setscheduler(pid, os.SCHED_FIFO | SCHED_RESET_ON_FORK, os.sched_param(priority))


class Starved:
    """with Starved() as cpu: ordinary tasks pinned to `cpu` hardly run: in each second they get the twentieth part that the
    kernel keeps for them (kernel.sched_rt_runtime_us), if that. The caller itself is moved to another CPU."""

    def __init__(self):
        self.cpus = sorted(os.sched_getaffinity(0))
        if len(self.cpus) < 2:
            skip('takes two CPUs: one to starve, one for the test')
        self.cpu, self.hog = self.cpus[-1], None

    def pinned(self, argv):
        """A program that stays there."""
        return ['/usr/bin/taskset', '-c', str(self.cpu), *argv]

    def __enter__(self):
        os.sched_setaffinity(0, set(self.cpus) - {self.cpu})
        ready, say = os.pipe()
        self.hog = os.fork()
        if self.hog == 0:
            self._burn(ready, say)
        os.close(say)
        answer = os.read(ready, 1)
        os.close(ready)
        if not answer:
            self.__exit__()
            skip('no real-time priority may be had here')
        return self

    def _burn(self, ready, say):
        try:
            os.close(ready)
            os.sched_setaffinity(0, {self.cpu})
            _real_time(0, HOG)
            os.write(say, b'+')
            os.close(say)
            # Whatever becomes of the test.
            end = time.monotonic() + 600
            while time.monotonic() < end and os.getppid() != 1:
                pass
        finally:
            os._exit(0)

    def __exit__(self, *_):
        os.kill(self.hog, signal.SIGKILL)
        os.waitpid(self.hog, 0)
        os.sched_setaffinity(0, set(self.cpus))

    def first(self, sb):
        """From now on sb.ckpt() runs on the starved CPU, before all others; what it clones is starved."""
        script = sb.path('ckpt-first')
        with open(script, 'w') as f:
            f.write(f'#!/bin/sh\nexec chrt -R -f {FIRST} taskset -c {self.cpu} "{os.environ["CKPT"]}" "$@"\n')
        os.chmod(script, 0o755)
        sb.ckpt_path = script
        sb.bystanders.add(self.hog)

    @staticmethod
    def no_longer(sb):
        sb.ckpt_path = os.environ['CKPT']


class Group:
    """with Group() as group: threads that are put into it share three milliseconds of each second with two that want all of it
    (a cgroup of version 1 with a quota). Nothing of that shows but in /proc/PID/cgroup, and only while it lasts."""

    TOP = '/sys/fs/cgroup/cpu'

    def __init__(self):
        self.path = f'{self.TOP}/ckpt-test-{os.getpid()}-{time.monotonic_ns()}'
        self.hogs = []

    def __enter__(self):
        try:
            os.mkdir(self.path)
            self._set('cpu.cfs_period_us', 1000000)
            self._set('cpu.cfs_quota_us', 3000)
        except OSError as e:
            skip(f'no cgroup with a quota of CPU time can be made: {e}')
        for cpu in list(os.sched_getaffinity(0))[:2]:
            self.hogs.append(os.fork())
            if self.hogs[-1] == 0:
                self._burn(cpu)
        return self

    def _set(self, name, value):
        with open(f'{self.path}/{name}', 'w', encoding='ascii') as f:
            f.write(str(value))

    def _burn(self, cpu):
        try:
            os.sched_setaffinity(0, {cpu})
            self._set('cgroup.procs', os.getpid())
            end = time.monotonic() + 600
            while time.monotonic() < end and os.getppid() != 1:
                pass
        finally:
            os._exit(0)

    def add(self, tid):
        self._set('tasks', tid)

    def __exit__(self, *_):
        self._set('cpu.cfs_quota_us', -1)
        for hog in self.hogs:
            os.kill(hog, signal.SIGKILL)
            os.waitpid(hog, 0)
        with open(f'{self.path}/tasks', encoding='ascii') as f:
            left = f.read().split()
        for tid in left:
            with open(f'{self.TOP}/tasks', 'w', encoding='ascii') as f:
                f.write(tid)
        os.rmdir(self.path)
