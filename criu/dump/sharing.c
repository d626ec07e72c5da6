/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Processes that share what fork(2) copies. Memory and signal handlers are refused; descriptor tables and directories
 * are made by clone(2) on restore, so that it is asked whether the restore knows an order of clones for it.
 */
#include <errno.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "dump/blockers.h"
#include "dump/stages.h"
#include "macro.h"
#include "restore/stages.h"

enum {
        LOOKS = 5, /* a millisecond apart */
        LOOKS_MAX = 10000,
        TICKS = 2, /* of CPU time: more than it takes to fall asleep */
};

static bool same_object(pid_t a, pid_t b, int type) {
        return syscall(SYS_kcmp, a, b, type, 0, 0) == 0;
}

/* A thread of a parent, and what CPU time it had when it was first looked at. */
struct parent_thread {
        struct proc_dir dir;
        uint64_t ticks;
};

struct parent_threads {
        struct parent_thread *v;
        size_t n;
};

static void parent_threads_done(struct parent_threads *p) {
        for (size_t i = 0; i < p->n; i++)
                proc_close(&p->v[i].dir);
        free(p->v);
}

static void parent_threads_read(const struct dump_task *parent, struct parent_threads *ret) {
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        if (proc_tids(&parent->proc, &tids) < 0)
                return;
        ret->v = calloc(tids.n + 1, sizeof(*ret->v));
        ckpt_assert(ret->v);
        for (size_t i = 0; i < tids.n; i++) {
                struct parent_thread *th = &ret->v[ret->n];
                struct proc_stat stat;

                th->dir = PROC_DIR_INIT;
                if (proc_open_thread(&parent->proc, tids.v[i], &th->dir) < 0)
                        continue;
                ret->n++;
                if (proc_stat_read(&th->dir, &buf, &stat) == 0)
                        th->ticks = stat.utime + stat.stime;
        }
}

enum parent_state {
        PARENT_RESTS,  /* or works */
        PARENT_STARTS, /* waits for a CPU, perhaps on the way into that sleep */
        PARENT_SLEEPS, /* in vfork(2), or clone(2) with CLONE_VFORK, which end when the child calls exec */
};

/* Where nobody sleeps like that, whoever has used CPU time since was not kept from it. */
static enum parent_state parent_look(const struct parent_threads *p) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        enum parent_state state = PARENT_RESTS;

        for (size_t i = 0; i < p->n; i++) {
                struct proc_stat stat;

                if (proc_stat_read(&p->v[i].dir, &buf, &stat) < 0)
                        continue;
                if (stat.state == 'D')
                        return PARENT_SLEEPS;
                if (stat.state == 'R' && stat.utime + stat.stime < p->v[i].ticks + TICKS)
                        state = PARENT_STARTS;
        }
        return state;
}

/* The parent of a vfork child sleeps a moment after its child has begun, so one look is not enough. */
static bool shares_for_good(const struct dump_task *t, pid_t tid, pid_t parent) {
        _cleanup_(parent_threads_done) struct parent_threads threads = { 0 };
        const struct timespec pause = { 0, 1000000 };
        unsigned int looks = 0;

        if (!same_object(tid, parent, KCMP_VM))
                return false;
        parent_threads_read(t->parent, &threads);
        if (threads.n == 0)
                return false;
        for (unsigned int i = 0; looks < LOOKS && i < LOOKS_MAX; i++) {
                enum parent_state state = parent_look(&threads);

                if (!same_object(tid, parent, KCMP_VM) || state == PARENT_SLEEPS)
                        return false;
                looks += state == PARENT_RESTS;
                nanosleep(&pause, NULL);
        }
        return true;
}

static void look_memory(struct dump_task *t, pid_t tid, pid_t parent) {
        if (!shares_for_good(t, tid, parent))
                return;
        blocker_add(
                t->dump->blockers, NULL,
                "%s shares its %s with its parent without being its thread (CLONE_VM), which is not supported",
                dump_task_name(t),
                same_object(tid, parent, KCMP_SIGHAND) ? "memory and signal handlers" : "memory");
}

/* Whoever made the root may share with it, and is not carried over. */
static void look_outside(struct dump_task *root, pid_t tid) {
        static const struct {
                int type;
                const char *what;
        } rows[] = {
                { KCMP_VM, "memory" },
                { KCMP_FILES, "descriptor table" },
                { KCMP_FS, "working directory" },
        };
        pid_t parent = root->stat.ppid;

        for (size_t i = 0; parent > 0 && i < ELEMENTSOF(rows); i++)
                if (same_object(tid, parent, rows[i].type))
                        blocker_add(root->dump->blockers, "Dump the tree from that process on",
                                    "%s shares its %s with pid %d, outside of the tree",
                                    dump_task_name(root), rows[i].what, parent);
}

void look_sharing(struct dump_task *t) {
        pid_t tid = dump_living(t)->pid, parent;

        if (!t->parent) {
                look_outside(t, tid);
                return;
        }
        parent = dump_living(t->parent)->pid;
        look_memory(t, tid, parent);
        if (same_object(tid, parent, KCMP_FILES) || same_object(tid, parent, KCMP_FS))
                t->dump->shares = true;
}

/* ---- asking the restore ---- */

static void add_skeleton(struct restore *r, const struct dump_task *t) {
        struct restore_task *n = calloc(1, sizeof(*n));

        ckpt_assert(n);
        *n = (struct restore_task){
                .restore = r,
                .kind = t->state == 'Z' ? RESTORE_TASK_ZOMBIE : RESTORE_TASK_LIVE,
                .pid = t->pid,
                .pgid = t->stat.pgid,
                .sid = t->stat.sid,
                .nr_threads = 1,
                .threads = calloc(1, sizeof(struct restore_thread)),
                .ids = t->ids ? calloc(1, sizeof(Img__TaskKobjIds)) : NULL,
        };
        ckpt_assert(n->threads && (!t->ids || n->ids));
        n->threads[0] = (struct restore_thread){ .task = n, .tid = t->pid };
        n->parent = t->parent ? restore_find_task(r, t->parent->pid) : NULL;
        if (n->ids) {
                img__task_kobj_ids__init(n->ids);
                n->ids->files_id = t->ids->files_id;
                n->ids->fs_id = t->ids->fs_id;
        }
        r->tasks[r->nr_tasks++] = n;
}

int collect_sharing(struct dump *d, struct ckpt_error *err) {
        _cleanup_error_ struct ckpt_error reason = CKPT_ERROR_INIT;
        struct restore r = { .run = d->run, .opts = d->opts, .naming = PTHREAD_MUTEX_INITIALIZER };
        int ret;

        if (!d->shares)
                return 0;
        r.tasks = calloc(d->nr_tasks, sizeof(struct restore_task *));
        ckpt_assert(r.tasks);
        for (size_t i = 0; i < d->nr_tasks; i++)
                add_skeleton(&r, d->tasks[i]);
        ret = plan_tree(&r, &reason);
        if (ret == 0)
                ret = plan_sharing(&r, &reason);
        load_free(&r);
        if (ret < 0) {
                ckpt_error(err, ret, "a restore could not make this tree again: %s; the tree runs on",
                           ckpt_error_message(&reason));
                ret = ckpt_error_hint(
                        err, "Have the processes unshare(CLONE_FILES) and unshare(CLONE_FS), if they can");
        }
        return ret;
}
