/* SPDX-License-Identifier: GPL-2.0-only */
#include "task/still.h"

#include <string.h>

#include "task/waits.h"

enum { MANY_THREADS = 64 /* each of which would be compared with each */ };

static bool is_there(const struct proc_syscall *call, const struct user_regs_struct *regs) {
        const uint64_t args[6] = { regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9 };

        return (int)regs->orig_rax == call->nr && regs->rsp == call->sp && regs->rip == call->pc &&
               memcmp(args, call->args, sizeof(args)) == 0;
}

static const struct task_call *find_call(const struct dump_task *t, pid_t tid) {
        for (size_t i = 0; i < t->nr_calls; i++)
                if (t->calls[i].tid == tid)
                        return &t->calls[i];
        return NULL;
}

/*
 * Does every thread stand in the system call in which it stood when it was looked at, with the same arguments? It may have
 * left it and come back, as a program does that waits in a loop. false where it is not known.
 */
static bool is_in_same_calls(const struct dump_task *t) {
        if (t->nr_calls != t->nr_threads || t->nr_calls > MANY_THREADS)
                return false;
        for (size_t i = 0; i < t->nr_threads; i++) {
                const struct task_call *call = find_call(t, t->threads[i].tid);

                if (!call || !call->known || call->call.state != PROC_SYSCALL_INSIDE ||
                    !is_there(&call->call, &t->threads[i].stop.regs))
                        return false;
        }
        return true;
}

/* The stop of ptrace ends the sleep in the call, and is one more; unless it had been stopped already. */
static bool has_slept_on(const struct task_call *call, const struct proc_status *now) {
        return call->has_sleeps && proc_status_has(now, PROC_STATUS_SLEEPS) &&
               now->sleeps - call->sleeps <= 1;
}

bool task_stood_still(const struct dump_task *t) {
        if (!is_in_same_calls(t))
                return false;
        for (size_t i = 0; i < t->nr_threads; i++)
                if (!has_slept_on(find_call(t, t->threads[i].tid), &t->threads[i].status))
                        return false;
        return true;
}
