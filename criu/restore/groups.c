/* SPDX-License-Identifier: GPL-2.0-only */
#include <sys/syscall.h>

#include "restore/stages.h"

/* A session leader leads its group from birth. */
static bool leads_group(const struct restore_task *t) {
        return t->pgid == t->pid && t->sid != t->pid;
}

static int set_group(struct restore_task *t, struct ckpt_error *err) {
        compel_call(task_lane(t), "join its process group", SYS_setpgid, 0, (uint64_t)t->pgid);
        return compel_run(task_lane(t), err);
}

int join_groups(struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (leads_group(r->tasks[i]))
                        ret = set_group(r->tasks[i], err);
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (r->tasks[i]->pgid != r->tasks[i]->pid)
                        ret = set_group(r->tasks[i], err);
        return ret;
}
