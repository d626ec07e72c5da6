/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Resource limits. They are read from /proc where prlimit(2), which is faster, on the task of another user needs
 * CAP_SYS_RESOURCE, and set by the task itself: hard limits are raised, where ckpt can, while it is still
 * privileged; everything else comes last, as ckpt and the agent need room.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proc/limits.h"
#include "task/internal.h"
#include "task/self.h"

static const char *const names[PROC_LIMITS] = {
        [RLIMIT_CPU] = "CPU time",
        [RLIMIT_FSIZE] = "file size",
        [RLIMIT_DATA] = "data size",
        [RLIMIT_STACK] = "stack size",
        [RLIMIT_CORE] = "core file size",
        [RLIMIT_RSS] = "resident set size",
        [RLIMIT_NPROC] = "processes",
        [RLIMIT_NOFILE] = "open files",
        [RLIMIT_MEMLOCK] = "locked memory",
        [RLIMIT_AS] = "address space",
        [RLIMIT_LOCKS] = "file locks",
        [RLIMIT_SIGPENDING] = "pending signals",
        [RLIMIT_MSGQUEUE] = "message queues",
        [RLIMIT_NICE] = "nice value",
        [RLIMIT_RTPRIO] = "real-time priority",
        [RLIMIT_RTTIME] = "real-time CPU time",
};

static int get_limits(const struct dump_thread *t, struct proc_limits *ret) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        for (int i = 0; i < PROC_LIMITS; i++)
                if (syscall(SYS_prlimit64, t->tid, i, NULL, &ret->v[i]) < 0)
                        return proc_limits_read(&t->task->proc, &buf, ret);
        return 0;
}

static int limits_read(struct dump_thread *t, struct ckpt_error *err) {
        struct arena *a = &t->task->arena;
        struct proc_limits limits;
        Img__TaskRlimits *image;
        int r;

        r = get_limits(t, &limits);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its resource limits",
                                        dump_task_name(t->task));
        image = arena_message(a, Img__TaskRlimits, img__task_rlimits__init);
        image->rlimits = arena_new_array(a, Img__Rlimit *, PROC_LIMITS);
        for (int i = 0; i < PROC_LIMITS; i++) {
                image->rlimits[i] = arena_message(a, Img__Rlimit, img__rlimit__init);
                image->rlimits[i]->cur = limits.v[i].rlim_cur;
                image->rlimits[i]->max = limits.v[i].rlim_max;
        }
        image->n_rlimits = PROC_LIMITS;
        dump_task_core(t)->rlimits = image;
        return 0;
}

static const char *value_text(struct restore_thread *t, uint64_t value) {
        return value == RLIM_INFINITY ? "unlimited" : arena_printf(&t->task->arena, "%" PRIu64, value);
}

static int limits_check(struct restore_thread *t, struct ckpt_error *err) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__TaskRlimits *image = restore_task_core(t)->rlimits;

        for (size_t i = 0; image && i < image->n_rlimits; i++) {
                const Img__Rlimit *l = image->rlimits[i];

                if (i >= PROC_LIMITS || l->cur > l->max)
                        return ckpt_error(err, -EBADMSG, "%s: its resource limits make no sense",
                                          restore_task_name(t->task));
                if (l->max <= self->limits.v[i].rlim_max ||
                    kernel_has(&t->task->restore->kernel, KERNEL_HARD_LIMITS))
                        continue;
                ckpt_error(
                        err, -EPERM,
                        "%s: its hard limit of %s is %s, but that of ckpt is %s, and ckpt may not raise it",
                        restore_task_name(t->task), names[i], value_text(t, l->max),
                        value_text(t, self->limits.v[i].rlim_max));
                return ckpt_error_hint(err, "Give ckpt CAP_SYS_RESOURCE, or start it with that hard limit");
        }
        return 0;
}

static void add_limit(struct compel_batch *b, size_t resource, uint64_t cur, uint64_t max) {
        const struct rlimit value = { cur, max };

        compel_call(b, "set its resource limits", SYS_prlimit64, 0, resource,
                    compel_copy(b, &value, sizeof(value)), 0);
}

static int raise_hard(struct restore_thread *t, struct compel_batch *b,
                      struct ckpt_error *err __attribute__((unused))) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__TaskRlimits *image = restore_task_core(t)->rlimits;

        for (size_t i = 0; image && i < image->n_rlimits; i++)
                if (image->rlimits[i]->max > self->limits.v[i].rlim_max)
                        add_limit(b, i, self->limits.v[i].rlim_cur, image->rlimits[i]->max);
        return 0;
}

/* Inherited from ckpt, which raises only its own limit on open files. */
static bool has_limit(const struct task_self *self, size_t resource, const Img__Rlimit *l) {
        return resource != RLIMIT_NOFILE && l->cur == self->limits.v[resource].rlim_cur &&
               l->max == self->limits.v[resource].rlim_max;
}

static int limits_restore(struct restore_thread *t, struct compel_batch *b,
                          struct ckpt_error *err __attribute__((unused))) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__TaskRlimits *image = restore_task_core(t)->rlimits;

        for (size_t i = 0; image && i < image->n_rlimits; i++)
                if (!has_limit(self, i, image->rlimits[i]))
                        add_limit(b, i, image->rlimits[i]->cur, image->rlimits[i]->max);
        return 0;
}

const struct task_kind kind_rlimits_raise = {
        .name = "resource limits, raised",
        .phase = TASK_PHASE_PROCESS,
        .restore = raise_hard,
};

const struct task_kind kind_rlimits = {
        .name = "resource limits",
        .phase = TASK_PHASE_LAST,
        .aside = limits_read,
        .check = limits_check,
        .restore = limits_restore,
};
