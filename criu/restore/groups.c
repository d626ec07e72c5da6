/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A process group is made by the process whose number it has, which may have left it since: so all groups are made
 * first, then everybody joins the own one, and last of all those who made one and are not in it.
 */
#include <sys/syscall.h>
#include <unistd.h>

#include "restore/stages.h"

/* A session leader leads its group from birth, and can be in no other. */
static void mark_makers(struct restore *r) {
        struct restore_task *leader = NULL;

        for (size_t i = 0; i < r->nr_tasks; i++) {
                if (!leader || leader->pid != r->tasks[i]->pgid)
                        leader = restore_find_task(r, r->tasks[i]->pgid);
                if (leader && leader->sid != leader->pid)
                        leader->makes_group = true;
        }
}

/* The group it was born into: that of its cloner, which leads one of its own once it has made its session. */
static pid_t born_into(const struct restore_task *t) {
        const struct restore_task *cloner = t->via ? t->via : t->parent;

        while (cloner && (cloner->sid != cloner->pid || t->step == TREE_STEP_BEFORE)) {
                t = cloner;
                cloner = t->via ? t->via : t->parent;
        }
        return cloner ? cloner->pid : getpgid(0);
}

static void add_group(struct restore_task *t, pid_t pgid) {
        compel_call(task_lane(t), "join its process group", SYS_setpgid, 0, (uint64_t)pgid);
}

static int join_all(struct restore *r, bool makers, struct ckpt_error *err) {
        for (size_t i = 0; i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];

                if (t->sid != t->pid && t->pgid != t->pid && t->makes_group == makers &&
                    (makers || born_into(t) != t->pgid))
                        add_group(t, t->pgid);
        }
        return run_lanes(r, err);
}

int join_groups(struct restore *r, struct ckpt_error *err) {
        int ret;

        mark_makers(r);
        for (size_t i = 0; i < r->nr_tasks; i++)
                if (r->tasks[i]->makes_group)
                        add_group(r->tasks[i], r->tasks[i]->pid);
        ret = run_lanes(r, err);
        if (ret == 0)
                ret = join_all(r, false, err);
        if (ret == 0)
                ret = join_all(r, true, err);
        return ret;
}
