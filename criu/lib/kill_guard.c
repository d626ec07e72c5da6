/* SPDX-License-Identifier: GPL-2.0-only */
#include "lib/kill_guard.h"

#include <errno.h>
#include <signal.h>
#include <pthread.h>
#include <string.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"

enum { FDS_KEPT = 3 }; /* the socket is moved to this number in the guard */

/* False: the end of file instead, the death of the other side. */
static bool read_byte(int sock) {
        char byte;
        ssize_t n;

        do
                n = read(sock, &byte, 1);
        while (n < 0 && errno == EINTR);
        return n == 1;
}

/*
 * Runs in a copy of a process with threads: system calls only. The pidfds take the place of the
 * pids in `pids`, which is our copy.
 */
static void __attribute__((noreturn)) guard(int sock, pid_t *pids, size_t n) {
        char ready = 1;

        if (sock != FDS_KEPT)
                dup2(sock, FDS_KEPT);
        syscall(SYS_close_range, 0, FDS_KEPT - 1, 0);
        syscall(SYS_close_range, FDS_KEPT + 1, ~0U, 0);
        setsid();
        for (size_t i = 0; i < n; i++)
                pids[i] = (pid_t)syscall(SYS_pidfd_open, pids[i], 0);
        if (write(FDS_KEPT, &ready, 1) != 1)
                _exit(1);
        if (!read_byte(FDS_KEPT))
                for (size_t i = 0; i < n; i++)
                        if (pids[i] >= 0)
                                syscall(SYS_pidfd_send_signal, pids[i], SIGKILL, NULL, 0);
        _exit(0);
}

int kill_guard_arm(const pid_t *pids, size_t n, struct kill_guard *ret, struct ckpt_error *err) {
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF;
        _cleanup_free_ pid_t *copy = malloc((n + 1) * sizeof(*copy));
        sigset_t all, saved;
        int pair[2];
        pid_t pid;

        if (!copy || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot start the process that watches over the last step");
        ours = pair[0];
        theirs = pair[1];
        memcpy(copy, pids, n * sizeof(*copy));
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        pid = fork();
        if (pid == 0)
                guard(theirs, copy, n);
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        if (pid < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot start the process that watches over the last step");
        theirs = safe_close(theirs);
        if (!read_byte(ours)) {
                waitpid(pid, NULL, 0);
                return ckpt_error(err, -EPIPE, "the process that watches over the last step died");
        }
        *ret = (struct kill_guard){ .pid = pid, .fd = TAKE_FD(ours) };
        return 0;
}

void kill_guard_disarm(struct kill_guard *g) {
        char byte = 1;

        if (g->pid <= 0)
                return;
        send(g->fd, &byte, 1, MSG_NOSIGNAL);
        g->fd = safe_close(g->fd);
        waitpid(g->pid, NULL, 0);
        g->pid = 0;
}
