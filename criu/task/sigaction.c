/* SPDX-License-Identifier: GPL-2.0-only */
/* Signal actions: rt_sigaction(2). */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "task/internal.h"
#include "task/self.h"

enum { NR_SIGNALS = 64, NR_ACTIONS = NR_SIGNALS - 2, SET_SIZE = 8 };

/* The kernel's struct sigaction, which is not libc's. */
struct kernel_action {
        uint64_t handler, flags, restorer, mask;
};

/* The signal of an entry: all but SIGKILL and SIGSTOP, in order. */
static int signal_of(int entry) {
        int sig = entry + 1;

        if (sig >= SIGKILL)
                sig++;
        if (sig >= SIGSTOP)
                sig++;
        return sig;
}

static void *ask(struct dump_thread *t __attribute__((unused)), struct compel_batch *b) {
        struct kernel_action *actions;
        raddr_t at;

        compel_room(b, NR_ACTIONS, NR_ACTIONS * sizeof(*actions));
        actions = compel_data(b, NR_ACTIONS * sizeof(*actions), &at);
        for (int i = 0; i < NR_ACTIONS; i++)
                compel_call(b, "read its signal actions", SYS_rt_sigaction, (uint64_t)signal_of(i), 0,
                            at + (uint64_t)i * sizeof(*actions), SET_SIZE);
        return actions;
}

static int answer(struct dump_thread *t, struct compel_batch *b __attribute__((unused)), void *asked,
                  struct ckpt_error *err __attribute__((unused))) {
        struct arena *a = &t->task->arena;
        const struct kernel_action *actions = asked;
        Img__TaskCore *tc = dump_task_core(t);

        tc->sigactions = arena_new_array(a, Img__Sa *, NR_ACTIONS);
        for (int i = 0; i < NR_ACTIONS; i++) {
                Img__Sa *sa = arena_message(a, Img__Sa, img__sa__init);

                sa->sigaction = actions[i].handler;
                sa->flags = actions[i].flags;
                sa->restorer = actions[i].restorer;
                sa->mask = actions[i].mask;
                tc->sigactions[i] = sa;
        }
        tc->n_sigactions = NR_ACTIONS;
        return 0;
}

static int check(struct restore_thread *t, struct ckpt_error *err) {
        const Img__TaskCore *tc = restore_task_core(t);

        if (tc->n_sigactions != NR_ACTIONS)
                return ckpt_error(err, -EBADMSG, "%s has %zu signal actions in its image instead of %d",
                                  restore_task_name(t->task), tc->n_sigactions, NR_ACTIONS);
        for (size_t i = 0; i < tc->n_sigactions; i++)
                if (tc->sigactions[i]->has_compat_sigaction && tc->sigactions[i]->compat_sigaction)
                        return ckpt_error(
                                err, -ENOTSUP,
                                "%s has signal handlers of 32-bit code, which is not supported yet",
                                restore_task_name(t->task));
        return 0;
}

/*
 * A task is born with all actions that are not ignored set back (CLONE_CLEAR_SIGHAND), and has changed none since but
 * that of SIGCHLD, to the default.
 */
static bool has_it(const struct restore_thread *t, const Img__Sa *sa, int sig) {
        return sa->sigaction == 0 && sa->flags == 0 && sa->restorer == 0 && sa->mask == 0 &&
               !(task_self_of_restore(t->task->restore)->ignored & 1ULL << (sig - 1));
}

static int restore(struct restore_thread *t, struct compel_batch *b,
                   struct ckpt_error *err __attribute__((unused))) {
        const Img__TaskCore *tc = restore_task_core(t);

        for (int i = 0; i < NR_ACTIONS; i++) {
                const Img__Sa *sa = tc->sigactions[i];
                const struct kernel_action action = { sa->sigaction, sa->flags, sa->restorer, sa->mask };

                if (has_it(t, sa, signal_of(i)))
                        continue;
                compel_call(b, "set its signal actions", SYS_rt_sigaction, (uint64_t)signal_of(i),
                            compel_copy(b, &action, sizeof(action)), 0, SET_SIZE);
        }
        return 0;
}

const struct task_kind kind_sigactions = {
        .name = "signal actions",
        .phase = TASK_PHASE_PROCESS,
        .ask = ask,
        .answer = answer,
        .check = check,
        .restore = restore,
};
