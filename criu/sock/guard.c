/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/guard.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "sock/lock.h"
#include "sock/uapi.h"

enum { KILL_WAIT_MS = 3000 };

struct guard_page {
        int fd; /* 1 + the socket in repair mode; 0: none. __atomic */
        int reuse;
        int killing;
};

/* Runs in a copy of a process with threads: system calls only. */
static void __attribute__((noreturn)) guard(const struct sock_guard *g, const char *message, size_t size) {
        struct pollfd self = { .fd = g->self, .events = POLLIN }, root = { .fd = g->root, .events = POLLIN };
        int fd, off = TCP_REPAIR_OFF_NO_WP;

        syscall(SYS_setsid);
        while (poll(&self, 1, -1) < 0)
                ;
        fd = __atomic_load_n(&g->page->fd, __ATOMIC_ACQUIRE);
        if (fd > 0) {
                setsockopt(fd - 1, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));
                setsockopt(fd - 1, SOL_SOCKET, SO_REUSEADDR, &g->page->reuse, sizeof(g->page->reuse));
        }
        if (size > 0 && (!__atomic_load_n(&g->page->killing, __ATOMIC_ACQUIRE) || poll(&root, 1, KILL_WAIT_MS) == 0))
                send(g->nl, message, size, 0);
        _exit(0);
}

static int open_all(pid_t root, bool lock, struct sock_guard *g) {
        g->self = (int)syscall(SYS_pidfd_open, getpid(), 0);
        g->root = (int)syscall(SYS_pidfd_open, root, 0);
        if (g->self < 0 || g->root < 0)
                return -errno;
        if (lock) {
                g->nl = netlock_socket();
                if (g->nl < 0)
                        return g->nl;
        }
        g->page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (g->page == MAP_FAILED) {
                g->page = NULL;
                return -errno;
        }
        return 0;
}

int sock_guard_arm(pid_t root, const char *lock, struct sock_guard *ret, struct ckpt_error *err) {
        struct sock_guard g = SOCK_GUARD_INIT;
        char message[NETLOCK_MESSAGE_MAX];
        size_t size = lock ? netlock_remove_message(lock, message) : 0;
        sigset_t all, saved;
        int r;

        r = open_all(root, lock != NULL, &g);
        if (r == 0) {
                sigfillset(&all);
                pthread_sigmask(SIG_SETMASK, &all, &saved);
                /* No exit signal: nobody in ckpt is told when it ends. */
                g.pid = (pid_t)syscall(SYS_clone, CLONE_FILES, 0, 0, 0, 0);
                if (g.pid == 0)
                        guard(&g, message, size);
                r = g.pid < 0 ? -errno : 0;
                pthread_sigmask(SIG_SETMASK, &saved, NULL);
        }
        if (r < 0) {
                g.pid = 0;
                sock_guard_disarm(&g);
                return ckpt_error_errno(err, r, "cannot start the process that watches over the connections");
        }
        *ret = g;
        return 0;
}

void sock_guard_repairing(struct sock_guard *g, int fd, bool reuse) {
        if (!g->page)
                return;
        if (fd >= 0)
                __atomic_store_n(&g->page->reuse, reuse, __ATOMIC_RELAXED);
        __atomic_store_n(&g->page->fd, fd + 1, __ATOMIC_SEQ_CST);
}

void sock_guard_killing(struct sock_guard *g) {
        if (g->page)
                __atomic_store_n(&g->page->killing, 1, __ATOMIC_SEQ_CST);
}

void sock_guard_disarm(struct sock_guard *g) {
        if (g->pid > 0) {
                kill(g->pid, SIGKILL);
                while (waitpid(g->pid, NULL, __WALL) < 0 && errno == EINTR)
                        ;
        }
        safe_close(g->self);
        safe_close(g->root);
        safe_close(g->nl);
        if (g->page)
                munmap(g->page, PAGE_SIZE);
        *g = SOCK_GUARD_INIT;
}
