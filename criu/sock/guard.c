/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/guard.h"

#include <errno.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/fault.h"
#include "macro.h"
#include "sock/lock.h"
#include "sock/mptcp.h"
#include "sock/uapi.h"

enum { KILL_WAIT_MS = 3000, SPINS = 2000 };

/* Shared with the guard, at the same address. */
struct guard_page {
        int order;             /* a futex: half of the batch to be read, 0 when that is done */
        int busy;              /* 1 + the job whose socket may be in repair mode */
        int killing;           /* see sock_guard_killing() */
        pthread_mutex_t alive; /* robust, held by the tracer of the tree */
        int locked;            /* the next two are filled in */
        char locks[GUARD_LOCKS][NETLOCK_NAME_MAX];
        int nl;    /* a socket to remove them, -1: none */
        int batch; /* of the two, that which is read */
        size_t n;
        size_t nr_ends;
        int ends[GUARD_ENDS_MAX]; /* see sock_guard_end() */
        struct tcp_room room;
        struct guard_job jobs[2][GUARD_JOBS_MAX];
};

static size_t page_size(void) {
        return page_align_up(sizeof(struct guard_page));
}

static uint8_t *room_of(struct guard_page *page) {
        return (uint8_t *)page + page_size();
}

static int futex(int *word, int op, int value, const struct timespec *timeout) {
        return (int)syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

/* ---- in the guard: a copy of a process with threads, so system calls only ---- */

/*
 * The kernel says so in the mutex when a thread begins to exit, before it lets go of the tasks that the thread has
 * traced; the pidfd tells only when the last thread has gone.
 */
static bool is_dying(struct guard_page *page) {
        return (__atomic_load_n(&page->alive.__data.__lock, __ATOMIC_SEQ_CST) & FUTEX_OWNER_DIED) != 0;
}

static bool is_dead(int pidfd, int timeout) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        return poll(&p, 1, timeout) > 0;
}

static void set_hold(const struct sock_guard *g, uint32_t hold) {
        if (g->hold)
                __atomic_store_n(g->hold, hold, __ATOMIC_SEQ_CST);
}

static void read_job(struct guard_page *page, size_t i, int half) {
        struct guard_job *job = &page->jobs[page->batch][i];

        if (job->fd < 0)
                return;
        __atomic_store_n(&page->busy, (int)i + 1, __ATOMIC_SEQ_CST);
        job->result = half == GUARD_DATAGRAMS ? datagrams_read(job->fd, &job->datagrams, &page->room)
                      : half == GUARD_QUIET
                              ? tcp_read_quiet(job->fd, &job->kept, &job->told, &job->q, &page->room)
                      : half == GUARD_SENT ? tcp_read_sent(job->fd, &job->kept, &job->q, &page->room)
                                           : tcp_read_received(job->fd, &job->kept, &job->q, &page->room);
        __atomic_store_n(&page->busy, 0, __ATOMIC_SEQ_CST);
}

static void check_quiet(struct guard_job *job) {
        if (job->result == 0)
                job->result = tcp_was_quiet(job->fd, &job->told, &job->q);
}

/* False: ckpt is dead. */
static bool serve(const struct sock_guard *g) {
        const struct timespec patience = { .tv_nsec = 20000000 };
        struct guard_page *page = g->page;
        int half = __atomic_load_n(&page->order, __ATOMIC_ACQUIRE);

        if (half == 0) {
                futex(&page->order, FUTEX_WAIT, 0, &patience);
                return !is_dead(g->self, 0);
        }
        for (size_t i = 0; i < page->n; i++) {
                bool dying;

                /* In this order: a tracer that has found ckpt dead and no hold lets the tasks go. */
                set_hold(g, 1);
                dying = is_dying(page);
                if (!dying)
                        read_job(page, i, half);
                set_hold(g, 0);
                if (dying)
                        return false;
        }
        for (size_t i = 0; half == GUARD_QUIET && i < page->n; i++)
                check_quiet(&page->jobs[page->batch][i]);
        __atomic_store_n(&page->order, 0, __ATOMIC_RELEASE);
        futex(&page->order, FUTEX_WAKE, 1, NULL);
        return true;
}

static void remove_locks(const struct guard_page *page) {
        char message[NETLOCK_MESSAGE_MAX];

        for (size_t i = 0; i < GUARD_LOCKS; i++) {
                size_t size = netlock_remove_message(page->locks[i], message);

                if (page->nl >= 0)
                        send(page->nl, message, size, 0);
                netlock_legacy_remove(page->locks[i]);
        }
}

/*
 * ckpt is dead, and was about to kill the tree: is that completed? The killer ends then, or if it had nothing to do. What it
 * has killed does not run any more, but dies when it gets to it.
 */
static bool tree_dies(const struct sock_guard *g) {
        if (g->killer >= 0)
                is_dead(g->killer, -1);
        set_hold(g, 0);
        return is_dead(g->root,
                       g->killed && __atomic_load_n(g->killed, __ATOMIC_SEQ_CST) ? -1 : KILL_WAIT_MS);
}

static void __attribute__((noreturn)) guard(const struct sock_guard *g) {
        struct sched_param priority = { .sched_priority = 1 };
        bool dies;
        size_t n;

        syscall(SYS_setsid);
        /* Not to be put aside for others while a socket is in repair mode. It works without, if that is refused. */
        syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &priority);
        while (serve(g))
                ;
        is_dead(g->self, -1);
        dies = __atomic_load_n(&g->page->killing, __ATOMIC_SEQ_CST) && tree_dies(g);
        if (__atomic_load_n(&g->page->locked, __ATOMIC_ACQUIRE) && !dies)
                remove_locks(g->page);
        n = dies ? __atomic_load_n(&g->page->nr_ends, __ATOMIC_ACQUIRE) : 0;
        for (size_t i = 0; i < n; i++)
                (void)mptcp_end(g->page->ends[i]);
        _exit(0);
}

/* ---- in ckpt ---- */

static int hold_mutex(pthread_mutex_t *m) {
        pthread_mutexattr_t attr;
        int r = pthread_mutexattr_init(&attr);

        if (r == 0)
                r = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        if (r == 0)
                r = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        if (r == 0)
                r = pthread_mutex_init(m, &attr);
        if (r == 0)
                r = pthread_mutex_lock(m);
        return -r;
}

static int open_all(pid_t root, const struct kill_guard *killer, struct sock_guard *g) {
        g->self = (int)syscall(SYS_pidfd_open, getpid(), 0);
        g->root = (int)syscall(SYS_pidfd_open, root, 0);
        if (g->self >= 0 && g->root >= 0 && killer->pid > 0)
                g->killer = (int)syscall(SYS_pidfd_open, killer->pid, 0);
        if (g->self < 0 || g->root < 0 || (killer->pid > 0 && g->killer < 0))
                return -errno;
        g->killed = killer->killed;
        g->size = page_size() + GUARD_ROOM;
        g->page = mmap(NULL, g->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                       0);
        if (g->page == MAP_FAILED) {
                g->page = NULL;
                return -errno;
        }
        return hold_mutex(&g->page->alive);
}

int sock_guard_arm(pid_t root, const struct kill_guard *killer, uint32_t *hold, struct sock_guard *ret,
                   struct ckpt_error *err) {
        struct sock_guard g = SOCK_GUARD_INIT;
        sigset_t all, saved;
        int r;

        g.hold = hold;
        r = open_all(root, killer, &g);
        if (r == 0) {
                sigfillset(&all);
                pthread_sigmask(SIG_SETMASK, &all, &saved);
                /* No exit signal: nobody in ckpt is told when it ends. */
                g.pid = (pid_t)syscall(SYS_clone, CLONE_FILES, 0, 0, 0, 0);
                if (g.pid == 0)
                        guard(&g);
                r = g.pid < 0 ? -errno : 0;
                pthread_sigmask(SIG_SETMASK, &saved, NULL);
        }
        if (r < 0) {
                g.pid = 0;
                sock_guard_disarm(&g);
                return ckpt_error_errno(err, r, "cannot start the process that reads the connections");
        }
        *ret = g;
        return 0;
}

int sock_guard_locks(struct sock_guard *g, const char *const locks[GUARD_LOCKS], struct ckpt_error *err) {
        struct guard_page *page = g->page;

        ckpt_assert(g->pid > 0 && !page->locked);
        g->nl = netlock_socket();
        /* Without, there is no nf_tables either. */
        if (g->nl < 0 && g->nl != -EPROTONOSUPPORT)
                return ckpt_error_errno(err, g->nl, "cannot lock the network");
        page->nl = g->nl;
        for (size_t i = 0; i < GUARD_LOCKS; i++)
                snprintf(page->locks[i], sizeof(page->locks[i]), "%s", locks[i]);
        __atomic_store_n(&page->locked, 1, __ATOMIC_RELEASE);
        return 0;
}

struct guard_job *sock_guard_begin(struct sock_guard *g, bool all_room) {
        struct guard_page *page = g->page;

        page->batch ^= 1;
        page->room = (struct tcp_room){ .at = room_of(page), .left = GUARD_ROOM };
        if (!all_room) {
                page->room.left /= 2;
                page->room.at += (size_t)page->batch * page->room.left;
        }
        return page->jobs[page->batch];
}

struct tcp_room *sock_guard_room(struct sock_guard *g) {
        return &g->page->room;
}

static void end_repair(const struct guard_job *job) {
        int reuse = job->kept.reuse, peek_off = job->kept.peek_off;

        tcp_repair(job->fd, TCP_REPAIR_OFF_NO_WP);
        setsockopt(job->fd, SOL_SOCKET, SO_PEEK_OFF, &peek_off, sizeof(peek_off));
        setsockopt(job->fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
}

/* The tasks are stopped as long as we live, so what it left half done can be completed here. */
static int guard_died(struct sock_guard *g, struct ckpt_error *err) {
        int busy = __atomic_load_n(&g->page->busy, __ATOMIC_ACQUIRE);
        struct guard_job *job = &g->page->jobs[g->page->batch][busy > 0 ? busy - 1 : 0];

        g->pid = 0;
        if (busy > 0 && __atomic_load_n(&g->page->order, __ATOMIC_ACQUIRE) == GUARD_DATAGRAMS)
                datagrams_end(job->fd, &job->datagrams);
        else if (busy > 0)
                end_repair(job);
        set_hold(g, 0);
        return ckpt_error(err, -EPIPE, "the process that reads the connections died");
}

void sock_guard_order(struct sock_guard *g, enum guard_half half, size_t n) {
        struct guard_page *page = g->page;

        ckpt_assert(g->pid > 0 && n <= GUARD_JOBS_MAX);
        page->n = n;
        __atomic_store_n(&page->order, half, __ATOMIC_RELEASE);
        futex(&page->order, FUTEX_WAKE, 1, NULL);
}

int sock_guard_await(struct sock_guard *g, struct ckpt_error *err) {
        const struct timespec patience = { .tv_nsec = 20000000 };
        struct guard_page *page = g->page;
        int order, r;

        r = fault_point_error(FAULT_DUMP_SOCKET_REPAIR, err);
        for (int i = 0; (order = __atomic_load_n(&page->order, __ATOMIC_ACQUIRE)) != 0; i++) {
                if (i < SPINS) {
                        __builtin_ia32_pause();
                        continue;
                }
                if (futex(&page->order, FUTEX_WAIT, order, &patience) < 0 && errno == ETIMEDOUT &&
                    waitpid(g->pid, NULL, WNOHANG | __WALL) == g->pid)
                        return guard_died(g, err);
        }
        return r;
}

void sock_guard_killing(struct sock_guard *g) {
        if (!g->page)
                return;
        __atomic_store_n(&g->page->killing, 1, __ATOMIC_SEQ_CST);
        set_hold(g, 1);
}

void sock_guard_end(struct sock_guard *g, int fd) {
        struct guard_page *page = g->page;

        if (!page || page->nr_ends == GUARD_ENDS_MAX)
                return;
        page->ends[page->nr_ends] = fd;
        __atomic_store_n(&page->nr_ends, page->nr_ends + 1, __ATOMIC_RELEASE);
}

void sock_guard_disarm(struct sock_guard *g) {
        if (g->pid > 0) {
                kill(g->pid, SIGKILL);
                while (waitpid(g->pid, NULL, __WALL) < 0 && errno == EINTR)
                        ;
        }
        set_hold(g, 0);
        safe_close(g->self);
        safe_close(g->root);
        safe_close(g->killer);
        safe_close(g->nl);
        if (g->page) {
                pthread_mutex_unlock(&g->page->alive);
                munmap(g->page, g->size);
        }
        *g = SOCK_GUARD_INIT;
}
