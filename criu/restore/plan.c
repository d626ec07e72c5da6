/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How every task gets into its session. A session is inherited at clone and can only be left for a new one of
 * one's own, so a task has to be cloned by somebody who is in the right one at that moment:
 *
 *   - the parent after its setsid(2), or before it (a session leader's older children);
 *   - for an orphan that a subreaper took over: below the leader of its session, by a helper that exits and so
 *     leaves it to the subreaper, as it once happened;
 *   - where the leader is dead: by a helper that has the leader's number, as its sibling (CLONE_PARENT).
 *
 * Process groups whose leader is dead are held open by a helper, too, until all members have joined.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "macro.h"
#include "restore/stages.h"

static struct restore_task *add_helper(struct restore *r, pid_t pid, struct restore_task *parent,
                                       pid_t sid) {
        struct restore_task *t = calloc(1, sizeof(*t));
        struct restore_task **tasks = reallocarray(r->tasks, r->nr_tasks + 1, sizeof(*tasks));

        ckpt_assert(t && tasks);
        r->tasks = tasks;
        *t = (struct restore_task){
                .restore = r,
                .parent = parent,
                .donor = parent,
                .kind = RESTORE_TASK_HELPER,
                .pid = pid,
                .pgid = pid,
                .sid = sid,
                .nr_threads = 1,
                .threads = calloc(1, sizeof(struct restore_thread)),
        };
        ckpt_assert(t->threads);
        t->threads[0] = (struct restore_thread){ .task = t, .tid = pid };
        t->depth = parent ? parent->depth + 1 : 0;
        t->step = TREE_STEP_AFTER;
        r->tasks[r->nr_tasks++] = t;
        return t;
}

/* With --shell-job, the session and group of the root are replaced by those of ckpt. */
static void adopt_shell(struct restore *r) {
        pid_t sid = r->tasks[0]->sid, pgid = r->tasks[0]->pgid;
        bool foreign_sid = !restore_find_task(r, sid), foreign_pgid = !restore_find_task(r, pgid);

        for (size_t i = 0; i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];

                if (foreign_sid && t->sid == sid)
                        t->sid = getsid(0);
                if (foreign_pgid && t->pgid == pgid)
                        t->pgid = getpgid(0);
        }
}

/* Did an ancestor stay in this session? */
static bool above_in_session(const struct restore_task *t, pid_t sid) {
        for (t = t->parent; t; t = t->parent)
                if (t->sid == sid)
                        return true;
        return false;
}

/* The session that the children of a leader show that it left, or 0. They come later in the list. */
static pid_t session_left_behind(const struct restore *r, size_t leader) {
        const struct restore_task *t = r->tasks[leader];

        for (size_t i = leader + 1; i < r->nr_tasks; i++)
                if (r->tasks[i]->parent == t && r->tasks[i]->born_sid != t->pid &&
                    above_in_session(t, r->tasks[i]->born_sid))
                        return r->tasks[i]->born_sid;
        return 0;
}

/* The session that a task is cloned into. A leader can be cloned into any: into the one its older children are in. */
static void choose_birth(struct restore *r) {
        for (size_t i = r->nr_tasks; i-- > 0;) {
                struct restore_task *t = r->tasks[i];

                t->born_sid = t->sid;
                if (t->sid == t->pid)
                        t->born_sid = session_left_behind(r, i);
                if (t->born_sid == 0)
                        t->born_sid = t->parent ? t->parent->sid : getsid(0);
        }
}

static bool is_ancestor(const struct restore_task *ancestor, const struct restore_task *t) {
        while (t && t != ancestor)
                t = t->parent;
        return t != NULL;
}

static int plan_orphan(struct restore_task *t, struct restore_task *leader, struct ckpt_error *err) {
        if (!is_ancestor(t->parent, leader))
                return ckpt_error(
                        err, -ENOTSUP,
                        "%s is in session %d, whose leader is not below its parent: no way is known to "
                        "bring it there; nothing was created",
                        restore_task_name(t), t->born_sid);
        t->step = TREE_STEP_VIA;
        t->via = add_helper(t->restore, spare_pid(t->restore), leader, leader->sid);
        t->donor = leader;
        return 0;
}

/* The leader of its session is dead: a helper stands in for it. */
static void plan_leaderless(struct restore_task *t) {
        t->step = TREE_STEP_BESIDE;
        t->via = add_helper(t->restore, t->born_sid, t->parent, t->born_sid);
        t->donor = t->parent;
}

static int plan_task(struct restore_task *t, struct ckpt_error *err) {
        struct restore_task *leader;

        t->step = TREE_STEP_AFTER;
        t->donor = t->parent;
        if (t->born_sid == (t->parent ? t->parent->sid : getsid(0)))
                return 0;
        if (t->parent && t->born_sid == t->parent->born_sid) {
                t->step = TREE_STEP_BEFORE;
                return 0;
        }
        leader = restore_find_task(t->restore, t->born_sid);
        if (!leader) {
                plan_leaderless(t);
                return 0;
        }
        if (leader->kind == RESTORE_TASK_HELPER && leader->parent == t->parent) {
                t->step = TREE_STEP_BESIDE;
                t->via = leader;
                return 0;
        }
        return plan_orphan(t, leader, err);
}

static void plan_groups(struct restore *r) {
        size_t n = r->nr_tasks;

        for (size_t i = 0; i < n; i++) {
                struct restore_task *t = r->tasks[i];

                if (t->pgid != getpgid(0) && !restore_find_task(r, t->pgid))
                        add_helper(r, t->pgid, t, t->sid);
        }
}

int plan_tree(struct restore *r, struct ckpt_error *err) {
        size_t n = r->nr_tasks;
        int ret = 0;

        if (r->opts->shell_job)
                adopt_shell(r);
        choose_birth(r);
        for (size_t i = 0; ret == 0 && i < n; i++)
                ret = plan_task(r->tasks[i], err);
        if (ret == 0)
                plan_groups(r);
        return ret;
}
