/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A process group is made by the process whose number it has, which may have left it since: so all groups are made
 * first, then everybody joins the own one, and last of all those who made one and are not in it.
 */
#include <sys/syscall.h>

#include "restore/stages.h"

/* A session leader leads its group from birth, and can be in no other. */
static bool makes_group(const struct restore_task *t) {
        if (t->sid == t->pid)
                return false;
        for (size_t i = 0; i < t->restore->nr_tasks; i++)
                if (t->restore->tasks[i]->pgid == t->pid)
                        return true;
        return false;
}

static int set_group(struct restore_task *t, pid_t pgid, struct ckpt_error *err) {
        compel_call(task_lane(t), "join its process group", SYS_setpgid, 0, (uint64_t)pgid);
        return compel_run(task_lane(t), err);
}

static int join_all(struct restore *r, bool makers, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];

                if (t->sid != t->pid && t->pgid != t->pid && makes_group(t) == makers)
                        ret = set_group(t, t->pgid, err);
        }
        return ret;
}

int join_groups(struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (makes_group(r->tasks[i]))
                        ret = set_group(r->tasks[i], r->tasks[i]->pid, err);
        if (ret == 0)
                ret = join_all(r, false, err);
        if (ret == 0)
                ret = join_all(r, true, err);
        return ret;
}
