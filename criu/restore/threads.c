/* SPDX-License-Identifier: GPL-2.0-only */
#include <linux/sched.h>
#include <sys/syscall.h>

#include "lib/fault.h"
#include "restore/stages.h"
#include "task/kind.h"

static void add_threads(struct restore_task *t) {
        for (size_t i = 1; i < t->nr_threads; i++) {
                struct restore_thread *th = &t->threads[i];
                struct clone_args args = {
                        .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                 CLONE_SYSVSEM,
                        .set_tid = compel_arg(&th->tid),
                        .set_tid_size = 1,
                };

                compel_add_clone(task_lane(t), "clone a thread", &args, &th->lane);
        }
}

/* Each finds in its lane what it is to do, or soon will, and begins with that while the leader clones the next. */
static int fill_unborn(struct restore_task *t, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 1; ret == 0 && i < t->nr_threads; i++)
                if (task_fills_unborn(&t->threads[i]))
                        ret = task_fill_unborn(&t->threads[i], err);
        return ret;
}

static int wait_born(struct restore_task *t, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 1; i < t->nr_threads; i++) {
                int waited = task_wait_born(&t->threads[i], err);

                if (ret == 0)
                        ret = waited;
        }
        return ret;
}

static int build_of(struct restore_task *t, bool with_attributes, struct ckpt_error *err) {
        struct compel_batch *b = task_lane(t);
        int ret = 0, cloned;

        if (t->kind != RESTORE_TASK_LIVE || t->nr_threads == 1 || t->threaded)
                return 0;
        add_threads(t);
        if (b->error < 0)
                return compel_run(b, err);
        compel_start(b);
        if (with_attributes)
                ret = fill_unborn(t, err);
        cloned = compel_wait(b, err);
        if (cloned < 0)
                return ckpt_error_prefix(err, "%s", restore_task_name(t));
        compel_reset(b);
        t->threaded = true;
        cloned = wait_born(t, err);
        return ret < 0 ? ret : cloned;
}

int build_threads_of(struct restore_task *t, struct ckpt_error *err) {
        return build_of(t, false, err);
}

int build_threads(struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                ret = build_of(r->tasks[i], true, err);
        return ret < 0 ? ret : fault_point_error(FAULT_RESTORE_THREADS, err);
}
