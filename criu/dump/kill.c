/* SPDX-License-Identifier: GPL-2.0-only */
/* The tree that has been dumped ends, as a whole. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "dump/stages.h"
#include "dump/tracers.h"
#include "lib/fault.h"
#include "log.h"
#include "macro.h"
#include "mem/mem.h"
#include "sock/sock.h"
#include "vec.h"

enum {
        REAP_AT_ONCE = 1000,
        AHEAD = 64, /* processes of a tracer that die side by side; beyond that, they only wait for CPUs */
        RED_ZONE = 128, /* below the stack pointer, and in use */
};

/* ---- parents ---- */

/* One system call of a process that is about to be killed. */
static int call(struct dump_task *t, uint64_t nr, const uint64_t arg[6], int64_t *ret) {
        struct compel_thread *stop = &t->threads[0].stop;
        raddr_t insn;
        int r;

        /* The SIGCHLD of a child's end must not get in between; it has nobody to reach any more. */
        r = compel_set_sigmask(stop, ~0ULL);
        if (r == 0)
                r = compel_find_syscall_insn(stop->tid, &insn);
        return r < 0 ? r : compel_remote_syscall(stop, insn, nr, arg, ret, NULL);
}

/* Then its children leave no zombies: who traced them is the last to wait for them. */
static int ignore_ends(struct dump_task *t) {
        struct {
                uint64_t handler, flags, restorer, mask;
        } action = { .handler = (uintptr_t)SIG_IGN };
        uint64_t at = (t->threads[0].stop.regs.rsp - RED_ZONE - sizeof(action)) & ~15ULL;
        struct iovec local = { &action, sizeof(action) };
        struct iovec remote = { (void *)(uintptr_t)at, sizeof(action) };
        const uint64_t arg[6] = { SIGCHLD, at, 0, sizeof(action.mask) };
        int64_t ret;
        int r;

        if (process_vm_writev(t->threads[0].tid, &local, 1, &remote, 1, 0) != (ssize_t)sizeof(action))
                return -EFAULT;
        r = call(t, SYS_rt_sigaction, arg, &ret);
        return r < 0 ? r : (int)ret;
}

static bool is_reaped_by(const struct dump_task *t, const struct dump_task *parent) {
        return t->parent == parent && (t->nr_threads == 0 || !parent->ignores_ends);
}

/* Up to REAP_AT_ONCE children from `*next` on, in one batch of the parent. */
static int reap_batch(struct dump_task *parent, struct compel_visit *v, struct compel_thread *driver,
                      size_t *next) {
        const struct dump *d = parent->dump;
        struct compel_batch *b = compel_visit_batch(v);
        size_t i;

        compel_reset(b);
        for (i = *next; i < d->nr_tasks && b->n < REAP_AT_ONCE; i++)
                if (is_reaped_by(d->tasks[i], parent))
                        compel_call(b, "reap a child", SYS_wait4, (uint64_t)d->tasks[i]->pid, 0, __WALL, 0);
        *next = i;
        return compel_visit_run(v, driver, NULL);
}

static int reap_many(struct dump_task *parent) {
        /* The visit ends before its threads are freed: in reverse order. */
        _cleanup_free_ struct compel_thread *stops = calloc(parent->nr_threads, sizeof(*stops));
        _cleanup_(compel_visit_free) struct compel_visit *v = NULL;
        size_t next = 0;
        int r;

        ckpt_assert(stops);
        for (size_t i = 0; i < parent->nr_threads; i++)
                stops[i] = parent->threads[i].stop;
        r = compel_visit_begin(stops, parent->nr_threads, &v, NULL);
        while (r == 0 && next < parent->dump->nr_tasks)
                r = reap_batch(parent, v, &stops[0], &next);
        return r;
}

/* A pid is free as soon as the parent, which is stopped, has been made to reap it. */
static void reap_children(struct dump_task *parent) {
        const struct dump *d = parent->dump;
        uint64_t arg[6] = { 0, 0, __WALL };
        size_t n = 0;
        int64_t ret;
        int r;

        for (size_t i = 0; i < d->nr_tasks; i++)
                if (is_reaped_by(d->tasks[i], parent)) {
                        arg[0] = (uint64_t)d->tasks[i]->pid;
                        n++;
                }
        if (n == 0)
                return;
        r = n == 1 ? call(parent, SYS_wait4, arg, &ret) : reap_many(parent);
        if (r < 0)
                log_debug("children of pid %d stay zombies until their new parent reaps them", parent->pid);
}

/* ---- processes ---- */

/* Processes none of which is a descendant of another: children first, then their parents, and so on. */
struct generation {
        struct dump *d;
        struct dump_task **tasks;
        size_t n;
        size_t *killed; /* of the whole tree, atomic */
};

static int prepare_part(void *arg, unsigned int tracer, struct ckpt_error *err __attribute__((unused))) {
        const struct generation *g = arg;

        for (size_t i = 0; i < g->n; i++) {
                struct dump_task *t = g->tasks[i];

                if (t->generation > 0 && tracers_of(&t->threads[0]) == tracer)
                        t->ignores_ends = ignore_ends(t) == 0;
        }
        return 0;
}

static int kill_one(const struct generation *g, struct dump_task *t, struct ckpt_error *err) {
        int r;

        if (__atomic_fetch_add(g->killed, 1, __ATOMIC_RELAXED) == g->d->nr_tasks / 2) {
                r = fault_point_error(FAULT_DUMP_KILL_HALF, err);
                if (r < 0)
                        return r;
        }
        if (t->has_dead || (t->generation > 0 && !t->ignores_ends))
                reap_children(t);
        if (kill(t->pid, SIGKILL) < 0 && errno != ESRCH)
                return ckpt_error_errno(err, -errno, "the checkpoint is complete, but %s cannot be killed",
                                        dump_task_name(t));
        mem_release_killed(t);
        return 0;
}

/* The leader last. */
static void wait_threads(struct dump_task *t) {
        for (size_t i = t->nr_threads; i-- > 0;)
                compel_wait_end(&t->threads[i].stop);
}

/* Wait for the next that is this tracer's, from number *next on. false: there are no more. */
static bool wait_next(const struct generation *g, unsigned int tracer, size_t *next) {
        while (*next < g->n) {
                struct dump_task *t = g->tasks[(*next)++];

                if (!t->spread && t->tracer == tracer) {
                        wait_threads(t);
                        return true;
                }
        }
        return false;
}

static int kill_part(void *arg, unsigned int tracer, struct ckpt_error *err) {
        const struct generation *g = arg;
        size_t next = 0, ahead = 0;
        int r = 0;

        for (size_t i = 0; r == 0 && i < g->n; i++) {
                if (g->tasks[i]->spread || g->tasks[i]->tracer != tracer)
                        continue;
                r = kill_one(g, g->tasks[i], err);
                if (r == 0 && ++ahead > AHEAD)
                        wait_next(g, tracer, &next);
        }
        while (r == 0 && wait_next(g, tracer, &next))
                ;
        return r;
}

/* Of a process that all tracers share. */
static int wait_spread_part(void *arg, unsigned int tracer, struct ckpt_error *err __attribute__((unused))) {
        struct dump_task *t = arg;

        for (size_t i = t->nr_threads; i-- > 1;)
                if (tracers_of(&t->threads[i]) == tracer)
                        compel_wait_end(&t->threads[i].stop);
        return 0;
}

static int kill_first(void *arg, unsigned int tracer __attribute__((unused)), struct ckpt_error *err) {
        const struct generation *g = arg;

        return kill_one(g, g->tasks[0], err);
}

static int kill_spread(struct generation *g, struct dump_task *t, struct ckpt_error *err) {
        struct generation one = { .d = g->d, .tasks = &t, .n = 1, .killed = g->killed };
        int r = tracers_run_at(&t->threads[0], kill_first, &one, err);

        if (r < 0)
                return r;
        tracers_run(g->d, wait_spread_part, t, NULL);
        wait_threads(t);
        return 0;
}

static int kill_generation(struct generation *g, struct ckpt_error *err) {
        int r;

        if (g->n == 1 && !g->tasks[0]->spread && g->tasks[0]->tracer == 0)
                return kill_part(g, 0, err);
        r = tracers_run(g->d, kill_part, g, err);
        for (size_t i = 0; r == 0 && i < g->n; i++)
                if (g->tasks[i]->spread)
                        r = kill_spread(g, g->tasks[i], err);
        return r;
}

static int compare_generations(const void *a, const void *b) {
        const struct dump_task *x = *(struct dump_task *const *)a, *y = *(struct dump_task *const *)b;

        return x->generation < y->generation ? -1 : x->generation > y->generation;
}

/* Parents stand before their children in the list. */
static size_t sort_by_generation(struct dump *d, struct dump_task **ret) {
        size_t n = 0;

        for (size_t i = d->nr_tasks; i-- > 0;) {
                struct dump_task *t = d->tasks[i], *parent = t->parent;

                if (t->nr_threads > 0)
                        ret[n++] = t;
                if (!parent)
                        continue;
                if (t->nr_threads == 0)
                        parent->has_dead = true;
                else
                        parent->generation = MAX(parent->generation, t->generation + 1);
        }
        qsort(ret, n, sizeof(struct dump_task *), compare_generations);
        return n;
}

/* Children before parents, so that no zombie keeps a pid. */
static int kill_tasks(struct dump *d, struct ckpt_error *err) {
        _cleanup_free_ struct dump_task **tasks = calloc(d->nr_tasks, sizeof(struct dump_task *));
        struct generation g = { .d = d, .tasks = tasks };
        size_t n, killed = 0;
        int r = 0;

        ckpt_assert(tasks);
        g.killed = &killed;
        g.n = n = sort_by_generation(d, tasks);
        tracers_run(d, prepare_part, &g, NULL);
        while (r == 0 && g.tasks < tasks + n) {
                for (g.n = 1; g.tasks + g.n < tasks + n; g.n++)
                        if (g.tasks[g.n]->generation != g.tasks[0]->generation)
                                break;
                r = kill_generation(&g, err);
                g.tasks += g.n;
        }
        return r;
}

/* If ckpt dies from here on, the rest of the tree is killed all the same: half a tree is no tree. */
static int arm_guard(struct dump *d, struct ckpt_error *err) {
        _cleanup_(pid_vec_done) struct pid_vec pids = { 0 };

        for (size_t i = d->nr_tasks; i-- > 0;)
                if (d->tasks[i]->nr_threads > 0 && pid_vec_push(&pids, d->tasks[i]->pid) < 0)
                        return ckpt_error_errno(err, -ENOMEM,
                                                "the checkpoint is complete, but the tree cannot be killed");
        return kill_guard_arm(&d->guard, pids.v, pids.n, err);
}

int kill_tree(struct dump *d, struct ckpt_error *err) {
        int r;

        r = sock_before_kill(d, err);
        if (r == 0)
                r = arm_guard(d, err);
        if (r == 0)
                r = sock_silence(d, err);
        if (r == 0)
                r = kill_tasks(d, err);
        if (r == 0)
                sock_after_kill(d);
        kill_guard_disarm(&d->guard);
        return r;
}
