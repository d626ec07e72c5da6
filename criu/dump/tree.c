/* SPDX-License-Identifier: GPL-2.0-only */
/* Which processes and threads there are. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "dump/stages.h"
#include "dump/tracers.h"
#include "fd/fd.h"
#include "log.h"
#include "macro.h"
#include "mem/mem.h"
#include "task/facts.h"

static void free_task(struct dump_task *t) {
        for (size_t i = 0; i < t->nr_threads; i++) {
                proc_close(&t->threads[i].own_proc);
                proc_status_done(&t->threads[i].status);
        }
        free(t->threads);
        mem_dump_free(&t->mem);
        proc_smap_vec_done(&t->smaps);
        thread_fact_vec_done(&t->facts);
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

enum { ANCESTORS_MAX = 1000 }; /* looked at, those that died meanwhile included */

bool dump_is_below(const struct dump *d, pid_t pid) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        pid_t at = pid;

        for (unsigned int i = 0; at > 0 && i < ANCESTORS_MAX; i++) {
                _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
                struct proc_stat stat;

                if (dump_find_task(d, at))
                        return true;
                if (proc_open(at, &dir) == 0 && proc_stat_read(&dir, &buf, &stat) == 0)
                        at = stat.ppid;
                else if (at == pid)
                        return true;
                else /* what it left has another parent now */
                        at = pid;
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

/* ---- what is asked of many tasks: by two threads ---- */

enum { SPREAD_MIN = 16 };

/* One of many, and the answer. */
struct asked {
        pid_t pid;
        struct dump_task *parent, *task;
        struct pid_vec children;
        struct proc_stat stat;
        int r;
};

DEFINE_VEC(asked_vec, struct asked);

static void asked_done(struct asked_vec *vec) {
        for (size_t i = 0; i < vec->n; i++) {
                pid_vec_done(&vec->v[i].children);
                if (vec->v[i].task && vec->v[i].pid > 0)
                        free_task(vec->v[i].task);
        }
        asked_vec_done(vec);
}

static void spread(struct dump *d, struct asked_vec *vec, void (*fn)(void *ctx, size_t from, size_t to)) {
        for (size_t i = 0; i < vec->n; i++)
                vec->v[i].r = -ENOMEM;
        if (vec->n < SPREAD_MIN || !d->aside)
                fn(vec->v, 0, vec->n);
        else
                (void)pool_spread(d->aside, vec->n, fn, vec->v);
}

/* Elements for tasks [from, to); they stay the tree's. */
static struct asked_vec ask_of_tasks(struct dump *d, size_t from, size_t to) {
        struct asked_vec vec = { 0 };

        for (size_t i = from; i < to; i++)
                ckpt_assert(asked_vec_push(&vec, (struct asked){ .task = d->tasks[i] }) == 0);
        return vec;
}

/* ---- the tasks of the tree ---- */

static int open_task(struct dump_task *t) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        int r = proc_open(t->pid, &t->proc);

        return r < 0 ? r : proc_stat_read(&t->proc, &buf, &t->stat);
}

static void make_tasks(void *ctx, size_t from, size_t to) {
        struct asked *asked = ctx;

        for (size_t i = from; i < to; i++) {
                struct dump_task *t = calloc(1, sizeof(*t));

                ckpt_assert(t);
                *t = (struct dump_task){ .parent = asked[i].parent,
                                         .pid = asked[i].pid,
                                         .proc = PROC_DIR_INIT,
                                         .other = PROC_DIR_INIT };
                asked[i].task = t;
                asked[i].r = open_task(t);
        }
}

/* All that are there. Returns how many; *ret_gone: some were not. */
static int add_tasks(struct dump *d, struct asked_vec *vec, bool *ret_gone, struct ckpt_error *err) {
        struct dump_task **tasks = reallocarray(d->tasks, d->nr_tasks + vec->n + 1, sizeof(*tasks));
        int added = 0;

        ckpt_assert(tasks);
        d->tasks = tasks;
        spread(d, vec, make_tasks);
        for (size_t i = 0; i < vec->n; i++) {
                struct asked *a = &vec->v[i];

                *ret_gone |= a->r == -ESRCH;
                if (a->r == -ESRCH)
                        continue;
                if (a->r < 0)
                        return ckpt_error_errno(err, a->r, "cannot read /proc/%d", a->pid);
                a->task->dump = d;
                a->task->state = a->task->stat.state;
                d->tasks[d->nr_tasks++] = TAKE_PTR(a->task);
                added++;
        }
        return added;
}

static void list_children(void *ctx, size_t from, size_t to) {
        struct asked *asked = ctx;

        for (size_t i = from; i < to; i++)
                asked[i].r = proc_children(&asked[i].task->proc, &asked[i].children);
}

/* Numbers that have been seen; a table with open addressing. */
struct pid_set {
        pid_t *v; /* 0: free */
        size_t size;
};

static void pid_set_done(struct pid_set *set) {
        free(set->v);
}

/* False: it was there already. */
static bool pid_set_add(struct pid_set *set, pid_t pid) {
        size_t i = (size_t)pid * 0x9e3779b1U % set->size;

        while (set->v[i] != 0 && set->v[i] != pid)
                i = (i + 1) % set->size;
        if (set->v[i] == pid)
                return false;
        set->v[i] = pid;
        return true;
}

/* For at most `n` of them. */
static struct pid_set pid_set_for(size_t n) {
        struct pid_set set = { .size = 2 * n + 1 };

        set.v = calloc(set.size, sizeof(*set.v));
        ckpt_assert(set.v);
        return set;
}

static struct pid_set pids_of_tree(const struct dump *d, size_t more) {
        struct pid_set set = pid_set_for(d->nr_tasks + more);

        for (size_t i = 0; i < d->nr_tasks; i++)
                (void)pid_set_add(&set, d->tasks[i]->pid);
        return set;
}

static int note_new(struct dump_task *t, const struct pid_vec *children, struct pid_set *known,
                    struct asked_vec *ret, struct ckpt_error *err) {
        pid_t self = getpid();

        for (size_t i = 0; i < children->n; i++) {
                pid_t pid = children->v[i];

                if (pid == self) {
                        ckpt_error(err, -EINVAL,
                                   "the tree contains ckpt itself (pid %d, below %s); nothing was changed",
                                   self, dump_task_name(t));
                        return ckpt_error_hint(err, "Run ckpt from outside the tree that it is to dump");
                }
                if (pid_set_add(known, pid))
                        ckpt_assert(asked_vec_push(ret, (struct asked){ .pid = pid, .parent = t }) == 0);
        }
        return 0;
}

/*
 * Children of tasks [from, to) that are not in the list yet. Returns how many were added; *ret_gone: some were listed, but
 * not there.
 */
static int add_children(struct dump *d, size_t from, size_t to, bool *ret_gone, struct ckpt_error *err) {
        _cleanup_(asked_done) struct asked_vec parents = ask_of_tasks(d, from, to), added = { 0 };
        _cleanup_(pid_set_done) struct pid_set known = { 0 };
        size_t n = 0;
        int r = 0;

        spread(d, &parents, list_children);
        for (size_t i = 0; i < parents.n; i++)
                n += parents.v[i].children.n;
        known = pids_of_tree(d, n);
        for (size_t i = 0; r == 0 && i < parents.n; i++) {
                struct dump_task *t = parents.v[i].task;

                r = parents.v[i].r;
                if (r == -ESRCH)
                        r = 0;
                else if (r < 0)
                        r = ckpt_error_errno(err, r, "%s: cannot list its children", dump_task_name(t));
                else
                        r = note_new(t, &parents.v[i].children, &known, &added, err);
        }
        return r < 0 ? r : add_tasks(d, &added, ret_gone, err);
}

/* And theirs, and so on. Returns how many were added. */
static int add_descendants(struct dump *d, bool *ret_gone, struct ckpt_error *err) {
        size_t from = 0, before = d->nr_tasks;
        int r = 0;

        while (r >= 0 && from < d->nr_tasks) {
                size_t to = d->nr_tasks;

                r = add_children(d, from, to, ret_gone, err);
                from = to;
        }
        return r < 0 ? r : (int)(d->nr_tasks - before);
}

static int add_root(struct dump *d, pid_t root, struct ckpt_error *err) {
        _cleanup_(asked_done) struct asked_vec vec = { 0 };
        bool gone = false;

        ckpt_assert(asked_vec_push(&vec, (struct asked){ .pid = root }) == 0);
        return add_tasks(d, &vec, &gone, err);
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
        r = add_root(d, root, err);
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
        task_facts_prepare(d);
        r = MIN(add_descendants(d, &gone, err), 0);
        if (r == 0)
                task_facts_prepare(d); /* for what is below the root */
        return r;
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
        tracers_release(d, &t, 1);
        memmove(&d->tasks[i], &d->tasks[i + 1], (d->nr_tasks - i - 1) * sizeof(*d->tasks));
        d->nr_tasks--;
        free_task(t);
}

static void read_stats(void *ctx, size_t from, size_t to) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct asked *asked = ctx;

        for (size_t i = from; i < to; i++)
                asked[i].r = proc_stat_read(&asked[i].task->proc, &buf, &asked[i].stat);
}

/* 1: the tree is another one now, ask again. */
static int take_stats(struct dump *d, struct asked_vec *vec, bool *changed, struct ckpt_error *err) {
        for (size_t i = 0; i < vec->n; i++) {
                struct dump_task *t = vec->v[i].task, *parent = t->parent;

                if (vec->v[i].r == -ESRCH)
                        return -ESRCH;
                if (vec->v[i].r < 0)
                        return ckpt_error_errno(err, vec->v[i].r, "pid %d: cannot read its state", t->pid);
                t->stat = vec->v[i].stat;
                if (i == 0)
                        continue;
                t->parent = dump_find_task(d, t->stat.ppid);
                *changed |= t->parent != parent;
                if (!t->parent) {
                        remove_stray(d, i);
                        return 1; /* those below it go with it */
                }
        }
        return 0;
}

/* Who is whose parent may have changed: orphans go to a subreaper. Sets *changed. -ESRCH: somebody is gone. */
static int reread_parents(struct dump *d, bool *changed, struct ckpt_error *err) {
        int r;

        do {
                _cleanup_(asked_done) struct asked_vec vec = ask_of_tasks(d, 0, d->nr_tasks);

                spread(d, &vec, read_stats);
                r = take_stats(d, &vec, changed, err);
        } while (r > 0);
        return r;
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

int tree_refresh(struct dump *d, struct ckpt_error *err) {
        int r = 0, added = 0;
        bool changed;

        /*
         * What is new is not stopped yet and may be gone before it has been read. Where somebody went meanwhile, a list of
         * children that the kernel gave in parts may lack others: once more.
         */
        do {
                changed = false;
                r = r == -ESRCH ? drop_vanished(d, &changed, err) : 0;
                if (r == 0)
                        r = add_descendants(d, &changed, err);
                if (r < 0)
                        return r;
                added += r;
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

/* Each is a link of the directory: if they are as many as are known, and held, they are the same. */
static bool has_all_threads(const struct dump_task *t) {
        struct stat st;

        return t->nr_threads > 0 && t->threads[0].tid == t->pid && t->threads[0].stop.stopped &&
               fstatat(t->proc.fd, "task", &st, 0) == 0 && st.st_nlink == 2 + t->nr_threads;
}

int tree_refresh_threads(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };
        _cleanup_(pid_set_done) struct pid_set known = { 0 };
        struct dump_thread *threads;
        int r, added = 0;

        if (has_all_threads(t))
                return 0;
        r = proc_tids(&t->proc, &tids);
        if (r == -ESRCH)
                return 0;
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot list its threads", dump_task_name(t));
        threads = reallocarray(t->threads, t->nr_threads + tids.n + 1, sizeof(*threads));
        ckpt_assert(threads);
        t->threads = threads;
        known = pid_set_for(t->nr_threads + tids.n);
        for (size_t i = 0; i < t->nr_threads; i++)
                (void)pid_set_add(&known, t->threads[i].tid);
        /* Whether it lives shows when it is seized. */
        for (size_t i = 0; i < tids.n; i++)
                if (pid_set_add(&known, tids.v[i])) {
                        t->threads[t->nr_threads++] = (struct dump_thread){
                                .task = t, .tid = tids.v[i], .own_proc = PROC_DIR_INIT, .arena = &t->arena
                        };
                        added++;
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
static int note_parent_thread(struct dump_task *t, struct dump_thread *th, struct ckpt_error *err) {
        _cleanup_(pid_vec_done) struct pid_vec children = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const struct proc_dir *dir;
        int r = dump_thread_proc(th, &dir);

        if (r == 0)
                r = proc_read(dir, "children", &buf);
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
