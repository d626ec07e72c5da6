/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The agent: takes batches of system calls from memory shared with ckpt, carries them out,
 * writes the results back, waits for more. It knows nothing about checkpoints. It is linked
 * to run at any address, uses no vector registers (they stay the task's own) and no data of
 * its own: all it has is a lane.
 */
#include <linux/futex.h>
#include <stdbool.h>

#include "agent-entry.h"
#include "compel/lane.h"

enum {
        NR_rt_sigaction = 13,
        NR_rt_sigpending = 127,
        NR_madvise = 28,
        NR_futex = 202,
        NR_clock_gettime = 228,
        NR_exit_group = 231,
        NR_ppoll = 271,
        NR_clone3 = 435,
        NR_futex_waitv = 449,
        SPIN_ROUNDS = 400, /* some ten microseconds: a command often follows at once */
        ENOSYS_RESULT = -38,
        MONOTONIC = 1,
        DONTFORK = 10,
        SIG_IGN_HANDLER = 1,
        SA_RESTART_FLAG = 0x10000000,
        MAYBE_MS = 1000,
        DETACH_MS = 300,
};

/* struct futex_waitv of linux/futex.h (5.16), spelled out for older headers. */
struct waitv {
        uint64_t val, uaddr;
        uint32_t flags, reserved;
};

static uint32_t load(const uint32_t *p) {
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void store(uint32_t *p, uint32_t v) {
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

static int64_t futex(uint32_t *word, uint32_t op, uint32_t value, const void *timeout) {
        uint64_t arg[6] = { (uint64_t)word, op, value, (uint64_t)timeout, 0, 0 };

        return agent_syscall(NR_futex, arg);
}

static bool passed(const struct compel_op *op) {
        if (op->check == COMPEL_CHECK_NOTHING)
                return true;
        if (op->check == COMPEL_CHECK_EQUAL)
                return op->ret == op->want;
        return (uint64_t)op->ret < (uint64_t)-4095;
}

static void run_op(struct compel_op *ops, uint32_t index) {
        struct compel_op *op = &ops[index];
        uint64_t arg[6];

        for (int i = 0; i < 6; i++)
                arg[i] = op->refs & (1 << i) ? (uint64_t)ops[op->arg[i]].ret : op->arg[i];

        if (op->nr == NR_clone3)
                op->ret = agent_clone3(arg[0], arg[1], (struct compel_lane *)arg[5]);
        else
                op->ret = agent_syscall(op->nr, arg);

        if (op->store == 4)
                *(uint32_t *)op->store_at = (uint32_t)op->ret;
        else if (op->store == 8)
                *(uint64_t *)op->store_at = (uint64_t)op->ret;
}

static void run_batch(struct compel_lane *lane) {
        struct compel_op *ops = (struct compel_op *)lane->ops;
        uint32_t i;

        lane->status = 0;
        for (i = 0; i < lane->nr_ops; i++) {
                run_op(ops, i);
                if (!passed(&ops[i])) {
                        ops[i].failed = 1;
                        lane->status = -1;
                        i++;
                        break;
                }
        }
        lane->nr_done = i;
}

static void answer(struct compel_lane *lane, uint32_t command) {
        store(&lane->done, command);
        if (load(&lane->waiting))
                futex(&lane->done, FUTEX_WAKE, 1, 0);
}

static bool guard_died(const uint32_t *guard) {
        return load(guard) & FUTEX_OWNER_DIED;
}

/*
 * ppoll(2) leaves restart_block alone, unlike poll and nanosleep: it may hold the thread's own
 * interrupted call.
 */
static void nap_1ms(void) {
        int64_t timeout[2] = { 0, 1000 * 1000 };
        uint64_t arg[6] = { 0, 0, (uint64_t)timeout, 0, 8 };

        agent_syscall(NR_ppoll, arg);
}

/*
 * The thread that will unmap this memory lets the guest leave first. ckpt announces a guest before it
 * turns its registers here, so after the death of ckpt in between nobody comes, hence the bound. One that comes may get a CPU
 * late.
 */
static void wait_for_guest(const uint32_t *inside) {
        for (int ms = 0; ms < MAYBE_MS;) {
                switch (load(inside)) {
                case COMPEL_INSIDE_NOBODY:
                        return;
                case COMPEL_INSIDE_MAYBE:
                        ms++;
                        break;
                default:
                        break;
                }
                nap_1ms();
        }
}

static void wait_for_guests(const struct compel_lane *lane) {
        const uint32_t *inside = (const uint32_t *)lane->inside;

        for (uint32_t i = 0; i < lane->nr_inside; i++)
                wait_for_guest(&inside[i]);
}

static bool handler_interrupts(const struct compel_lane *lane, uint64_t signo) {
        uint64_t action[4] = { 0 }; /* handler, flags, restorer, mask */
        uint64_t arg[6] = { signo, 0, (uint64_t)action, 8 };

        if (agent_syscall(NR_rt_sigaction, arg) != 0 || action[0] <= SIG_IGN_HANDLER)
                return false;
        return lane->intr == COMPEL_INTR_ANY || !(action[1] & SA_RESTART_FLAG);
}

/*
 * Once the thread has its own signal mask back, handlers of the signals that came meanwhile run. The system
 * call it was in must know that: started again, it would wait for what has been.
 */
static bool call_ends(const struct compel_lane *lane) {
        uint64_t pending = 0, arg[6] = { (uint64_t)&pending, 8 };

        if (lane->intr == COMPEL_INTR_NONE || agent_syscall(NR_rt_sigpending, arg) != 0)
                return false;
        for (pending &= ~lane->sigmask; pending != 0; pending &= pending - 1)
                if (handler_interrupts(lane, (uint64_t)__builtin_ctzll(pending) + 1))
                        return true;
        return false;
}

/* The other threads run already. A child that one of them forks now must not inherit this memory. */
static void keep_from_children(const struct compel_lane *lane) {
        uint64_t arg[6] = { lane->leave_arg, lane->map_len, DONTFORK };

        agent_syscall(NR_madvise, arg);
}

/*
 * A process that job control has stopped runs only because ptrace makes it, and stops again when ckpt is
 * detached. That happens later in the death of ckpt than what the guard tells.
 */
static void wait_for_job_stop(void) {
        for (int ms = 0; ms < DETACH_MS; ms++)
                nap_1ms();
}

/* FUTEX_WAIT without a timeout leaves restart_block alone, too. */
static void __attribute__((noreturn)) wait_to_leave(struct compel_lane *lane) {
        uint32_t *guard = (uint32_t *)lane->guard;

        while (!guard_died(guard))
                futex(guard, FUTEX_WAIT, load(guard) & ~FUTEX_OWNER_DIED, 0);
        /* The kernel wakes one waiter of a dead owner's futex; that one wakes the others. */
        futex(guard, FUTEX_WAKE, 0x7fffffff, 0);
        if (lane->job_stopped)
                wait_for_job_stop();
        if (!lane->is_guest) {
                keep_from_children(lane);
                wait_for_guests(lane);
        }
        agent_leave(lane->leave, lane->leave_arg, call_ends(lane));
}

static void __attribute__((noreturn)) die(uint32_t *guard) {
        uint64_t arg[6] = { 1 };

        futex(guard, FUTEX_WAKE, 0x7fffffff, 0);
        for (;;)
                agent_syscall(NR_exit_group, arg);
}

/*
 * With a timeout, because of the one waiter of the guard whom the kernel wakes: it can be killed
 * before it has woken the others.
 */
static void sleep_for_command(struct compel_lane *lane, uint32_t seen) {
        uint32_t *guard = (uint32_t *)lane->guard;
        struct waitv words[2] = {
                { seen, (uint64_t)&lane->command, 2 /* 32 bits, shared */, 0 },
                { load(guard) & ~FUTEX_OWNER_DIED, (uint64_t)guard, 2, 0 },
        };
        int64_t until[2] = { 0, 0 }, timeout[2] = { 0, 50 * 1000 * 1000 };
        uint64_t arg[6] = { (uint64_t)words, 2, 0, (uint64_t)until, MONOTONIC };
        uint64_t clock_arg[6] = { MONOTONIC, (uint64_t)until };

        agent_syscall(NR_clock_gettime, clock_arg);
        until[1] += 400 * 1000 * 1000;
        if (until[1] >= 1000 * 1000 * 1000) {
                until[1] -= 1000 * 1000 * 1000;
                until[0]++;
        }
        store(&lane->asleep, 1);
        if (load(&lane->command) == seen && !guard_died(guard))
                if (agent_syscall(NR_futex_waitv, arg) == ENOSYS_RESULT)
                        futex(&lane->command, FUTEX_WAIT, seen, timeout);
        store(&lane->asleep, 0);
}

static void wait_for_command(struct compel_lane *lane, uint32_t seen) {
        uint32_t *guard = (uint32_t *)lane->guard;

        for (int i = 0; i < SPIN_ROUNDS && lane->few; i++) {
                if (load(&lane->command) != seen)
                        return;
                agent_relax();
        }
        while (load(&lane->command) == seen) {
                if (guard_died(guard))
                        die(guard);
                sleep_for_command(lane, seen);
        }
}

void compel_agent_main(struct compel_lane *lane) {
        uint32_t seen = load(&lane->done);

        if (lane->mode == COMPEL_MODE_VISIT && lane->is_guest)
                store((uint32_t *)lane->inside, COMPEL_INSIDE_GUEST);
        for (;;) {
                if (lane->mode == COMPEL_MODE_HOST)
                        wait_for_command(lane, seen);
                seen = load(&lane->command);
                run_batch(lane);
                answer(lane, seen);
                if (lane->mode == COMPEL_MODE_VISIT)
                        wait_to_leave(lane);
        }
}
