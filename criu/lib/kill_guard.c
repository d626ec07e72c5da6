/* SPDX-License-Identifier: GPL-2.0-only */
#include "lib/kill_guard.h"

#include <errno.h>
#include <signal.h>
#include <pthread.h>
#include <string.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"

enum { FDS_KEPT = 3 }; /* the socket is moved to this number in the guard */

/* 0, or an error; -EPIPE: the end of file instead, the death of the other side. */
static int receive(int sock, void *buf, size_t size) {
        ssize_t n = read_full(sock, buf, size);

        return n < 0 ? (int)n : n == (ssize_t)size ? 0 : -EPIPE;
}

/* Who is to be watched over, as pidfds in memory of our own. */
struct watched {
        int *fds;
        size_t n;
};

static int watch(int sock, struct watched *ret) {
        size_t n;
        int *p;
        int r;

        r = receive(sock, &n, sizeof(n));
        if (r < 0 || n == 0)
                return r;
        p = mmap(NULL, n * sizeof(*p), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
                return -ENOMEM;
        r = receive(sock, p, n * sizeof(*p));
        for (size_t i = 0; r == 0 && i < n; i++)
                p[i] = (int)syscall(SYS_pidfd_open, p[i], 0);
        *ret = (struct watched){ p, n };
        return r;
}

/* Runs in a copy of a process that may have threads: system calls only. */
static void __attribute__((noreturn)) guard(int sock) {
        struct watched w = { NULL, 0 };
        char byte = 1;

        if (sock != FDS_KEPT)
                dup2(sock, FDS_KEPT);
        syscall(SYS_close_range, 0, FDS_KEPT - 1, 0);
        syscall(SYS_close_range, FDS_KEPT + 1, ~0U, 0);
        setsid();
        /* What ends before it is armed was not to be watched over. */
        if (watch(FDS_KEPT, &w) < 0 || write(FDS_KEPT, &byte, 1) != 1)
                _exit(1);
        if (receive(FDS_KEPT, &byte, 1) < 0)
                for (size_t i = 0; i < w.n; i++)
                        if (w.fds[i] >= 0)
                                syscall(SYS_pidfd_send_signal, w.fds[i], SIGKILL, NULL, 0);
        _exit(0);
}

int kill_guard_start(struct kill_guard *ret, struct ckpt_error *err) {
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF;
        sigset_t all, saved;
        int pair[2];
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot start the process that watches over the last step");
        ours = pair[0];
        theirs = pair[1];
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        pid = fork();
        if (pid == 0)
                guard(theirs);
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        if (pid < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot start the process that watches over the last step");
        *ret = (struct kill_guard){ .pid = pid, .fd = TAKE_FD(ours) };
        return 0;
}

static bool send_all(int sock, const void *data, size_t size) {
        const char *p = data;

        while (size > 0) {
                ssize_t n = send(sock, p, size, MSG_NOSIGNAL);

                if (n < 0 && errno != EINTR)
                        return false;
                p += n > 0 ? n : 0;
                size -= n > 0 ? (size_t)n : 0;
        }
        return true;
}

int kill_guard_arm(struct kill_guard *g, const pid_t *pids, size_t n, struct ckpt_error *err) {
        char ready;

        ckpt_assert(!g->armed);
        if (!send_all(g->fd, &n, sizeof(n)) || !send_all(g->fd, pids, n * sizeof(*pids)) ||
            receive(g->fd, &ready, 1) < 0)
                return ckpt_error(err, -EPIPE, "the process that watches over the last step died");
        g->armed = true;
        return 0;
}

void kill_guard_disarm(struct kill_guard *g) {
        char byte = 1;

        if (g->armed)
                (void)send_all(g->fd, &byte, 1);
        g->armed = false;
        g->fd = safe_close(g->fd);
}

void kill_guard_end(struct kill_guard *g) {
        kill_guard_disarm(g);
        if (g->pid > 0)
                while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        g->pid = 0;
}
