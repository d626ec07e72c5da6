/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A process of its own that traces threads for ckpt and outlives it for a moment. The death of a tracer ends what it
 * suspended (PTRACE_O_SUSPEND_SECCOMP), and a filter may forbid the very system calls of the way out of a visit. It also
 * lets threads run that should not run yet, as those whose sockets are in repair mode. So such threads are traced by this one: it carries out ptrace(2) and wait(2) for ckpt, and when ckpt
 * dies, it lets the threads go on, still unfiltered, until each of them is back in code of its own, and only then
 * detaches. It holds no memory to speak of, no descriptors, and is in a session of its own, so that what ends ckpt does
 * not end it.
 *
 * Requests stand in memory shared by both, at the same address; a byte over a socket says that one is there, or done.
 */
#include "compel/tracer.h"

#include <elf.h>
#include <errno.h>
#include <linux/ptrace.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "compel/internal.h"
#include "macro.h"

enum {
        DATA_SIZE = 64 * 1024, /* the longest filter has 32 KiB, the extended state of AMX 11 */
        MAX_TRACED = 1 << 20,
        OUT_TIMEOUT_MS = 10000, /* for what takes microseconds, but may wait for mmap_lock, or a CPU */
        SOCK = 3,               /* the descriptors of the tracer */
        PIDFD = 4,
        SYSCALL_STOP = SIGTRAP | 0x80,
};

struct shared {
        int64_t nr, ret;
        uint64_t arg[6];
        struct compel_region inside;
        uint32_t nr_tids, hold;
        _Alignas(16) char data[DATA_SIZE];
        pid_t tids
                [MAX_TRACED]; /* of the threads that were seized, also those that are gone; touched as needed */
};

struct compel_tracer {
        pid_t pid;
        int sock;
        struct shared *shared;
};

/* ---- in the tracer: a copy of a process with threads, so system calls only ---- */

static long call(const struct shared *sh) {
        long r = syscall(sh->nr, sh->arg[0], sh->arg[1], sh->arg[2], sh->arg[3], sh->arg[4], sh->arg[5]);

        return r < 0 ? -errno : r;
}

static void carry_out(struct shared *sh) {
        bool seize = sh->nr == SYS_ptrace && sh->arg[0] == PTRACE_SEIZE;

        if (seize && sh->nr_tids == MAX_TRACED) {
                sh->ret = -ENOMEM;
                return;
        }
        sh->ret = call(sh);
        if (seize && sh->ret == 0)
                sh->tids[sh->nr_tids++] = (pid_t)sh->arg[1];
}

static bool is_inside(const struct shared *sh, uint64_t rip) {
        const struct compel_region *i = &sh->inside;

        return (rip >= i->stub && rip < i->stub_end) || (rip >= i->map && rip < i->map_end);
}

/* The signal that a stopped thread is about to get. */
static int signal_of(const siginfo_t *si) {
        return si->si_pid != 0 && si->si_status >> 8 == 0 && si->si_status != SYSCALL_STOP ? si->si_status
                                                                                           : 0;
}

static bool has_ended(const siginfo_t *si) {
        return si->si_pid != 0 &&
               (si->si_code == CLD_EXITED || si->si_code == CLD_KILLED || si->si_code == CLD_DUMPED);
}

/*
 * Detach a thread that is in code of its own, let any other go on. Returns whether there is nothing left to do for it.
 * A thread that ckpt had stopped on its way in may not have blocked its signals yet (`first`): a handler in
 * between would look as if it were out. The stub puts the mask back. Later it may have done so already.
 */
static bool let_out(struct shared *sh, pid_t tid, bool first) {
        uint64_t all = ~0ULL;
        struct user_regs_struct regs;
        siginfo_t si = { 0 };

        if (waitid(P_PID, (id_t)tid, &si, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) < 0)
                return true;
        if (has_ended(&si)) {
                waitpid(tid, NULL, __WALL | WNOHANG);
                return true;
        }
        if (syscall(SYS_ptrace, PTRACE_GETREGS, tid, 0, &regs) < 0) /* it runs, or is gone */
                return !first && syscall(SYS_ptrace, PTRACE_INTERRUPT, tid, 0, 0) < 0;
        if (!is_inside(sh, regs.rip)) {
                syscall(SYS_ptrace, PTRACE_DETACH, tid, 0, signal_of(&si));
                return true;
        }
        if (first && signal_of(&si) == 0)
                syscall(SYS_ptrace, PTRACE_SETSIGMASK, tid, sizeof(all), &all);
        syscall(SYS_ptrace, PTRACE_CONT, tid, 0, signal_of(&si));
        return false;
}

/* Until whoever holds them has done what has to be done before they run. */
static void wait_hold(const struct shared *sh) {
        const struct timespec nap = { 0, 100000 };

        for (unsigned int i = 0; i < 10 * OUT_TIMEOUT_MS && __atomic_load_n(&sh->hold, __ATOMIC_SEQ_CST);
             i++)
                nanosleep(&nap, NULL);
}

/* Who is out is forgotten. The kernel detaches whoever is left when this process ends. */
static void let_all_out(struct shared *sh) {
        const struct timespec nap = { 0, 1000000 };

        for (unsigned int i = 0; sh->nr_tids > 0 && i < OUT_TIMEOUT_MS; i++) {
                uint32_t left = 0;

                for (uint32_t j = 0; j < sh->nr_tids; j++)
                        if (!let_out(sh, sh->tids[j], i == 0))
                                sh->tids[left++] = sh->tids[j];
                sh->nr_tids = left;
                nanosleep(&nap, NULL);
        }
}

/* False: ckpt is dead, or done. Its descriptors may be open elsewhere, so that end-of-file is not enough. */
static bool wait_request(void) {
        struct pollfd fds[2] = { { .fd = SOCK, .events = POLLIN }, { .fd = PIDFD, .events = POLLIN } };
        char byte;

        while (poll(fds, 2, -1) < 0)
                if (errno != EINTR)
                        return false;
        return fds[0].revents & POLLIN && !fds[1].revents && read(SOCK, &byte, 1) == 1;
}

static void __attribute__((noreturn)) trace(struct shared *sh, int sock, int pidfd) {
        char byte = 0;

        /* Above both, then down: neither number may be overwritten before it is used. */
        sock = (int)syscall(SYS_fcntl, sock, 0 /* F_DUPFD */, 64);
        pidfd = (int)syscall(SYS_fcntl, pidfd, 0 /* F_DUPFD */, 64);
        dup2(sock, SOCK);
        dup2(pidfd, PIDFD);
        syscall(SYS_close_range, 0, SOCK - 1, 0);
        syscall(SYS_close_range, PIDFD + 1, ~0U, 0);
        setsid();
        prctl(PR_SET_NAME, "ckpt-tracer");
        while (wait_request()) {
                carry_out(sh);
                if (send(SOCK, &byte, 1, MSG_NOSIGNAL) != 1)
                        break;
        }
        wait_hold(sh);
        let_all_out(sh);
        _exit(0);
}

/* ---- in ckpt ---- */

static int start(struct compel_tracer *t) {
        _cleanup_close_ int theirs = -EBADF, pidfd = -EBADF;
        sigset_t all, saved;
        int pair[2];

        t->shared = mmap(NULL, sizeof(*t->shared), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (t->shared == MAP_FAILED) {
                t->shared = NULL;
                return -errno;
        }
        pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
        if (pidfd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        t->sock = pair[0];
        theirs = pair[1];
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        t->pid = fork();
        if (t->pid == 0)
                trace(t->shared, theirs, pidfd);
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        return t->pid < 0 ? -errno : 0;
}

int compel_tracer_start(struct compel_tracer **ret, struct ckpt_error *err) {
        _cleanup_(compel_tracer_free) struct compel_tracer *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return ckpt_error_errno(err, -ENOMEM,
                                        "cannot start the process that traces tasks with seccomp filters");
        t->sock = -EBADF;
        r = start(t);
        if (r < 0)
                return ckpt_error_errno(err, r,
                                        "cannot start the process that traces tasks with seccomp filters");
        *ret = TAKE_PTR(t);
        return 0;
}

void compel_tracer_free(struct compel_tracer **tracer) {
        struct compel_tracer *t = *tracer;

        if (!t)
                return;
        t->sock = safe_close(t->sock);
        if (t->pid > 0)
                while (waitpid(t->pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        if (t->shared)
                munmap(t->shared, sizeof(*t->shared));
        free(t);
        *tracer = NULL;
}

pid_t compel_tracer_pid(const struct compel_tracer *t) {
        return t ? t->pid : (pid_t)syscall(SYS_gettid);
}

uint32_t *compel_tracer_hold(struct compel_tracer *t) {
        return t ? &t->shared->hold : NULL;
}

static bool exchange_byte(int sock) {
        char byte = 0;
        ssize_t n;

        if (send(sock, &byte, 1, MSG_NOSIGNAL) != 1)
                return false;
        do
                n = read(sock, &byte, 1);
        while (n < 0 && errno == EINTR);
        return n == 1;
}

static long request(struct compel_tracer *t, long nr, const uint64_t arg[6]) {
        struct shared *sh = t->shared;

        sh->nr = nr;
        memcpy(sh->arg, arg, sizeof(sh->arg));
        return exchange_byte(t->sock) ? sh->ret : -EPIPE;
}

long compel_traced(const struct compel_thread *t, long nr, const uint64_t arg[6], unsigned int index,
                   void *buf, size_t size) {
        uint64_t a[6];
        long r;

        memcpy(a, arg, sizeof(a));
        if (!t->tracer) {
                if (buf)
                        a[index] = compel_arg(buf);
                r = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
                return r < 0 ? -errno : r;
        }
        if (buf) {
                ckpt_assert(size <= DATA_SIZE);
                memcpy(t->tracer->shared->data, buf, size);
                a[index] = compel_arg(t->tracer->shared->data);
        }
        r = request(t->tracer, nr, a);
        if (buf && r != -EPIPE)
                memcpy(buf, t->tracer->shared->data, size);
        return r;
}

long compel_ptrace(const struct compel_thread *t, unsigned int req, uint64_t addr, void *data, size_t size) {
        return compel_traced(t, SYS_ptrace, (const uint64_t[6]){ req, (uint64_t)t->tid, addr }, 3, data,
                             size);
}

int compel_regset(const struct compel_thread *t, unsigned int req, uint64_t type, void *buf, size_t *size) {
        struct {
                struct iovec iov;
                char bytes[DATA_SIZE / 2];
        } *in = NULL;
        struct iovec iov = { buf, *size };
        uint64_t arg[6] = { req, (uint64_t)t->tid, type, compel_arg(&iov) };
        long r;

        if (t->tracer) {
                in = (void *)t->tracer->shared->data;
                ckpt_assert(*size <= sizeof(in->bytes));
                memcpy(in->bytes, buf, *size);
                in->iov = (struct iovec){ in->bytes, *size };
                arg[3] = compel_arg(&in->iov);
        }
        r = compel_traced(t, SYS_ptrace, arg, 0, NULL, 0);
        if (r < 0)
                return (int)r;
        if (in) {
                iov.iov_len = MIN(in->iov.iov_len, *size);
                memcpy(buf, in->bytes, iov.iov_len);
        }
        *size = iov.iov_len;
        return 0;
}

int compel_peek_siginfo(const struct compel_thread *t, uint32_t flags, uint64_t off, siginfo_t *buf,
                        size_t n) {
        struct {
                struct ptrace_peeksiginfo_args args;
                siginfo_t si[];
        } *in = NULL;
        struct ptrace_peeksiginfo_args args = { .off = off, .flags = flags, .nr = (int32_t)n };
        uint64_t arg[6] = { PTRACE_PEEKSIGINFO, (uint64_t)t->tid, compel_arg(&args), compel_arg(buf) };
        long r;

        if (t->tracer) {
                in = (void *)t->tracer->shared->data;
                ckpt_assert(sizeof(*in) + n * sizeof(*buf) <= DATA_SIZE);
                in->args = args;
                arg[2] = compel_arg(&in->args);
                arg[3] = compel_arg(in->si);
        }
        r = compel_traced(t, SYS_ptrace, arg, 0, NULL, 0);
        if (in && r > 0)
                memcpy(buf, in->si, MIN((size_t)r, n) * sizeof(*buf));
        return (int)r;
}

void compel_tracer_note(const struct compel_thread *t, const struct compel_region *inside) {
        if (t->tracer)
                t->tracer->shared->inside = *inside;
}
