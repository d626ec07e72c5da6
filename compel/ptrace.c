/* SPDX-License-Identifier: GPL-2.0-only */
#include <elf.h>
#include <errno.h>
#include <linux/ptrace.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "compel/arch.h"
#include "compel/internal.h"

enum {
        SYSCALL_STOP = SIGTRAP | 0x80, /* with PTRACE_O_TRACESYSGOOD */
        POLL_SPINS = 200,
};

static long ptrace_(unsigned int request, pid_t tid, uint64_t addr, uint64_t data) {
        return syscall(SYS_ptrace, request, tid, addr, data) < 0 ? -errno : 0;
}

int compel_seize(struct compel_thread *t, pid_t tid, unsigned long options) {
        long r;

        *t = (struct compel_thread){ .tid = tid };
        r = ptrace_(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD | options);
        if (r < 0)
                return (int)r;
        t->seized = true;
        return (int)ptrace_(PTRACE_INTERRUPT, tid, 0, 0);
}

static bool is_event_stop(int status) {
        return WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP;
}

/* One status change of a tracee, with a bound on the wait. */
static int wait_change(pid_t tid, unsigned int timeout_ms, int *ret_status) {
        struct timespec start, now, nap = { 0, 100 * 1000 };

        clock_gettime(CLOCK_MONOTONIC, &start);
        for (unsigned int i = 0;; i++) {
                pid_t r = waitpid(tid, ret_status, __WALL | WNOHANG);

                if (r == tid)
                        return WIFSTOPPED(*ret_status) ? 0 : -ESRCH;
                if (r < 0 && errno != EINTR)
                        return errno == ECHILD ? -ESRCH : -errno;
                if (i < POLL_SPINS) {
                        sched_yield();
                        continue;
                }
                clock_gettime(CLOCK_MONOTONIC, &now);
                if ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >= timeout_ms)
                        return -ETIMEDOUT;
                nanosleep(&nap, NULL);
        }
}

/*
 * Resume until the next event stop, or the next system call stop if `request` is PTRACE_SYSCALL.
 * SIGSTOP cannot be blocked: one that arrives meanwhile is kept for later.
 */
static int resume_until_stop(struct compel_thread *t, unsigned int request, bool *ret_syscall) {
        int status, r;

        for (;;) {
                r = (int)ptrace_(request, t->tid, 0, 0);
                if (r < 0)
                        return r;
                t->stopped = false;
                do
                        r = wait_change(t->tid, 10000, &status);
                while (r == -ETIMEDOUT && request == PTRACE_SYSCALL);
                if (r < 0)
                        return r;
                t->stopped = true;
                if (WSTOPSIG(status) == SYSCALL_STOP) {
                        *ret_syscall = true;
                        return 0;
                }
                if (is_event_stop(status)) {
                        *ret_syscall = false;
                        if (request != PTRACE_SYSCALL)
                                return 0;
                } else if (WSTOPSIG(status) == SIGSTOP)
                        t->stop_pending = true;
                else
                        return -EFAULT; /* a fault in the agent or in what it was made to do */
        }
}

int compel_park(struct compel_thread *t) {
        bool in_syscall;
        int r;

        r = (int)ptrace_(PTRACE_INTERRUPT, t->tid, 0, 0);
        while (r == 0) {
                r = resume_until_stop(t, PTRACE_CONT, &in_syscall);
                if (r == 0 && !in_syscall)
                        return 0;
        }
        return r;
}

int compel_resume(struct compel_thread *t) {
        int r = (int)ptrace_(PTRACE_CONT, t->tid, 0, 0);

        if (r == 0)
                t->stopped = false;
        return r;
}

/* Wait for the next stop; go on from those that only announce a SIGSTOP. 1: an event stop, 0: went on. */
static int next_stop(struct compel_thread *t) {
        int status, r;

        r = wait_change(t->tid, 10000, &status);
        if (r < 0)
                return r;
        t->stopped = true;
        if (is_event_stop(status))
                return 1;
        if (WSTOPSIG(status) != SIGSTOP)
                return -EFAULT;
        t->stop_pending = true;
        return compel_resume(t);
}

int compel_interrupt(struct compel_thread *t) {
        int r;

        r = (int)ptrace_(PTRACE_INTERRUPT, t->tid, 0, 0);
        while (r == 0)
                r = next_stop(t);
        return r < 0 ? r : 0;
}

int compel_hold_stop_signal(struct compel_thread *t) {
        int r = next_stop(t);

        return r == 1 ? compel_resume(t) : r;
}

bool compel_is_running(const struct compel_thread *t) {
        siginfo_t si = { 0 };

        return waitid(P_PID, (id_t)t->tid, &si, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) == 0 &&
               si.si_pid == 0;
}

int compel_to_syscall_stop(struct compel_thread *t) {
        bool in_syscall;

        return resume_until_stop(t, PTRACE_SYSCALL, &in_syscall);
}

int compel_get_regs(const struct compel_thread *t, struct user_regs_struct *ret) {
        return (int)ptrace_(PTRACE_GETREGS, t->tid, 0, compel_arg(ret));
}

int compel_set_regs(const struct compel_thread *t, const struct user_regs_struct *regs) {
        return (int)ptrace_(PTRACE_SETREGS, t->tid, 0, compel_arg(regs));
}

int compel_get_sigmask(const struct compel_thread *t, uint64_t *ret) {
        return (int)ptrace_(PTRACE_GETSIGMASK, t->tid, sizeof(*ret), compel_arg(ret));
}

int compel_set_sigmask(const struct compel_thread *t, uint64_t sigmask) {
        return (int)ptrace_(PTRACE_SETSIGMASK, t->tid, sizeof(sigmask), compel_arg(&sigmask));
}

int compel_get_xstate(const struct compel_thread *t, void *buf, size_t *size) {
        struct iovec iov = { buf, *size };
        int r;

        r = (int)ptrace_(PTRACE_GETREGSET, t->tid, NT_X86_XSTATE, compel_arg(&iov));
        if (r == 0)
                *size = iov.iov_len;
        return r;
}

int compel_set_xstate(const struct compel_thread *t, const void *buf, size_t size) {
        struct iovec iov = { (void *)buf, size };

        return (int)ptrace_(PTRACE_SETREGSET, t->tid, NT_X86_XSTATE, compel_arg(&iov));
}

static int peek(const struct compel_thread *t, raddr_t addr, void *buf, size_t size) {
        struct iovec local = { buf, size }, remote = { (void *)(uintptr_t)addr, size };
        ssize_t n = process_vm_readv(t->tid, &local, 1, &remote, 1, 0);

        return n == (ssize_t)size ? 0 : -EFAULT;
}

/*
 * What the kernel does with a thread preempted inside a restartable sequence. It would not do it
 * for us: once the registers have pointed elsewhere it forgets the sequence. User space writes the
 * descriptor, so one that makes no sense is left to it.
 */
static int abort_rseq(struct compel_thread *t) {
        struct ptrace_rseq_configuration conf;
        struct {
                uint32_t version, flags;
                uint64_t start_ip, post_commit_offset, abort_ip;
        } cs;
        uint64_t cs_addr;
        uint32_t signature;

        if (ptrace_(PTRACE_GET_RSEQ_CONFIGURATION, t->tid, sizeof(conf), compel_arg(&conf)) < 0 ||
            conf.rseq_abi_pointer == 0 || peek(t, conf.rseq_abi_pointer + 8, &cs_addr, sizeof(cs_addr)) < 0 ||
            cs_addr == 0 || peek(t, cs_addr, &cs, sizeof(cs)) < 0 || cs.version != 0 ||
            t->regs.rip - cs.start_ip >= cs.post_commit_offset ||
            peek(t, cs.abort_ip - 4, &signature, sizeof(signature)) < 0 || signature != conf.signature)
                return 0;
        t->regs.rip = cs.abort_ip;
        return compel_set_regs(t, &t->regs);
}

static int read_state(struct compel_thread *t) {
        int r;

        r = compel_get_regs(t, &t->regs);
        if (r == 0)
                r = compel_get_sigmask(t, &t->sigmask);
        if (r == 0 && (int64_t)t->regs.orig_rax < 0)
                r = abort_rseq(t);
        return r;
}

int compel_wait_stop(struct compel_thread *t, unsigned int timeout_ms) {
        int status, r;

        for (;;) {
                r = wait_change(t->tid, timeout_ms, &status);
                if (r == -ESRCH)
                        t->seized = false;
                if (r < 0)
                        return r;
                t->stopped = true;
                if (is_event_stop(status)) {
                        t->stop_signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
                        return read_state(t);
                }
                /* A signal on its way to the thread: it is delivered, and the stop comes next. */
                r = (int)ptrace_(PTRACE_CONT, t->tid, 0, (uint64_t)WSTOPSIG(status));
                if (r < 0)
                        return r;
                t->stopped = false;
        }
}

void compel_release(struct compel_thread *t) {
        int status;

        if (!t->seized)
                return;
        if (!t->stopped && wait_change(t->tid, 1000, &status) < 0)
                return; /* dead, or in a sleep from which the end of ckpt will release it */
        if (t->stop_pending)
                syscall(SYS_tkill, t->tid, SIGSTOP);
        ptrace_(PTRACE_DETACH, t->tid, 0, 0);
        *t = (struct compel_thread){ .tid = t->tid };
}

int compel_remote_syscall(struct compel_thread *t, raddr_t insn, uint64_t nr, const uint64_t arg[6],
                          int64_t *ret, struct ckpt_error *err) {
        struct user_regs_struct regs = t->regs;
        int r;

        arch_set_syscall(&regs, insn, nr, arg);
        r = compel_set_regs(t, &regs);
        if (r == 0)
                r = compel_to_syscall_stop(t);
        if (r == 0)
                r = compel_to_syscall_stop(t);
        if (r == 0)
                r = compel_get_regs(t, &regs);
        if (r == 0)
                r = compel_park(t);
        if (r < 0)
                return ckpt_error_errno(err, r, "pid %d: cannot have it carry out system call %llu", t->tid,
                                        (unsigned long long)nr);
        *ret = arch_result(&regs);
        return 0;
}
