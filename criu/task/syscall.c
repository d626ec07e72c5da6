/* SPDX-License-Identifier: GPL-2.0-only */
#include "task/syscall.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "proc/syscall.h"
#include "task/internal.h"
#include "task/waits.h"

#define NS_PER_S 1000000000ULL

/* Results inside the kernel (include/linux/errno.h), which only ptrace shows. */
enum {
        ERESTARTSYS_ = 512,
        ERESTARTNOINTR_ = 513,
        ERESTARTNOHAND_ = 514,
        ERESTART_RESTARTBLOCK_ = 516,
        SYSCALL_SIZE = 2, /* of the instruction */
        START_TIMEOUT_S = 10,
};

/* ---- dump ---- */

static bool read_memory(const struct dump_thread *t, uint64_t addr, void *buf, size_t size) {
        struct iovec local = { buf, size }, remote = { (void *)(uintptr_t)addr, size };

        return process_vm_readv(t->tid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

/* A timespec of the thread's memory in nanoseconds; more than fits is as good as the largest. */
static bool read_timespec(const struct dump_thread *t, uint64_t addr, uint64_t *ret) {
        struct timespec ts;

        if (addr == 0 || !read_memory(t, addr, &ts, sizeof(ts)) || ts.tv_sec < 0 || ts.tv_nsec < 0 ||
            ts.tv_nsec >= (long)NS_PER_S)
                return false;
        *ret = (uint64_t)ts.tv_sec > INT64_MAX / NS_PER_S - 1
                       ? INT64_MAX
                       : (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
        return true;
}

/*
 * The call that restart_syscall(2) goes on with, or -1. The registers still have its arguments, but its number is gone:
 * what the look stage saw tells, or the instruction that loaded the number just before.
 */
static int resolve_restart(const struct dump_thread *t, const struct wait_seen *seen) {
        const struct user_regs_struct *regs = &t->stop.regs;
        uint8_t code[5]; /* mov $imm32, %eax */
        int nr = seen ? seen->nr : -1;
        uint32_t imm;

        if (read_memory(t, regs->rip - SYSCALL_SIZE - sizeof(code), code, sizeof(code)) && code[0] == 0xb8) {
                memcpy(&imm, code + 1, sizeof(imm));
                if (imm == SYS_nanosleep || imm == SYS_clock_nanosleep || imm == SYS_poll ||
                    imm == SYS_futex)
                        return (int)imm;
        }
        /* wchan does not tell these two apart, but a clock is a small number and nanosleep's argument an address. */
        if (nr == SYS_clock_nanosleep)
                return regs->rdi < PAGE_SIZE ? SYS_clock_nanosleep : SYS_nanosleep;
        return nr;
}

/* One of the calls with a time that runs. */
struct timed_call {
        bool absolute;  /* or without a limit: simply made again */
        bool known;     /* `asked` could be read */
        uint64_t asked; /* nanoseconds from its beginning */
        bool has_left;  /* the kernel has told what was left when it was interrupted */
        uint64_t left;
};

static void read_sleep(const struct dump_thread *t, uint64_t request, uint64_t remainder,
                       struct timed_call *ret) {
        ret->known = read_timespec(t, request, &ret->asked);
        ret->has_left = read_timespec(t, remainder, &ret->left);
}

static void read_timed_call(const struct dump_thread *t, int nr, struct timed_call *ret) {
        const struct user_regs_struct *regs = &t->stop.regs;

        *ret = (struct timed_call){ 0 };
        switch (nr) {
        case SYS_nanosleep:
                read_sleep(t, regs->rdi, regs->rsi, ret);
                break;
        case SYS_clock_nanosleep:
                ret->absolute = regs->rsi & TIMER_ABSTIME;
                read_sleep(t, regs->rdx, regs->r10, ret);
                break;
        case SYS_poll:
                ret->absolute = (int32_t)regs->rdx < 0;
                ret->known = true;
                ret->asked = (uint64_t)(uint32_t)regs->rdx * 1000000;
                break;
        case SYS_futex:
                /* FUTEX_WAIT_BITSET has an absolute timeout. */
                ret->absolute =
                        ((uint32_t)regs->rsi & (uint32_t)FUTEX_CMD_MASK) != FUTEX_WAIT || regs->r10 == 0;
                ret->known = read_timespec(t, regs->r10, &ret->asked);
                break;
        default:
                break;
        }
}

static uint64_t subtract(uint64_t a, uint64_t b) {
        return a > b ? a - b : 0;
}

/* -ERESTART_RESTARTBLOCK: only the kernel knows how to go on, unless it is a call that we know. */
static void read_restart_block(struct dump_thread *t, Img__SyscallState *call) {
        const struct wait_seen *seen = waits_find(t);
        bool unbroken = seen && waits_unbroken(t, seen);
        uint64_t waited = unbroken ? subtract(waits_now(), seen->since) : 0;
        struct timed_call timed;
        int nr = (int)call->nr;

        if (nr == SYS_restart_syscall)
                nr = resolve_restart(t, seen);
        read_timed_call(t, nr, &timed);
        if (timed.absolute) {
                call->nr = (uint64_t)nr;
                call->result = -ERESTARTNOHAND_;
                return;
        }
        if (!timed.known) {
                log_warn("%s waits in system call %" PRIu64
                         ", and how to go on with it only the kernel knows; once "
                         "restored, the call fails with EINTR",
                         dump_thread_name(t), call->nr);
                return;
        }
        call->nr = (uint64_t)nr;
        call->has_remaining_ns = true;
        if (timed.has_left)
                /* That was when it was interrupted: now, or when a signal stopped it. */
                call->remaining_ns = unbroken && seen->stopped ? subtract(timed.left, waited) : timed.left;
        else {
                if (!unbroken)
                        log_info(
                                "%s: how long it has been waiting in system call %d is not known; restored, it waits its "
                                "whole time again",
                                dump_thread_name(t), nr);
                call->remaining_ns = subtract(timed.asked, waited);
        }
        call->has_elapsed_ns = timed.has_left || unbroken;
        call->elapsed_ns = subtract(timed.asked, call->remaining_ns);
}

static int syscall_read(struct dump_thread *t, struct ckpt_error *err __attribute__((unused))) {
        struct user_regs_struct *regs = &t->stop.regs;
        Img__SyscallState *call;

        if ((int64_t)regs->orig_rax < 0)
                return 0;
        switch (-(int64_t)regs->rax) {
        case ERESTARTSYS_:
        case ERESTARTNOINTR_:
        case ERESTARTNOHAND_:
        case ERESTART_RESTARTBLOCK_:
                break;
        default:
                return 0;
        }
        call = arena_message(t->arena, Img__SyscallState, img__syscall_state__init);
        call->has_nr = call->has_result = true;
        call->nr = regs->orig_rax;
        call->result = (int64_t)regs->rax;
        if (call->result == -ERESTART_RESTARTBLOCK_)
                read_restart_block(t, call);
        dump_thread_core(t)->syscall = call;
        return 0;
}

/* ---- restore ---- */

static int syscall_check(struct restore_thread *t, struct ckpt_error *err) {
        const Img__SyscallState *call = restore_thread_core(t)->syscall;

        if (!call)
                return 0;
        if (!call->has_nr || !call->has_result || call->nr > INT32_MAX ||
            (call->result != -ERESTARTSYS_ && call->result != -ERESTARTNOINTR_ &&
             call->result != -ERESTARTNOHAND_ && call->result != -ERESTART_RESTARTBLOCK_))
                return ckpt_error(err, -EBADMSG, "%s: the system call it was in makes no sense",
                                  restore_thread_name(t));
        return 0;
}

bool syscall_must_reissue(const struct restore_thread *t) {
        const Img__SyscallState *call = restore_thread_core(t)->syscall;

        return call && call->result == -ERESTART_RESTARTBLOCK_ && call->has_remaining_ns &&
               (call->nr == SYS_nanosleep || call->nr == SYS_clock_nanosleep || call->nr == SYS_poll ||
                call->nr == SYS_futex);
}

static void add_call(struct restore_thread *t) {
        const Img__UserX86Regs *regs = t->core->thread_info->gpregs;
        const Img__SyscallState *call = restore_thread_core(t)->syscall;
        struct timespec left = { .tv_sec = (time_t)(call->remaining_ns / NS_PER_S),
                                 .tv_nsec = (long)(call->remaining_ns % NS_PER_S) };
        uint64_t ms = call->remaining_ns / 1000000 + (call->remaining_ns % 1000000 ? 1 : 0);
        struct compel_batch *b = &t->lane;
        struct compel_op *op;
        raddr_t time;

        ckpt_assert(b->n == 0);
        compel_room(b, 1, sizeof(left));
        time = compel_copy(b, &left, sizeof(left));
        switch (call->nr) {
        case SYS_nanosleep:
                op = compel_call(b, "go on sleeping", SYS_nanosleep, time, regs->si);
                break;
        case SYS_clock_nanosleep:
                op = compel_call(b, "go on sleeping", SYS_clock_nanosleep, regs->di, regs->si, time,
                                 regs->r10);
                break;
        case SYS_poll:
                op = compel_call(b, "go on polling", SYS_poll, regs->di, regs->si,
                                 MIN(ms, (uint64_t)INT32_MAX));
                break;
        default:
                op = compel_call(b, "go on waiting", SYS_futex, regs->di, regs->si, regs->dx, time, regs->r8,
                                 regs->r9);
        }
        op->check = COMPEL_CHECK_NOTHING;
        op->ret = INT64_MIN; /* no result of any call: none yet */
}

static bool has_result(const struct restore_thread *t) {
        return __atomic_load_n(&t->lane.ops[0].ret, __ATOMIC_SEQ_CST) != INT64_MIN;
}

/* The agent's own waits are told apart by their arguments. */
static bool is_inside(const struct proc_syscall *sc, const struct compel_op *op) {
        return sc->state == PROC_SYSCALL_INSIDE && sc->nr == (int)op->nr &&
               memcmp(sc->args, op->arg, sizeof(op->arg[0]) * 3) == 0;
}

int syscall_start(struct restore_thread *t, struct ckpt_error *err) {
        _cleanup_proc_dir_ struct proc_dir process = PROC_DIR_INIT, dir = PROC_DIR_INIT;
        uint64_t deadline = waits_now() + START_TIMEOUT_S * NS_PER_S;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct compel_op expected;
        struct proc_syscall sc;
        int r;

        r = proc_open(t->task->pid, &process);
        if (r == 0)
                r = proc_open_thread(&process, t->tid, &dir);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot watch it", restore_thread_name(t));
        add_call(t);
        if (t->lane.error < 0)
                return ckpt_error_errno(err, t->lane.error, "%s: cannot have it go on waiting",
                                        restore_thread_name(t));
        expected = t->lane.ops[0];
        compel_start(&t->lane);
        while (!has_result(t)) {
                r = proc_syscall_read(&dir, &buf, &sc);
                if (r < 0)
                        return ckpt_error_errno(err, r, "%s: cannot see what it waits for",
                                                restore_thread_name(t));
                if (is_inside(&sc, &expected))
                        return 0;
                if (waits_now() > deadline)
                        return ckpt_error(err, -ETIMEDOUT,
                                          "%s does not go on with the system call it was in",
                                          restore_thread_name(t));
                sched_yield();
        }
        return 0;
}

void syscall_apply(const struct restore_thread *t, struct user_regs_struct *regs) {
        const Img__SyscallState *call = restore_thread_core(t)->syscall;

        if (!call)
                return;
        if (call->result != -ERESTART_RESTARTBLOCK_) {
                regs->rip += SYSCALL_SIZE;
                regs->orig_rax = call->nr;
                regs->rax = (uint64_t)call->result;
        } else if (!t->lane.started) {
                regs->orig_rax = (uint64_t)-1;
        } else if ((int64_t)t->stop.regs.rax == -ERESTART_RESTARTBLOCK_ &&
                   t->stop.regs.orig_rax == call->nr) {
                regs->orig_rax = call->nr;
                regs->rax = (uint64_t)-ERESTART_RESTARTBLOCK_;
        } else {
                /* It has finished. The agent has written the result, or the stop came just before that. */
                regs->orig_rax = (uint64_t)-1;
                regs->rax = has_result(t) ? (uint64_t)t->lane.ops[0].ret : t->stop.regs.rax;
        }
}

const struct task_kind kind_syscall = {
        .name = "interrupted system call",
        .per_thread = true,
        .phase = TASK_PHASE_THREAD,
        .read = syscall_read,
        .check = syscall_check,
};
