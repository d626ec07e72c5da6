/* SPDX-License-Identifier: GPL-2.0-only */
/* Which processes and threads there are. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cleanup.h"
#include "dump/stages.h"
#include "fd/fd.h"
#include "log.h"
#include "macro.h"
#include "mem/mem.h"

static void free_task(struct dump_task *t) {
        for (size_t i = 0; i < t->nr_threads; i++) {
                proc_close(&t->threads[i].proc);
                proc_status_done(&t->threads[i].status);
        }
        free(t->threads);
        mem_dump_free(&t->mem);
        proc_smap_vec_done(&t->smaps);
        pid_vec_done(&t->tids);
        proc_buf_done(&t->maps_buf);
        proc_close(&t->proc);
        proc_close(&t->other);
        arena_done(&t->arena);
        free(t);
}

void tree_free(struct dump *d) {
        for (size_t i = 0; i < d->nr_tasks; i++)
                free_task(d->tasks[i]);
        free(d->tasks);
        d->tasks = NULL;
        d->nr_tasks = 0;
}

struct dump_task *dump_find_task(const struct dump *d, pid_t pid) {
        for (size_t i = 0; i < d->nr_tasks; i++)
                if (d->tasks[i]->pid == pid)
                        return d->tasks[i];
        return NULL;
}

bool dump_is_below(const struct dump *d, pid_t pid) {
        for (unsigned int depth = 0; pid > 1 && depth < 1000; depth++) {
                _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
                _cleanup_proc_buf_ struct proc_buf buf = { 0 };
                struct proc_stat stat;

                if (dump_find_task(d, pid))
                        return true;
                /* Gone by now: it is nobody's problem. */
                if (proc_open(pid, &dir) < 0 || proc_stat_read(&dir, &buf, &stat) < 0)
                        return true;
                pid = stat.ppid;
        }
        return false;
}

const struct pid_vec *dump_tids(struct dump_task *t) {
        if (t->tids.n == 0)
                (void)proc_tids(&t->proc, &t->tids);
        return &t->tids;
}

const char *dump_task_name(struct dump_task *t) {
        return arena_printf(&t->arena, "pid %d (%s)", t->pid, t->stat.comm);
}

/* 1: added. 0: it is gone already. */
static int add_task(struct dump *d, pid_t pid, struct dump_task *parent, struct ckpt_error *err) {
        struct dump_task *t = calloc(1, sizeof(*t));
        struct dump_task **tasks = reallocarray(d->tasks, d->nr_tasks + 1, sizeof(*tasks));
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        int r;

        ckpt_assert(t && tasks);
        d->tasks = tasks;
        *t = (struct dump_task){
                .dump = d, .parent = parent, .pid = pid, .proc = PROC_DIR_INIT, .other = PROC_DIR_INIT
        };
        r = proc_open(pid, &t->proc);
        if (r == 0)
                r = proc_stat_read(&t->proc, &buf, &t->stat);
        if (r < 0) {
                free_task(t);
                if (r == -ESRCH)
                        return 0;
                return ckpt_error_errno(err, r, "cannot read /proc/%d", pid);
        }
        t->state = t->stat.state;
        d->tasks[d->nr_tasks++] = t;
        return 1;
}

/* Children that are not in the list yet. Returns how many were added; *ret_gone: some were listed, but not there. */
static int add_children(struct dump *d, struct dump_task *t, bool *ret_gone, struct ckpt_error *err) {
        _cleanup_(pid_vec_done) struct pid_vec children = { 0 };
        int r, added = 0;

        r = proc_children(&t->proc, &children);
        if (r == -ESRCH)
                return 0;
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot list its children", dump_task_name(t));
        for (size_t i = 0; i < children.n; i++) {
                if (children.v[i] == getpid()) {
                        ckpt_error(err, -EINVAL,
                                   "the tree contains ckpt itself (pid %d, below %s); nothing was changed",
                                   getpid(), dump_task_name(t));
                        return ckpt_error_hint(err, "Run ckpt from outside the tree that it is to dump");
                }
                if (dump_find_task(d, children.v[i]))
                        continue;
                r = add_task(d, children.v[i], t, err);
                if (r < 0)
                        return r;
                *ret_gone |= r == 0;
                added += r;
        }
        return added;
}

int tree_read(struct dump *d, pid_t root, struct ckpt_error *err) {
        bool gone = false;
        int r;

        if (root == 1)
                return ckpt_error(err, -EINVAL,
                                  "pid 1 is the init of this system or container; its tree cannot be "
                                  "dumped from inside. Nothing was changed");
        if (root == getpid())
                return ckpt_error(err, -EINVAL, "pid %d is ckpt itself; nothing was changed", root);
        r = add_task(d, root, NULL, err);
        if (r == 0)
                return ckpt_error(err, -ESRCH, "there is no process with pid %d", root);
        if (r < 0)
                return r;
        if (d->tasks[0]->stat.flags & 0x00200000)
                return ckpt_error(err, -EINVAL,
                                  "%s is a thread of the kernel; only user processes can be dumped",
                                  dump_task_name(d->tasks[0]));
        if (d->tasks[0]->stat.state == 'Z' && d->tasks[0]->stat.num_threads <= 1)
                return ckpt_error(
                        err, -ESRCH,
                        "%s is a zombie: it has exited, and only its status is left for its parent, pid %d",
                        dump_task_name(d->tasks[0]), d->tasks[0]->stat.ppid);
        for (size_t i = 0; i < d->nr_tasks; i++) {
                r = add_children(d, d->tasks[i], &gone, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Tasks that ended and were reaped before they could be stopped; the root must not be among them. Sets *changed. */
static int drop_vanished(struct dump *d, bool *changed, struct ckpt_error *err) {
        size_t kept = 0;

        for (size_t i = 0; i < d->nr_tasks; i++) {
                struct dump_task *t = d->tasks[i];

                if (proc_exists(&t->proc)) {
                        d->tasks[kept++] = t;
                        continue;
                }
                if (i == 0)
                        return ckpt_error(err, -ESRCH, "%s exited before it could be stopped",
                                          dump_task_name(t));
                log_debug("pid %d is gone", t->pid);
                for (size_t j = i + 1; j < d->nr_tasks; j++)
                        if (d->tasks[j]->parent == t)
                                d->tasks[j]->parent = NULL; /* set again below */
                free_task(t);
        }
        *changed |= kept < d->nr_tasks;
        d->nr_tasks = kept;
        return 0;
}

/* Its parent died and nobody in the tree has taken it over: it runs on as what it is now, somebody else's. */
static void remove_stray(struct dump *d, size_t i) {
        struct dump_task *t = d->tasks[i];

        log_info("%s left the tree: its parent died, and it is now a child of pid %d", dump_task_name(t),
                 t->stat.ppid);
        for (size_t j = t->nr_threads; j-- > 0;)
                compel_release(&t->threads[j].stop);
        memmove(&d->tasks[i], &d->tasks[i + 1], (d->nr_tasks - i - 1) * sizeof(*d->tasks));
        d->nr_tasks--;
        free_task(t);
}

/* Who is whose parent may have changed: orphans go to a subreaper. Sets *changed. -ESRCH: somebody is gone. */
static int reread_parents(struct dump *d, bool *changed, struct ckpt_error *err) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        for (size_t i = 0; i < d->nr_tasks; i++) {
                struct dump_task *t = d->tasks[i], *parent = t->parent;
                int r = proc_stat_read(&t->proc, &buf, &t->stat);

                if (r == -ESRCH)
                        return r;
                if (r < 0)
                        return ckpt_error_errno(err, r, "pid %d: cannot read its state", t->pid);
                if (i == 0)
                        continue;
                t->parent = dump_find_task(d, t->stat.ppid);
                *changed |= t->parent != parent;
                if (!t->parent) {
                        remove_stray(d, i);
                        i = 0; /* those below it go with it */
                }
        }
        return 0;
}

/* Parents before children, in a stable order. */
static void sort_tasks(struct dump *d) {
        size_t done = 1;

        while (done < d->nr_tasks) {
                size_t before = done;

                for (size_t i = done; i < d->nr_tasks; i++) {
                        struct dump_task *t = d->tasks[i];
                        bool placed = false;

                        for (size_t j = 0; j < done && !placed; j++)
                                placed = d->tasks[j] == t->parent;
                        if (!placed)
                                continue;
                        memmove(&d->tasks[done + 1], &d->tasks[done], (i - done) * sizeof(*d->tasks));
                        d->tasks[done++] = t;
                }
                ckpt_assert(done > before);
        }
}

static bool in_order(const struct dump *d) {
        for (size_t i = 1; i < d->nr_tasks; i++) {
                size_t j = i;

                while (j > 0 && d->tasks[j - 1] != d->tasks[i]->parent)
                        j--;
                if (j == 0)
                        return false;
        }
        return true;
}

/* New children of those that are there; their number is added to *added. */
static int find_new_tasks(struct dump *d, int *added, bool *changed, struct ckpt_error *err) {
        for (size_t i = 0; i < d->nr_tasks; i++) {
                int r = add_children(d, d->tasks[i], changed, err);

                if (r < 0)
                        return r;
                *added += r;
        }
        return 0;
}

int tree_refresh(struct dump *d, struct ckpt_error *err) {
        int r, added = 0;
        bool changed;

        /*
         * What is new is not stopped yet and may be gone before it has been read. Where somebody went meanwhile, a list of
         * children that the kernel gave in parts may lack others: once more.
         */
        do {
                changed = false;
                r = drop_vanished(d, &changed, err);
                if (r == 0)
                        r = find_new_tasks(d, &added, &changed, err);
                if (r < 0)
                        return r;
                r = reread_parents(d, &changed, err);
        } while (r == -ESRCH || (r == 0 && changed));
        if (r < 0)
                return r;
        if (!in_order(d))
                sort_tasks(d);
        return added;
}

static bool lives(const struct proc_dir *dir) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat;

        return proc_stat_read(dir, &buf, &stat) == 0 && stat.state != 'Z' && stat.state != 'X';
}

void tree_find_living(struct dump_task *t) {
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };

        proc_close(&t->other);
        if (t->stat.state != 'Z' || proc_tids(&t->proc, &tids) < 0)
                return;
        /* /proc/TID rather than /proc/PID/task/TID, which lacks some files of a process. */
        for (size_t i = 0; i < tids.n; i++) {
                if (tids.v[i] == t->pid || proc_open(tids.v[i], &t->other) < 0)
                        continue;
                if (lives(&t->other))
                        return;
                proc_close(&t->other);
        }
}

static bool has_thread(const struct dump_task *t, pid_t tid) {
        for (size_t i = 0; i < t->nr_threads; i++)
                if (t->threads[i].tid == tid)
                        return true;
        return false;
}

/* 1: opened. 0: gone. Whether it lives shows when it is seized. */
static int open_thread(struct dump_task *t, pid_t tid, struct dump_thread *ret) {
        int r;

        *ret = (struct dump_thread){ .task = t, .tid = tid, .proc = PROC_DIR_INIT };
        r = tid == t->pid ? proc_dup(&t->proc, &ret->proc) : proc_open_thread(&t->proc, tid, &ret->proc);
        if (r == -ESRCH)
                return 0;
        return r < 0 ? r : 1;
}

int tree_refresh_threads(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };
        struct dump_thread *threads;
        int r, added = 0;

        r = proc_tids(&t->proc, &tids);
        if (r == -ESRCH)
                return 0;
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot list its threads", dump_task_name(t));
        threads = reallocarray(t->threads, t->nr_threads + tids.n + 1, sizeof(*threads));
        ckpt_assert(threads);
        t->threads = threads;
        for (size_t i = 0; i < tids.n; i++) {
                if (has_thread(t, tids.v[i]))
                        continue;
                r = open_thread(t, tids.v[i], &t->threads[t->nr_threads]);
                if (r < 0)
                        return ckpt_error_errno(err, r, "%s: cannot read thread %d", dump_task_name(t),
                                                tids.v[i]);
                t->nr_threads += (size_t)r;
                added += r;
        }
        return added;
}

static bool is_parent(const struct dump *d, const struct dump_task *t) {
        for (size_t i = 0; i < d->nr_tasks; i++)
                if (d->tasks[i]->parent == t)
                        return true;
        return false;
}

/* The children of one thread, none of which is the leader's. */
static int note_parent_thread(struct dump_task *t, const struct dump_thread *th, struct ckpt_error *err) {
        _cleanup_(pid_vec_done) struct pid_vec children = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        int r;

        r = proc_read(&th->proc, "children", &buf);
        if (r == -ENOENT)
                return 0; /* a kernel without CONFIG_PROC_CHILDREN does not tell */
        if (r == 0)
                r = proc_children_parse(buf.data, buf.len, &children);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot list the children of its thread %d",
                                        dump_task_name(t), th->tid);
        for (size_t i = 0; i < children.n; i++) {
                struct dump_task *child = dump_find_task(t->dump, children.v[i]);

                if (child)
                        child->parent_tid = th->tid;
        }
        return 0;
}

int tree_find_parent_threads(struct dump *d, struct ckpt_error *err) {
        for (size_t i = 0; i < d->nr_tasks; i++) {
                struct dump_task *t = d->tasks[i];

                if (t->nr_threads < 2 || !is_parent(d, t))
                        continue;
                for (size_t j = 0; j < t->nr_threads; j++) {
                        int r = t->threads[j].tid == t->pid ? 0 : note_parent_thread(t, &t->threads[j], err);

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}
