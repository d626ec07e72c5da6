/* SPDX-License-Identifier: GPL-2.0-only */
/* The nice value of a session among the sessions (sched(7), "The autogroup feature"): kept with who leads it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "proc/attr.h"
#include "task/internal.h"

static int read_autogroup(struct dump_thread *t, struct ckpt_error *err) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        Img__TaskCore *tc = dump_task_core(t);
        int r, nice;

        if (t->task->pid != t->task->stat.sid)
                return 0;
        r = proc_autogroup_read(&t->task->proc, &buf, &nice);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its autogroup", dump_task_name(t->task));
        tc->has_autogroup_nice = nice != 0;
        tc->autogroup_nice = nice;
        return 0;
}

static int check(struct restore_thread *t, struct ckpt_error *err) {
        const Img__TaskCore *tc = restore_task_core(t);

        if (tc->has_autogroup_nice && (tc->autogroup_nice < -20 || tc->autogroup_nice > 19))
                return ckpt_error(err, -EBADMSG, "%s: %d is no nice value of an autogroup",
                                  restore_task_name(t->task), tc->autogroup_nice);
        return 0;
}

static int restore(struct restore_thread *t, struct ckpt_error *err __attribute__((unused))) {
        const Img__TaskCore *tc = restore_task_core(t);
        char text[16];
        int r;

        if (!tc->has_autogroup_nice || t->task->pid != t->task->sid)
                return 0;
        snprintf(text, sizeof(text), "%d", tc->autogroup_nice);
        r = task_write_proc(t->task->pid, "autogroup", text);
        if (r < 0)
                log_warn(
                        "%s: the autogroup of its session had the nice value %d, which cannot be set here (%s)",
                        restore_task_name(t->task), tc->autogroup_nice, strerror(-r));
        return 0;
}

const struct task_kind kind_autogroup = {
        .name = "autogroup",
        .phase = TASK_PHASE_LAST,
        .aside = read_autogroup,
        .check = check,
        .outside = restore,
};
