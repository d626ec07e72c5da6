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

enum { LOOKS = 5 };

static bool same_object(pid_t a, pid_t b, int type) {
        return syscall(SYS_kcmp, a, b, type, 0, 0) == 0;
}

/* In vfork(2), or clone(2) with CLONE_VFORK, which end when the child calls exec: some thread sleeps like that. */
static bool is_in_vfork(const struct dump_task *t) {
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        if (proc_tids(&t->proc, &tids) < 0)
                return true;
        for (size_t i = 0; i < tids.n; i++) {
                _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
                struct proc_stat stat;

                if (proc_open_thread(&t->proc, tids.v[i], &dir) == 0 &&
                    proc_stat_read(&dir, &buf, &stat) == 0 && stat.state == 'D')
                        return true;
        }
        return false;
}

/* The parent of a vfork child sleeps a moment after its child has begun, so one look is not enough. */
static bool shares_for_good(const struct dump_task *t, pid_t tid, pid_t parent) {
        const struct timespec pause = { 0, 1000000 };

        for (unsigned int i = 0; i < LOOKS; i++) {
                if (!same_object(tid, parent, KCMP_VM) || is_in_vfork(t->parent))
                        return false;
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
        struct restore r = { .run = d->run, .opts = d->opts };
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
