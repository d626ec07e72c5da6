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

bool task_stood_still(const struct dump_task *t) {
        if (t->nr_calls != t->nr_threads || t->nr_calls > MANY_THREADS)
                return false;
        for (size_t i = 0; i < t->nr_threads; i++) {
                const struct dump_thread *th = &t->threads[i];
                bool same = false;

                for (size_t j = 0; !same && j < t->nr_calls; j++)
                        same = t->calls[j].tid == th->tid && t->calls[j].known &&
                               t->calls[j].call.state == PROC_SYSCALL_INSIDE &&
                               is_there(&t->calls[j].call, &th->stop.regs);
                if (!same)
                        return false;
        }
        return true;
}
