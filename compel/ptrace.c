/* SPDX-License-Identifier: GPL-2.0-only */
#include <elf.h>
#include <errno.h>
#include <linux/ptrace.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "compel/arch.h"
#include "compel/internal.h"
#include "compel/tracer.h"
#include "macro.h"

#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG /* Linux 6.4 */
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
#endif
#ifndef NT_X86_SHSTK /* Linux 6.6 */
#define NT_X86_SHSTK 0x204
#endif

enum {
        SYSCALL_STOP = SIGTRAP | 0x80, /* with PTRACE_O_TRACESYSGOOD */
        POLL_SPINS = 200,
        LOOK_EVERY = 32,         /* naps between two looks whether a thread is alive */
        STEP_TIMEOUT_MS = 10000, /* for what takes microseconds, but may wait for mmap_lock */
        CPU_TIMEOUT_MS = 600000, /* more, for a thread that only waits for a CPU */
};

static long ptrace_(unsigned int request, const struct compel_thread *t, uint64_t addr, uint64_t data) {
        return compel_traced(t, SYS_ptrace, (const uint64_t[6]){ request, (uint64_t)t->tid, addr, data }, 0,
                             NULL, 0);
}

/* The letter of /proc/TID/stat; 'X': there is none, '?': it cannot be read. */
static char state_of(pid_t tid) {
        _cleanup_close_ int fd = -EBADF;
        char path[48], buf[512], *p;
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d/stat", tid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 'X' : '?';
        n = read(fd, buf, sizeof(buf) - 1);
        if (n <= 0)
                return n < 0 && errno == ESRCH ? 'X' : '?';
        buf[n] = '\0';
        p = strrchr(buf, ')');
        return p && p[1] == ' ' ? p[2] : '?';
}

bool compel_tid_alive(pid_t tid) {
        char state = state_of(tid);

        return state != 'Z' && state != 'X';
}

/* Nothing keeps it from what it is waited for but the want of a CPU: no reason to give it up. */
static bool wants_cpu(pid_t tid) {
        return state_of(tid) == 'R';
}

bool compel_tid_works(pid_t tid) {
        char state = state_of(tid);

        return state != 'Z' && state != 'X' && state != 't';
}

int compel_attach(struct compel_thread *t, pid_t tid, unsigned long options) {
        struct compel_tracer *tracer = t->tracer;
        long r;

        *t = (struct compel_thread){ .tid = tid, .tracer = tracer };
        r = ptrace_(PTRACE_SEIZE, t, 0, PTRACE_O_TRACESYSGOOD | options);
        /* The kernel does not tell a zombie from a thread that is somebody else's. */
        if (r == -EPERM && !compel_tid_alive(tid))
                r = -ESRCH;
        if (r < 0)
                return (int)r;
        t->seized = true;
        return 0;
}

int compel_interrupt_later(struct compel_thread *t) {
        return (int)ptrace_(PTRACE_INTERRUPT, t, 0, 0);
}

int compel_seize_by(struct compel_tracer *tracer, struct compel_thread *t, pid_t tid,
                    unsigned long options) {
        int r;

        t->tracer = tracer;
        r = compel_attach(t, tid, options);
        return r < 0 ? r : compel_interrupt_later(t);
}

int compel_seize(struct compel_thread *t, pid_t tid, unsigned long options) {
        return compel_seize_by(NULL, t, tid, options);
}

static bool is_event_stop(int status) {
        return WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP;
}

static bool is_signal_stop(int status) {
        return WIFSTOPPED(status) && status >> 16 == 0 && WSTOPSIG(status) != SYSCALL_STOP;
}

static uint64_t now_ms(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/*
 * The state of a tracee as waitpid(2) would tell it, or 0. A signal that waitpid() has told of is
 * lost if the tracer dies before it has resumed the tracee with it, so that one is only looked at:
 * resuming is enough. So it is for event stops, for which that saves a system call; what is left untaken of a system
 * call stop would become a signal if the tracer died.
 */
static int peek_state(const struct compel_thread *t, siginfo_t *ret) {
        const uint64_t arg[6] = { P_PID, (uint64_t)t->tid, 0,
                                  WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL };

        *ret = (siginfo_t){ 0 };
        return (int)compel_traced(t, SYS_waitid, arg, 2, ret, sizeof(*ret));
}

static int take_state(const struct compel_thread *t, int options, int *ret_status) {
        const uint64_t arg[6] = { (uint64_t)t->tid, 0, (uint64_t)(unsigned int)options };

        return (int)compel_traced(t, SYS_wait4, arg, 1, ret_status, sizeof(*ret_status));
}

static int look(const struct compel_thread *t, int *ret_status) {
        siginfo_t si;
        int status = 0, r;

        if (t->dies) {
                r = take_state(t, __WALL | WNOHANG, &status);
                if (r > 0)
                        *ret_status = status;
                return r;
        }
        r = peek_state(t, &si);
        if (r < 0)
                return r;
        if (si.si_pid == 0)
                return 0;
        if (si.si_code == CLD_TRAPPED || si.si_code == CLD_STOPPED) {
                *ret_status = (int)((unsigned int)si.si_status << 8) | 0x7f;
                if (is_signal_stop(*ret_status) || is_event_stop(*ret_status))
                        return 1;
        }
        return take_state(t, __WALL | WNOHANG, &status) == t->tid ? (*ret_status = status, 1) : 0;
}

/*
 * One status change of a tracee, until `deadline`. A dead thread does not always report: the leader of a
 * group says nothing before its last thread has been waited for.
 */
static int wait_change(struct compel_thread *t, uint64_t deadline, int *ret_status) {
        struct timespec nap = { 0, 100 * 1000 };
        bool yield = true;
        uint64_t now;

        for (unsigned int i = 0;; i++) {
                int r = look(t, ret_status);

                if (r > 0 && WIFSTOPPED(*ret_status)) {
                        t->stopped = true;
                        return 0;
                }
                if (r > 0 || r == -ECHILD) {
                        t->seized = false;
                        return -ESRCH;
                }
                if (r < 0 && r != -EINTR)
                        return r;
                if (yield && i < POLL_SPINS) {
                        yield = compel_yield();
                        continue;
                }
                if (i % LOOK_EVERY == 0 && !compel_tid_alive(t->tid)) {
                        t->seized = look(t, ret_status) <= 0;
                        return -ESRCH;
                }
                now = now_ms();
                if (now >= deadline && (now - deadline >= CPU_TIMEOUT_MS || !wants_cpu(t->tid)))
                        return -ETIMEDOUT;
                nanosleep(&nap, NULL);
        }
}

/* Resume a thread from the stop reported by `status` (0: it has been resumed before). */
static int resume(struct compel_thread *t, unsigned int request, int status) {
        bool stop = is_signal_stop(status) && WSTOPSIG(status) == SIGSTOP;
        int r;

        r = (int)ptrace_(request, t, 0, stop ? SIGSTOP : 0);
        if (r < 0)
                return r;
        t->stopped = false;
        t->stop_pending |= stop;
        return 0;
}

/* SIGSTOP is the only signal that can come: the others are blocked, but a fault is not. */
static bool is_fault(int status) {
        return !is_event_stop(status) && WSTOPSIG(status) != SYSCALL_STOP &&
               !(is_signal_stop(status) && WSTOPSIG(status) == SIGSTOP);
}

/* Wait for an event stop, or a system call stop if `request` is PTRACE_SYSCALL, going on from any other. */
static int run_to_stop(struct compel_thread *t, unsigned int request) {
        uint64_t deadline = now_ms() + STEP_TIMEOUT_MS;
        int status, r;

        for (;;) {
                r = wait_change(t, deadline, &status);
                if (r < 0)
                        return r;
                if (is_fault(status))
                        return -EFAULT;
                if (request == PTRACE_SYSCALL ? WSTOPSIG(status) == SYSCALL_STOP : is_event_stop(status))
                        return 0;
                r = resume(t, request, status);
                if (r < 0)
                        return r;
        }
}

int compel_cont(struct compel_thread *t, int sig) {
        int r = (int)ptrace_(PTRACE_CONT, t, 0, (uint64_t)(unsigned int)sig);

        if (r == 0)
                t->stopped = false;
        return r;
}

int compel_next_report(struct compel_thread *t, unsigned int timeout_ms, int *ret_status) {
        return wait_change(t, now_ms() + timeout_ms, ret_status);
}

int compel_resume(struct compel_thread *t) {
        return resume(t, PTRACE_CONT, 0);
}

int compel_park(struct compel_thread *t) {
        int r;

        r = (int)ptrace_(PTRACE_INTERRUPT, t, 0, 0);
        if (r == 0)
                r = compel_resume(t);
        return r < 0 ? r : run_to_stop(t, PTRACE_CONT);
}

int compel_to_syscall_stop(struct compel_thread *t) {
        int r;

        r = resume(t, PTRACE_SYSCALL, 0);
        return r < 0 ? r : run_to_stop(t, PTRACE_SYSCALL);
}

int compel_to_syscall_later(struct compel_thread *t) {
        return resume(t, PTRACE_SYSCALL, 0);
}

int compel_await_stop(struct compel_thread *t) {
        return run_to_stop(t, PTRACE_CONT);
}

int compel_go_on(struct compel_thread *t) {
        int status, r;

        r = wait_change(t, now_ms() + STEP_TIMEOUT_MS, &status);
        if (r < 0)
                return r;
        return is_fault(status) ? -EFAULT : resume(t, PTRACE_CONT, status);
}

bool compel_is_running(const struct compel_thread *t) {
        siginfo_t si;

        return peek_state(t, &si) == 0 && si.si_pid == 0 && compel_tid_alive(t->tid);
}

int compel_get_regs(const struct compel_thread *t, struct user_regs_struct *ret) {
        return (int)compel_ptrace(t, PTRACE_GETREGS, 0, ret, sizeof(*ret));
}

int compel_set_regs(const struct compel_thread *t, const struct user_regs_struct *regs) {
        struct user_regs_struct copy = *regs;

        return (int)compel_ptrace(t, PTRACE_SETREGS, 0, &copy, sizeof(copy));
}

int compel_get_sigmask(const struct compel_thread *t, uint64_t *ret) {
        return (int)compel_ptrace(t, PTRACE_GETSIGMASK, sizeof(*ret), ret, sizeof(*ret));
}

int compel_set_sigmask(const struct compel_thread *t, uint64_t sigmask) {
        return (int)compel_ptrace(t, PTRACE_SETSIGMASK, sizeof(sigmask), &sigmask, sizeof(sigmask));
}

int compel_get_xstate(const struct compel_thread *t, void *buf, size_t *size) {
        return compel_regset(t, PTRACE_GETREGSET, NT_X86_XSTATE, buf, size);
}

int compel_set_xstate(const struct compel_thread *t, const void *buf, size_t size) {
        return compel_regset(t, PTRACE_SETREGSET, NT_X86_XSTATE, (void *)buf, &size);
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

        if (compel_ptrace(t, PTRACE_GET_RSEQ_CONFIGURATION, sizeof(conf), &conf, sizeof(conf)) < 0 ||
            conf.rseq_abi_pointer == 0 ||
            peek(t, conf.rseq_abi_pointer + 8, &cs_addr, sizeof(cs_addr)) < 0 || cs_addr == 0 ||
            peek(t, cs_addr, &cs, sizeof(cs)) < 0 || cs.version != 0 ||
            t->regs.rip - cs.start_ip >= cs.post_commit_offset ||
            peek(t, cs.abort_ip - 4, &signature, sizeof(signature)) < 0 || signature != conf.signature)
                return 0;
        t->regs.rip = cs.abort_ip;
        return compel_set_regs(t, &t->regs);
}

/*
 * Syscall user dispatch lets through what comes from one range of addresses, or all while its selector
 * byte says so.
 */
static bool dispatches_syscalls(const struct compel_thread *t) {
        struct {
                uint64_t mode, selector, offset, len;
        } conf = { 0 };
        char selector;

        if (compel_ptrace(t, PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, sizeof(conf), &conf, sizeof(conf)) <
                    0 ||
            conf.mode == 0)
                return false;
        return conf.selector == 0 || peek(t, conf.selector, &selector, 1) < 0 || selector != 0;
}

static bool has_shadow_stack(const struct compel_thread *t) {
        uint64_t ssp;
        size_t size = sizeof(ssp);

        return compel_regset(t, PTRACE_GETREGSET, NT_X86_SHSTK, &ssp, &size) == 0;
}

const char *compel_unenterable(const struct compel_thread *t) {
        if (t->regs.cs != USER64_CS)
                return "it runs 32-bit code";
        if (t->regs.eflags & EFLAGS_TRAP)
                return "it steps through its own code (trap flag)";
        if (!t->plain && dispatches_syscalls(t))
                return "its system calls are intercepted (PR_SET_SYSCALL_USER_DISPATCH)";
        if (!t->plain && has_shadow_stack(t))
                return "it has a shadow stack";
        return NULL;
}

static int read_state(struct compel_thread *t) {
        int r;

        r = compel_get_regs(t, &t->regs);
        if (r == 0)
                r = compel_get_sigmask(t, &t->sigmask);
        if (r == 0 && (int64_t)t->regs.orig_rax < 0)
                r = abort_rseq(t);
        if (r == 0 && arch_restart_interrupted(&t->regs))
                r = compel_set_regs(t, &t->regs);
        return r;
}

int compel_wait_stop_only(struct compel_thread *t, unsigned int timeout_ms) {
        uint64_t deadline = now_ms() + timeout_ms;
        int status, r;

        for (;;) {
                r = wait_change(t, deadline, &status);
                if (r < 0)
                        return r;
                if (is_event_stop(status)) {
                        t->stop_signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
                        return 0;
                }
                /* A signal on its way to the thread: it is delivered, and the stop comes next. */
                r = (int)ptrace_(PTRACE_CONT, t, 0, is_signal_stop(status) ? (uint64_t)WSTOPSIG(status) : 0);
                if (r < 0)
                        return r;
                t->stopped = false;
        }
}

int compel_wait_stop(struct compel_thread *t, unsigned int timeout_ms) {
        int r = compel_wait_stop_only(t, timeout_ms);

        return r < 0 ? r : read_state(t);
}

void compel_release(struct compel_thread *t) {
        uint64_t deadline = now_ms() + 1000;
        int status = 0, r = 0;

        if (t->seized && !t->stopped)
                r = wait_change(t, deadline, &status);
        if (r == -ETIMEDOUT)
                return; /* in a sleep from which the end of ckpt will release it */
        /*
         * One that was killed in its stop is waited for: before that, nobody else can, nor for its
         * process.
         */
        if (t->seized && t->stopped &&
            ptrace_(PTRACE_DETACH, t, 0, is_signal_stop(status) ? (uint64_t)WSTOPSIG(status) : 0) < 0)
                while (wait_change(t, deadline, &status) == 0)
                        ptrace_(PTRACE_CONT, t, 0, 0);
        *t = (struct compel_thread){ .tid = t->tid };
}

void compel_wait_end(struct compel_thread *t) {
        int status = 0, r;

        while (t->seized) {
                r = take_state(t, __WALL, &status);
                if (r == -EINTR)
                        continue;
                t->seized = r >= 0 && !WIFEXITED(status) && !WIFSIGNALED(status);
        }
        t->seized = t->stopped = false;
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

int compel_remote_start(struct compel_thread *t, raddr_t insn, uint64_t nr, const uint64_t arg[6]) {
        struct user_regs_struct regs = t->regs;
        int r;

        arch_set_syscall(&regs, insn, nr, arg);
        r = compel_set_regs(t, &regs);
        return r < 0 ? r : resume(t, PTRACE_SYSCALL, 0);
}

int compel_remote_enter(struct compel_thread *t) {
        int r;

        r = run_to_stop(t, PTRACE_SYSCALL);
        if (r == 0)
                r = (int)ptrace_(PTRACE_INTERRUPT, t, 0, 0);
        return r < 0 ? r : compel_resume(t);
}

int compel_remote_end(struct compel_thread *t, int64_t *ret) {
        struct user_regs_struct regs;
        int r;

        r = run_to_stop(t, PTRACE_CONT);
        if (r == 0)
                r = compel_get_regs(t, &regs);
        if (r == 0)
                *ret = arch_result(&regs);
        return r;
}
