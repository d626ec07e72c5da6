/* SPDX-License-Identifier: GPL-2.0-only */
#include "lib/kill_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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

enum { SOCK = 3, PIDFD = 4 }; /* to these numbers both are moved in the guard */

/* In the guard. False: ckpt is dead, and has said no more. Others may have its end of the socket, so end-of-file is not enough. */
static bool wait_word(void) {
        struct pollfd fds[2] = { { .fd = SOCK, .events = POLLIN }, { .fd = PIDFD, .events = POLLIN } };

        while (poll(fds, 2, -1) < 0)
                if (errno != EINTR)
                        return false;
        return fds[0].revents != 0 || poll(fds, 1, 0) > 0;
}

static int hear(void *buf, size_t size) {
        char *p = buf;

        while (size > 0) {
                ssize_t n = wait_word() ? read(SOCK, p, size) : 0;

                if (n == 0)
                        return -EPIPE;
                if (n < 0 && errno != EINTR)
                        return -errno;
                p += n > 0 ? n : 0;
                size -= n > 0 ? (size_t)n : 0;
        }
        return 0;
}

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

static int watch(struct watched *ret) {
        size_t n;
        int *p;
        int r;

        r = hear(&n, sizeof(n));
        if (r < 0 || n == 0)
                return r;
        p = mmap(NULL, n * sizeof(*p), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
                return -ENOMEM;
        r = hear(p, n * sizeof(*p));
        for (size_t i = 0; r == 0 && i < n; i++)
                p[i] = (int)syscall(SYS_pidfd_open, p[i], 0);
        *ret = (struct watched){ p, n };
        return r;
}

/* Runs in a copy of a process that may have threads: system calls only. */
static void __attribute__((noreturn)) guard(int sock, int pidfd, int *killed) {
        struct watched w = { NULL, 0 };
        char byte = 1;

        /* Above both, then down: neither number may be overwritten before it is used. */
        sock = (int)syscall(SYS_fcntl, sock, F_DUPFD, PIDFD + 1);
        pidfd = (int)syscall(SYS_fcntl, pidfd, F_DUPFD, PIDFD + 1);
        if (dup2(sock, SOCK) < 0 || dup2(pidfd, PIDFD) < 0)
                _exit(1);
        syscall(SYS_close_range, 0, SOCK - 1, 0);
        syscall(SYS_close_range, PIDFD + 1, ~0U, 0);
        setsid();
        /* What ends before it is armed was not to be watched over. */
        if (watch(&w) < 0 || write(SOCK, &byte, 1) != 1)
                _exit(1);
        if (hear(&byte, 1) < 0) {
                for (size_t i = 0; i < w.n; i++)
                        if (w.fds[i] >= 0)
                                syscall(SYS_pidfd_send_signal, w.fds[i], SIGKILL, NULL, 0);
                __atomic_store_n(killed, 1, __ATOMIC_SEQ_CST);
        }
        _exit(0);
}

static int not_started(int *killed, struct ckpt_error *err) {
        int r = -errno;

        if (killed != MAP_FAILED)
                munmap(killed, sizeof(*killed));
        return ckpt_error_errno(err, r, "cannot start the process that watches over the last step");
}

int kill_guard_start(struct kill_guard *ret, struct ckpt_error *err) {
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF, pidfd = -EBADF;
        int *killed = mmap(NULL, sizeof(*killed), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        sigset_t all, saved;
        int pair[2];
        pid_t pid;

        pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
        if (killed == MAP_FAILED || pidfd < 0 ||
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return not_started(killed, err);
        ours = pair[0];
        theirs = pair[1];
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        pid = fork();
        if (pid == 0)
                guard(theirs, pidfd, killed);
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        if (pid < 0)
                return not_started(killed, err);
        *ret = (struct kill_guard){ .pid = pid, .fd = TAKE_FD(ours), .killed = killed };
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
        if (g->killed)
                munmap(g->killed, sizeof(*g->killed));
        g->killed = NULL;
}
