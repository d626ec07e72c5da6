/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Cloning the tree as plan.c laid it out, in rounds: the tasks that exist get their memory (their children
 * start with a copy of it), then clone those that are theirs to clone. A new task finds the batch for its own memory in
 * its lane, where that is small, and works on it while its siblings are being cloned.
 */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "lib/fault.h"
#include "macro.h"
#include "mem/mem.h"
#include "restore/stages.h"
#include "task/kind.h"

static int clone_root(struct restore *r, struct restore_task *t, struct ckpt_error *err) {
        struct clone_args args = {
                .flags = CLONE_CLEAR_SIGHAND,
                .exit_signal = SIGCHLD,
                .set_tid = compel_arg(&t->pid),
                .set_tid_size = 1,
        };
        pid_t pid;
        int ret;

        if (r->opts->restore_sibling) {
                args.flags |= CLONE_PARENT;
                args.exit_signal = 0;
        }
        ret = compel_host_clone(r->host, task_lane(t), &args, &pid, err);
        if (ret < 0)
                return ckpt_error_prefix(err, "%s", restore_task_name(t));
        t->cloned = true;
        inherit_add_close_others(r, task_lane(t));
        ret = compel_run(task_lane(t), err);
        return ret < 0 ? ret : fault_point_error(FAULT_RESTORE_ROOT_CLONED, err);
}

/* Leave to others what is shared with them: see sharing.c. */
static void add_unshare(struct compel_batch *b, bool wanted, uint64_t flag) {
        if (wanted)
                compel_call(b, "unshare its descriptors or directories", SYS_unshare, flag);
}

static void add_clone(struct restore_thread *cloner, struct restore_task *t) {
        struct clone_args args = {
                .exit_signal = SIGCHLD,
                .set_tid = compel_arg(&t->pid),
                .set_tid_size = 1,
        };

        add_unshare(&cloner->lane, t->share[RESTORE_SHARE_FILES].cloner_unshares, CLONE_FILES);
        add_unshare(&cloner->lane, t->share[RESTORE_SHARE_FS].cloner_unshares, CLONE_FS);
        if (t->share[RESTORE_SHARE_FILES].born != 0)
                args.flags |= CLONE_FILES;
        if (t->share[RESTORE_SHARE_FS].born != 0)
                args.flags |= CLONE_FS;
        if (t->step == TREE_STEP_BESIDE) {
                args.flags |= CLONE_PARENT;
                args.exit_signal = 0; /* that of the cloner */
        }
        compel_add_clone(&cloner->lane, arena_printf(&t->arena, "clone pid %d", t->pid), &args,
                         task_lane(t));
}

static bool cloned_by(const struct restore_task *t, const struct restore_task *cloner) {
        return t->via ? t->via == cloner : t->parent == cloner;
}

static bool is_born_sharing(const struct restore_task *t) {
        return t->share[RESTORE_SHARE_FILES].born != 0 || t->share[RESTORE_SHARE_FS].born != 0;
}

/* The thread that clones it: the leader, unless another one is its parent and nothing else matters. */
static struct restore_thread *cloning_thread(const struct restore_task *t, struct restore_task *cloner) {
        if (t->step == TREE_STEP_AFTER && !is_born_sharing(t) && t->pstree && t->pstree->has_parent_tid)
                for (size_t i = 1; i < cloner->nr_threads; i++)
                        if (cloner->threads[i].tid == (pid_t)t->pstree->parent_tid)
                                return &cloner->threads[i];
        return &cloner->threads[0];
}

static int compare_ranks(const void *a, const void *b) {
        const struct restore_task *x = *(struct restore_task *const *)a,
                                  *y = *(struct restore_task *const *)b;

        return (x->clone_rank > y->clone_rank) - (x->clone_rank < y->clone_rank);
}

static void add_clones(struct restore_task *cloner, bool before) {
        struct restore *r = cloner->restore;
        _cleanup_free_ struct restore_task **children = NULL;
        size_t n = 0;
        bool ranked = false;

        if (!cloner->has_children)
                return;
        children = calloc(r->nr_tasks, sizeof(struct restore_task *));
        ckpt_assert(children);
        for (size_t i = 0; i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];

                if (cloned_by(t, cloner) && (t->step == TREE_STEP_BEFORE) == before &&
                    cloning_thread(t, cloner) == &cloner->threads[0]) {
                        ranked |= t->clone_rank != 0;
                        children[n++] = t;
                }
        }
        if (ranked)
                qsort(children, n, sizeof(*children), compare_ranks);
        for (size_t i = 0; i < n; i++)
                add_clone(&cloner->threads[0], children[i]);
}

/* An orphan will be left to it; whether it stays a subreaper is set with the other attributes. */
static void add_subreaper(struct restore_task *t) {
        struct restore *r = t->restore;

        for (size_t i = 0; t->has_children && i < r->nr_tasks; i++)
                if (r->tasks[i]->parent == t && r->tasks[i]->step == TREE_STEP_VIA) {
                        compel_call(task_lane(t), "become a subreaper", SYS_prctl, PR_SET_CHILD_SUBREAPER, 1,
                                    0, 0, 0);
                        return;
                }
}

static void add_settling(struct restore_task *t) {
        struct compel_batch *b = task_lane(t);

        add_subreaper(t);
        add_clones(t, true);
        if (t->sid == t->pid)
                compel_call(b, "start a session", SYS_setsid);
        add_clones(t, false);
        add_unshare(b, t->share[RESTORE_SHARE_FILES].unshares_last, CLONE_FILES);
        add_unshare(b, t->share[RESTORE_SHARE_FS].unshares_last, CLONE_FS);
}

static bool has_work(const struct restore_task *t) {
        return task_lane((struct restore_task *)t)->n > 0;
}

/* As soon as its batch is filled: while it works, the next one's is being filled. */
static void start_early(struct restore_task *t) {
        if (has_work(t) && task_lane(t)->error == 0 && !task_lane(t)->started)
                compel_start(task_lane(t));
}

int run_lanes(struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; i < r->nr_tasks; i++)
                start_early(r->tasks[i]);
        for (size_t i = 0; i < r->nr_tasks; i++) {
                int waited = lane_wait(r->tasks[i], err);

                if (ret == 0)
                        ret = waited;
        }
        return ret;
}

static int fill_task(void *arg, struct ckpt_error *err) {
        struct restore_task *t = arg;

        return mem_restore(t, task_lane(t), err);
}

/* Filling memory uses descriptors of fixed numbers: never two tasks side by side in one table. */
static bool shares_table(const struct restore_task *t) {
        return t->share[RESTORE_SHARE_FILES].born != 0 || t->share[RESTORE_SHARE_FILES].own != 0;
}

static int fill_alone(struct restore_task *t, struct ckpt_error *err) {
        int ret = mem_restore(t, task_lane(t), err);

        return ret < 0 ? ret : compel_run(task_lane(t), err);
}

/* Large memory is waited for while it is being filled: several tasks side by side. */
static int fill_new_tasks(struct restore *r, struct ckpt_error *err) {
        int ret = 0, waited;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];

                if (!t->cloned || t->filled)
                        continue;
                if (t->kind == RESTORE_TASK_LIVE && shares_table(t))
                        ret = fill_alone(t, err);
                else if (t->kind == RESTORE_TASK_LIVE && mem_is_large(t))
                        ret = pool_add(r->pool, fill_task, t);
                else if (t->kind == RESTORE_TASK_LIVE) {
                        ret = mem_restore(t, task_lane(t), err);
                        start_early(t);
                }
                t->filled = true;
        }
        if (ret < 0 && !ckpt_error_is_set(err))
                ckpt_error_errno(err, ret, "cannot fill the memory of the tree");
        waited = pool_join(r->pool, err);
        if (ret == 0)
                ret = waited;
        if (ret == 0)
                ret = run_lanes(r, err);
        if (ret == 0)
                ret = fault_point_error(FAULT_RESTORE_MEMORY, err);
        return ret;
}

/* Children of other threads than the leader, after the leader has made its session. */
static int clone_from_threads(struct restore_task *cloner, struct ckpt_error *err) {
        struct restore *r = cloner->restore;
        int ret = 0;

        for (size_t i = 0; ret == 0 && cloner->has_children && i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];
                struct restore_thread *th;

                if (!cloned_by(t, cloner) || (th = cloning_thread(t, cloner)) == &cloner->threads[0])
                        continue;
                ret = build_threads_of(cloner, err);
                if (ret == 0) {
                        add_clone(th, t);
                        ret = compel_run(&th->lane, err);
                }
        }
        return ret;
}

static bool is_settling(const struct restore_task *t) {
        return t->filled && !t->settled;
}

/*
 * Nobody can wait yet for a task that is being cloned, so all of its memory must fit into one batch, and of tasks in one
 * table only one may be at work.
 */
static bool fills_at_birth(const struct restore_task *t) {
        const struct restore_task *cloner = t->via ? t->via : t->parent;

        return t->kind == RESTORE_TASK_LIVE && !t->filled && cloner && is_settling(cloner) &&
               cloning_thread(t, (struct restore_task *)cloner) == &cloner->threads[0] && !shares_table(t) &&
               !mem_is_large(t) && mem_fits(t, &t->threads[0].lane);
}

static int fill_unborn(struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];

                t->fills_at_birth = fills_at_birth(t);
                if (!t->fills_at_birth)
                        continue;
                ret = mem_restore(t, task_lane(t), err);
                start_early(t);
        }
        return ret;
}

/* Those that clone are waited for alone: if one fails, its other children never come. */
static int wait_for_cloners(struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; i < r->nr_tasks; i++) {
                int waited = is_settling(r->tasks[i]) ? lane_wait(r->tasks[i], err) : 0;

                if (ret == 0)
                        ret = waited;
        }
        return ret;
}

static void mark_settled(struct restore *r) {
        for (size_t i = 0; i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i], *cloner = t->via ? t->via : t->parent;

                t->cloned |= cloner && is_settling(cloner);
        }
        for (size_t i = 0; i < r->nr_tasks; i++)
                r->tasks[i]->settled |= r->tasks[i]->filled;
        for (size_t i = 0; i < r->nr_tasks; i++)
                r->tasks[i]->filled |= r->tasks[i]->fills_at_birth;
}

static int settle_new_tasks(struct restore *r, struct ckpt_error *err) {
        int ret, waited;

        for (size_t i = 0; i < r->nr_tasks; i++)
                if (is_settling(r->tasks[i])) {
                        add_settling(r->tasks[i]);
                        start_early(r->tasks[i]);
                }
        ret = fill_unborn(r, err);
        waited = wait_for_cloners(r, err);
        if (ret == 0)
                ret = waited;
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (is_settling(r->tasks[i]))
                        ret = clone_from_threads(r->tasks[i], err);
        if (ret == 0)
                ret = fault_point_error(FAULT_RESTORE_TREE_HALF, err);
        if (ret < 0)
                return ret;
        mark_settled(r);
        return 0;
}

static bool all_settled(const struct restore *r) {
        for (size_t i = 0; i < r->nr_tasks; i++)
                if (!r->tasks[i]->settled)
                        return false;
        return true;
}

/* Start a task on its last batch: nobody waits for the answer. */
static void start_last(struct restore_task *t) {
        struct compel_batch *b = task_lane(t);

        compel_start(b);
        b->started = false;
        compel_reset(b);
}

static int exit_status_of(const struct restore_task *t) {
        return (int)t->threads[0].core->tc->exit_code;
}

/* What can fail: the answer is waited for, since a zombie that never comes to be would be waited for for ever. */
static int add_last_will(struct restore_task *t, struct ckpt_error *err) {
        struct compel_batch *b = task_lane(t);
        const Img__TaskCore *tc = t->threads[0].core->tc;
        const uint64_t no_core[2] = { 0, 0 }, dfl[4] = { 0 };
        struct compel_op *op;

        compel_call(b, "set its name", SYS_prctl, PR_SET_NAME,
                    compel_copy(b, tc->comm, strnlen(tc->comm, 15) + 1));
        if (WIFSIGNALED(exit_status_of(t))) {
                compel_call(b, "forbid a core file", SYS_prlimit64, 0, 4 /* RLIMIT_CORE */,
                            compel_copy(b, no_core, sizeof(no_core)), 0);
                op = compel_call(b, "reset a signal", SYS_rt_sigaction,
                                 (uint64_t)WTERMSIG(exit_status_of(t)), compel_copy(b, dfl, sizeof(dfl)), 0,
                                 8);
                op->check = COMPEL_CHECK_NOTHING; /* SIGKILL has no action */
        }
        return task_restore_zombie(t, b, err);
}

/* As it once died: by a status or by a signal. */
static void add_death(struct restore_task *t) {
        struct compel_batch *b = task_lane(t);
        const uint64_t none = 0;

        if (WIFSIGNALED(exit_status_of(t))) {
                compel_call(b, "die", SYS_kill, (uint64_t)t->pid, (uint64_t)WTERMSIG(exit_status_of(t)));
                compel_call(b, "die", SYS_rt_sigprocmask, SIG_SETMASK, compel_copy(b, &none, sizeof(none)),
                            0, 8);
        }
        compel_call(b, "exit", SYS_exit_group, (uint64_t)WEXITSTATUS(exit_status_of(t)));
        start_last(t);
}

/* Setting an ignored action discards what is pending: the SIGCHLDs that this stage caused. */
static void add_sigchld_flush(struct restore_task *t) {
        struct compel_batch *b = task_lane(t);
        const uint64_t dfl[4] = { 0 };

        compel_call(b, "forget the ends of helpers", SYS_rt_sigaction, SIGCHLD,
                    compel_copy(b, dfl, sizeof(dfl)), 0, 8);
}

/* No helper has a helper, so all of them can go at once. Their parents, zombies to be among them, reap them. */
static int end_helpers(struct restore *r, struct ckpt_error *err) {
        for (size_t i = 0; i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];

                if (t->kind != RESTORE_TASK_HELPER)
                        continue;
                compel_call(task_lane(t), "exit", SYS_exit_group, 0);
                start_last(t);
                if (t->parent)
                        compel_call(task_lane(t->parent), "reap a helper", SYS_wait4, (uint64_t)t->pid, 0,
                                    __WALL, 0);
                else
                        waitpid(t->pid, NULL, __WALL);
        }
        return run_lanes(r, err);
}

/* Zombies have no children any more. Their parents wait until they are what they were. */
static int end_zombies(struct restore *r, struct ckpt_error *err) {
        bool any_ended = false;
        int ret = 0;

        for (size_t i = 0; i < r->nr_tasks; i++)
                any_ended |= r->tasks[i]->kind != RESTORE_TASK_LIVE;
        if (!any_ended)
                return 0;
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_ZOMBIE)
                        ret = add_last_will(r->tasks[i], err);
        if (ret == 0)
                ret = run_lanes(r, err);
        if (ret < 0)
                return ret;
        for (size_t i = 0; i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];

                if (t->kind != RESTORE_TASK_ZOMBIE)
                        continue;
                add_death(t);
                compel_call(task_lane(t->parent), "wait for a zombie", SYS_waitid, P_PID, (uint64_t)t->pid,
                            0, WEXITED | WNOWAIT | __WALL, 0);
        }
        for (size_t i = 0; i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_LIVE)
                        add_sigchld_flush(r->tasks[i]);
        return run_lanes(r, err);
}

static void mark_parents(struct restore *r) {
        for (size_t i = 0; i < r->nr_tasks; i++) {
                if (r->tasks[i]->parent)
                        r->tasks[i]->parent->has_children = true;
                if (r->tasks[i]->via)
                        r->tasks[i]->via->has_children = true;
        }
}

int build_tree(struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        mark_parents(r);
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (!r->tasks[i]->parent && r->tasks[i]->step != TREE_STEP_BESIDE)
                        ret = clone_root(r, r->tasks[i], err);
        while (ret == 0 && !all_settled(r)) {
                ret = fill_new_tasks(r, err);
                if (ret == 0)
                        ret = settle_new_tasks(r, err);
        }
        if (ret == 0)
                ret = join_groups(r, err);
        if (ret == 0)
                ret = end_helpers(r, err);
        if (ret == 0)
                ret = end_zombies(r, err);
        if (ret == 0)
                ret = fault_point_error(FAULT_RESTORE_TREE, err);
        return ret;
}
