# SPDX-License-Identifier: GPL-2.0-only
"""System calls that Python 3.11 lacks, and children that are started and reaped by hand."""
import ctypes
import fcntl
import os
import signal
import socket
import struct
import time

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
PR_SET_CHILD_SUBREAPER = 36
SYS_kcmp = 312
KCMP_FILE, KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND = range(5)

_libc = ctypes.CDLL(None, use_errno=True)


def _check(ret, what):
    if ret < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f'{what}: {os.strerror(errno)}')
    return ret


def fork_into_new_pidns(pidns_fd):
    """fork(); the child is pid 1 of a pid namespace of its own. pidns_fd is the caller's own namespace, to
    which the caller's next children go back."""
    _check(_libc.unshare(CLONE_NEWPID), 'unshare(CLONE_NEWPID)')
    try:
        pid = os.fork()
    except OSError:
        _check(_libc.setns(pidns_fd, CLONE_NEWPID), 'setns')
        raise
    if pid:
        _check(_libc.setns(pidns_fd, CLONE_NEWPID), 'setns')
    return pid


def private_proc():
    """A mount namespace with a /proc of the caller's pid namespace."""
    _check(_libc.unshare(CLONE_NEWNS), 'unshare(CLONE_NEWNS)')
    _check(_libc.mount(b'none', b'/', None, MS_REC | MS_PRIVATE, None), 'making / private')
    _check(_libc.mount(b'proc', b'/proc', b'proc', 0, None), 'mounting /proc')


def private_dir(path):
    """An empty directory of the test's own under a name that others use, too; after private_proc()."""
    os.makedirs(path, exist_ok=True)
    _check(_libc.mount(b'ckpt-test', os.fsencode(path), b'tmpfs', 0, b'mode=0755'), f'mounting on {path}')


def private_net():
    """A network namespace of the caller's own, in which the loopback device is up."""
    _check(_libc.unshare(CLONE_NEWNET), 'unshare(CLONE_NEWNET)')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack('16sH22x', b'lo', IFF_UP))


def become_subreaper():
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 'prctl(PR_SET_CHILD_SUBREAPER)')


def kcmp(kind, pid1, pid2, idx1=0, idx2=0):
    """0 when the two objects are the same, 1 or 2 when the first comes before or after the second, 3 when they are
    only different, None when it cannot be told."""
    ret = _libc.syscall(SYS_kcmp, pid1, pid2, kind, ctypes.c_ulong(idx1), ctypes.c_ulong(idx2))
    return ret if ret >= 0 else None


class Children:
    """Starts children and knows how every one of them ended, adopted ones included. The process must be pid 1
    of its namespace or a subreaper, and nothing else in it may wait for children."""

    def __init__(self):
        self.ended = {}
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})

    def start(self, argv, cwd, env, out, new_session=False, stdin='/dev/null', pass_fds=()):
        """Start argv with stdin from a file, stdout and stderr to the (new) file `out`, no other descriptor,
        default signals. Returns the pid."""
        pid = os.fork()
        if pid:
            self.ended.pop(pid, None)
            return pid
        try:
            if new_session:
                os.setsid()
            for sig in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(sig, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            os.chdir(cwd)
            os.umask(0o022)
            # Open above 2 first, so that no dup2 hits what another still needs.
            files = [os.open(stdin, os.O_RDONLY), os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)]
            os.dup2(files[0], 0)
            os.dup2(files[1], 1)
            os.dup2(files[1], 2)
            keep = sorted(fd for fd in pass_fds if fd > 2)
            low = 3
            for fd in keep:
                os.closerange(low, fd)
                os.set_inheritable(fd, True)
                low = fd + 1
            os.closerange(low, 65536)
            os.execvpe(argv[0], argv, env)
        except BaseException as e:  # pylint: disable=broad-except
            os.write(2, f'cannot start {argv[0]}: {e}\n'.encode())
        finally:
            os._exit(127)

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self.ended[pid] = os.waitstatus_to_exitcode(status)

    def wait(self, pid, timeout):
        """Exit code of pid (negative: the signal that ended it), or None after `timeout` seconds."""
        self.poll(lambda: pid in self.ended, timeout)
        return self.ended.get(pid)

    def poll(self, done, timeout, interval=0.005):
        """Reap and ask done() until it says yes (True) or the time is over (False)."""
        deadline = time.monotonic() + timeout
        while True:
            self.reap()
            if done():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            signal.sigtimedwait({signal.SIGCHLD}, min(left, interval))
