/* SPDX-License-Identifier: GPL-2.0-only */
#include <linux/sched.h>
#include <sys/syscall.h>

#include "lib/fault.h"
#include "restore/stages.h"

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

int build_threads_of(struct restore_task *t, struct ckpt_error *err) {
        int ret;

        if (t->kind != RESTORE_TASK_LIVE || t->nr_threads == 1 || t->threaded)
                return 0;
        add_threads(t);
        ret = compel_run(task_lane(t), err);
        if (ret < 0)
                return ckpt_error_prefix(err, "%s", restore_task_name(t));
        t->threaded = true;
        return 0;
}

int build_threads(struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                ret = build_threads_of(r->tasks[i], err);
        return ret < 0 ? ret : fault_point_error(FAULT_RESTORE_THREADS, err);
}
