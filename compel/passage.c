/* SPDX-License-Identifier: GPL-2.0-only */
/* Threads of a visited process on their way through the agent: the driver, which is inside already, and guests. */
#include <errno.h>

#include "compel/arch.h"
#include "compel/foothold.h"
#include "compel/internal.h"
#include "compel/visit.h"
#include "macro.h"

/* Who is sent through the agent, by what. */
struct passage {
        struct compel_thread *t;
        struct compel_batch *batch;
        struct compel_lane *lane;
        size_t stack; /* its end in the shared memory */
};

static bool still_there(void *arg) {
        const struct compel_thread *t = arg;

        /* A tracee that is gone, or has been stopped by a fault, has something to report. */
        return compel_is_running(t);
}

/* Have a thread that stands in a ptrace stop with signals blocked set out to run the batch in the agent. */
static int pass_start(struct compel_visit *v, const struct passage *p) {
        struct user_regs_struct regs = p->t->regs;
        struct compel_batch *b = p->batch;
        int r;

        b->lane = p->lane;
        b->lane_remote = remote_of(v, p->lane);
        b->tid = p->t->tid;
        p->lane->ops = remote_of(v, b->ops);
        p->lane->nr_ops = b->n;
        p->lane->nr_done = 0;
        b->command = p->lane->done + 1;
        p->lane->command = b->command;
        p->lane->sigmask = p->t->sigmask;
        p->lane->intr = arch_intr(&p->t->regs);
        p->lane->job_stopped = p->t->stop_signal != 0 || p->t->stop_pending;
        arch_set_call(&regs, v->remote, remote_of(v, p->lane), v->remote + p->stack);
        r = compel_set_regs(p->t, &regs);
        return r < 0 ? r : compel_resume(p->t);
}

/* When it has, it is asked to stop inside the agent. */
static int pass_answered(const struct passage *p) {
        int r;

        /* Others want the CPUs. */
        while (compel_await(p->batch->lane, p->batch->command, true, still_there, p->t) == -ESRCH) {
                r = compel_go_on(p->t);
                if (r < 0)
                        return r;
        }
        return compel_interrupt_later(p->t);
}

static int pass_through(struct compel_visit *v, const struct passage *p) {
        int r;

        r = pass_start(v, p);
        if (r == 0)
                r = pass_answered(p);
        return r < 0 ? r : compel_await_stop(p->t);
}

static struct passage driver_passage(struct compel_visit *v) {
        return (struct passage){
                .t = v->driver,
                .batch = &v->batch,
                .lane = &head_of(v)->driver,
                .stack = driver_stack_end(v),
        };
}

static void set_inside(struct compel_visit *v, unsigned int guest, enum compel_inside inside) {
        __atomic_store_n(&head_of(v)->inside[guest], inside, __ATOMIC_SEQ_CST);
}

static int to_way_out(struct compel_visit *v, unsigned int guest, struct compel_thread *t) {
        return visit_to_stub(v, t, FOOTHOLD_GUEST + guest, compel_stub_guest_out,
                             remote_of(v, &head_of(v)->inside[guest]));
}

/*
 * The registers of `t` lead to its own work by way of the stub at every step, as those of the driver do. From the step on
 * from which they lead through the shared memory, the driver waits for it, if ckpt dies, however late it gets a CPU.
 */
static int enter_guest(struct compel_visit *v, unsigned int guest, struct compel_thread *t) {
        int r;

        r = foothold_write(&v->foothold, FOOTHOLD_GUEST + guest, t, 0);
        if (r == 0)
                r = visit_to_stub(v, t, FOOTHOLD_GUEST + guest, compel_stub_resume, 0);
        if (r == 0)
                r = compel_set_sigmask(t, ~0ULL);
        if (r < 0)
                return r;
        set_inside(v, guest, COMPEL_INSIDE_MAYBE);
        r = to_way_out(v, guest, t);
        if (r == 0)
                set_inside(v, guest, COMPEL_INSIDE_COMING);
        return r;
}

static int leave_guest(struct compel_visit *v, unsigned int guest, struct compel_thread *t) {
        int r;

        r = to_way_out(v, guest, t);
        if (r == 0)
                r = compel_set_sigmask(t, t->sigmask);
        if (r < 0)
                return r;
        /* From the next step on, nothing leads it there, and nobody will say so. */
        set_inside(v, guest, COMPEL_INSIDE_MAYBE);
        return compel_set_regs(t, &t->regs);
}

static int pass_guest(struct compel_visit *v, unsigned int guest, struct compel_thread *t) {
        const struct passage p = {
                .t = t,
                .batch = compel_visit_guest_batch(v, guest),
                .lane = &head_of(v)->guest[guest],
                .stack = guest_stack_end(v, guest),
        };
        int r, r2 = 0;

        r = enter_guest(v, guest, t);
        if (r == 0)
                r = pass_through(v, &p);
        if (t->stopped)
                r2 = leave_guest(v, guest, t);
        if (t->stopped || r == -ESRCH)
                set_inside(v, guest, COMPEL_INSIDE_NOBODY);
        return r < 0 ? r : r2;
}

static bool is_lost(const struct compel_visit *v) {
        return __atomic_load_n(&v->lost, __ATOMIC_RELAXED);
}

static void set_lost(struct compel_visit *v, bool lost) {
        if (lost)
                __atomic_store_n(&v->lost, true, __ATOMIC_RELAXED);
}

/* `r` is what came of the way of `t` through the agent. */
static int run_result(struct compel_visit *v, const struct compel_thread *t, const struct compel_batch *b,
                      int r, struct ckpt_error *err) {
        set_lost(v, r < 0 && r != -ESRCH && !t->stopped);
        if (r == -ESRCH)
                return ckpt_error(err, r, "pid %d died while it was carrying out system calls", t->tid);
        if (r < 0)
                return ckpt_error_errno(err, r, "pid %d: cannot have it carry out system calls", t->tid);
        return compel_batch_result(b, err);
}

static int driver_result(struct compel_visit *v, int r, struct ckpt_error *err) {
        return run_result(v, v->driver, &v->batch, r, err);
}

static int run_stopped(struct compel_visit *v, struct ckpt_error *err) {
        v->next = NULL;
        return driver_result(v, compel_await_stop(v->driver), err);
}

static int run_answered(struct compel_visit *v, struct ckpt_error *err) {
        struct passage p = driver_passage(v);
        int r = pass_answered(&p);

        v->next = r < 0 ? NULL : run_stopped;
        return r < 0 ? driver_result(v, r, err) : 1;
}

int compel_visit_run_start(struct compel_visit *v, struct ckpt_error *err) {
        struct passage p;
        int r = v->batch.error;

        if (r < 0)
                return ckpt_error_errno(err, r, "pid %d: cannot hand over its system calls", v->driver->tid);
        if (!v->driver->stopped || is_lost(v))
                r = -ESRCH;
        else {
                p = driver_passage(v);
                r = pass_start(v, &p);
        }
        v->next = r < 0 ? NULL : run_answered;
        return r < 0 ? driver_result(v, r, err) : 1;
}

int compel_visit_run_guest(struct compel_visit *v, unsigned int guest, struct compel_thread *t,
                           struct ckpt_error *err) {
        const struct compel_batch *b = compel_visit_guest_batch(v, guest);
        const char *reason;
        int r = b->error;

        ckpt_assert(t != v->driver);
        reason = compel_unenterable(t);
        if (reason)
                return visit_refuse(t, reason, err);
        if (r < 0)
                return ckpt_error_errno(err, r, "pid %d: cannot hand over its system calls", t->tid);
        if (!t->stopped || !v->driver->stopped || is_lost(v))
                r = -ESRCH;
        else
                r = pass_guest(v, guest, t);
        return run_result(v, t, b, r, err);
}

int compel_visit_run(struct compel_visit *v, struct compel_thread *t, struct ckpt_error *err) {
        if (t == v->driver)
                return visit_finish(v, compel_visit_run_start(v, err), err);
        return compel_visit_run_guest(v, 0, t, err);
}
