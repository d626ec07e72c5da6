/* SPDX-License-Identifier: GPL-2.0-only */
/* The end of a dump: the images become the checkpoint, and then the tree is killed or goes on. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "dump/stages.h"
#include "dump/tracers.h"
#include "images/inventory.pb-c.h"
#include "cleanup.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/kill_guard.h"
#include "log.h"
#include "macro.h"
#include "mem/mem.h"
#include "sock/sock.h"
#include "vec.h"

enum {
        STOP_ROUNDS = 1000, /* of a millisecond */
        REAP_AT_ONCE = 1000,
};

/* Steps of image_set_commit() that have a fault point of their own. A hook cannot fail. */
static void pass_step(void *userdata __attribute__((unused)), const char *step) {
        if (strcmp(step, "committed") == 0)
                fault_point(FAULT_DUMP_COMMIT_HALF);
        else if (strcmp(step, "inventory-moved") == 0)
                fault_point(FAULT_DUMP_COMMIT_RENAMED);
}

const struct image_hooks dump_image_hooks = { .step = pass_step };

int commit(struct dump *d, struct ckpt_error *err) {
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        Img__TaskKobjIds root_ids = IMG__TASK_KOBJ_IDS__INIT;
        int r;

        /* Those of the dumping process; a task with other ones has namespaces of its own. */
        collect_namespace_ids(&root_ids);
        inventory.root_ids = &root_ids;
        inventory.has_lsmtype = true;
        inventory.lsmtype = IMG__LSMTYPE__NO_LSM;
        inventory.has_dump_uptime = true;
        inventory.dump_uptime = clock_us(CLOCK_BOOTTIME);
        r = fault_point_error(FAULT_DUMP_BEFORE_COMMIT, err);
        if (r == 0)
                r = image_set_commit(d->set, &inventory, err);
        if (r == 0)
                r = fault_point_error(FAULT_DUMP_COMMITTED, err);
        return r;
}

/* The leader last. */
static void wait_threads(struct dump_task *t) {
        for (size_t i = t->nr_threads; i-- > 0;)
                compel_wait_end(&t->threads[i].stop);
}

/* Killed processes: one, or all children of one. */
struct waiting {
        struct dump *d;
        const struct dump_task *one, *parent;
};

static bool is_waited_for(const struct waiting *w, const struct dump_task *t) {
        return w->one ? t == w->one : t->parent == w->parent;
}

/* What this tracer has of them, but for the leader of a process that several share. */
static int wait_part(void *arg, unsigned int tracer, struct ckpt_error *err __attribute__((unused))) {
        const struct waiting *w = arg;

        for (size_t i = 0; i < w->d->nr_tasks; i++) {
                struct dump_task *t = w->d->tasks[i];

                if (!is_waited_for(w, t))
                        continue;
                for (size_t j = t->nr_threads; t->spread && j-- > 1;)
                        if (tracers_of(&t->threads[j]) == tracer)
                                compel_wait_end(&t->threads[j].stop);
                if (!t->spread && t->tracer == tracer)
                        wait_threads(t);
        }
        return 0;
}

/* The tracer gets to know of each thread's end first, then the parent of the leader's. */
static void wait_ends(struct waiting *w) {
        bool shared = false;

        for (size_t i = 0; i < w->d->nr_tasks; i++)
                shared |= is_waited_for(w, w->d->tasks[i]) &&
                          (w->d->tasks[i]->spread || w->d->tasks[i]->tracer != 0);
        if (shared)
                tracers_run(w->d, wait_part, w, NULL);
        for (size_t i = 0; i < w->d->nr_tasks; i++)
                if (is_waited_for(w, w->d->tasks[i]))
                        wait_threads(w->d->tasks[i]);
}

/* One child: a single system call of the parent. */
static int reap_one(struct dump_task *parent, pid_t child) {
        const uint64_t arg[6] = { (uint64_t)child, 0, __WALL, 0, 0, 0 };
        struct compel_thread *stop = &parent->threads[0].stop;
        raddr_t insn;
        int64_t ret;
        int r;

        /* The SIGCHLD of this very end must not get in between; it has nobody to reach any more. */
        r = compel_set_sigmask(stop, ~0ULL);
        if (r == 0)
                r = compel_find_syscall_insn(stop->tid, &insn);
        return r < 0 ? r : compel_remote_syscall(stop, insn, SYS_wait4, arg, &ret, NULL);
}

/* Up to REAP_AT_ONCE children from `*next` on, in one batch of the parent. */
static int reap_batch(struct dump_task *parent, struct compel_visit *v, struct compel_thread *driver,
                      size_t *next) {
        const struct dump *d = parent->dump;
        struct compel_batch *b = compel_visit_batch(v);
        size_t i;

        compel_reset(b);
        for (i = *next; i < d->nr_tasks && b->n < REAP_AT_ONCE; i++)
                if (d->tasks[i]->parent == parent)
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

struct reaping {
        struct dump_task *parent;
        pid_t child; /* one of them */
        size_t n;
};

static int have_reaped(void *arg, unsigned int tracer __attribute__((unused)),
                       struct ckpt_error *err __attribute__((unused))) {
        const struct reaping *reap = arg;

        return reap->n == 1 ? reap_one(reap->parent, reap->child) : reap_many(reap->parent);
}

/* A pid is free as soon as the parent, which is stopped, has been made to reap it. */
static void reap_children(struct dump_task *parent) {
        struct reaping reap = { .parent = parent };
        struct dump *d = parent->dump;
        struct waiting wait = { .d = d, .parent = parent };
        int r = 0;

        for (size_t i = 0; i < d->nr_tasks; i++)
                if (d->tasks[i]->parent == parent) {
                        reap.child = d->tasks[i]->pid;
                        reap.n++;
                }
        if (reap.n == 0)
                return;
        wait_ends(&wait);
        r = tracers_run_at(&parent->threads[0], have_reaped, &reap, NULL);
        if (r < 0)
                log_debug("children of pid %d stay zombies until their new parent reaps them", parent->pid);
}

/* If ckpt dies from here on, the rest of the tree is killed all the same: half a tree is no tree. */
static int arm_guard(struct dump *d, struct kill_guard *guard, struct ckpt_error *err) {
        _cleanup_(pid_vec_done) struct pid_vec pids = { 0 };

        for (size_t i = d->nr_tasks; i-- > 0;)
                if (d->tasks[i]->nr_threads > 0 && pid_vec_push(&pids, d->tasks[i]->pid) < 0)
                        return ckpt_error_errno(err, -ENOMEM,
                                                "the checkpoint is complete, but the tree cannot be killed");
        return kill_guard_arm(pids.v, pids.n, guard, err);
}

/*
 * Children before parents, so that no zombie keeps a pid. They stand behind their parents in the list, so they have all
 * been killed, and die side by side, by the time that their parent reaps them.
 */
static int kill_tasks(struct dump *d, struct ckpt_error *err) {
        struct waiting wait = { .d = d, .one = d->tasks[0] };

        for (size_t i = d->nr_tasks; i-- > 0;) {
                struct dump_task *t = d->tasks[i];

                if (i == d->nr_tasks / 2) {
                        int r = fault_point_error(FAULT_DUMP_KILL_HALF, err);

                        if (r < 0)
                                return r;
                }
                if (t->nr_threads == 0)
                        continue;
                reap_children(t);
                if (kill(t->pid, SIGKILL) < 0 && errno != ESRCH)
                        return ckpt_error_errno(err, -errno,
                                                "the checkpoint is complete, but %s cannot be killed",
                                                dump_task_name(t));
                mem_release_killed(t);
        }
        wait_ends(&wait);
        return 0;
}

static int kill_tree(struct dump *d, struct ckpt_error *err) {
        struct kill_guard guard = KILL_GUARD_INIT;
        int r;

        r = sock_before_kill(d, err);
        if (r == 0)
                r = arm_guard(d, &guard, err);
        if (r == 0)
                r = sock_silence(d, err);
        if (r == 0)
                r = kill_tasks(d, err);
        if (r == 0)
                sock_after_kill(d);
        kill_guard_disarm(&guard);
        return r;
}

/* SIGSTOP takes effect when ptrace lets go of the first thread. */
static void stop_tree(struct dump *d) {
        for (size_t i = 0; i < d->nr_tasks; i++)
                if (d->tasks[i]->nr_threads > 0 && d->tasks[i]->state != 'T')
                        kill(d->tasks[i]->pid, SIGSTOP);
}

/* They do it by themselves, but it takes them a moment, and the user was told that they are stopped. */
static void wait_stopped(struct dump *d) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct timespec pause = { 0, 1000000 };
        struct proc_stat stat;

        for (size_t i = 0; i < d->nr_tasks; i++)
                for (unsigned int rounds = 0; d->tasks[i]->nr_threads > 0 && rounds < STOP_ROUNDS;
                     rounds++) {
                        if (proc_stat_read(&d->tasks[i]->threads[0].proc, &buf, &stat) < 0 ||
                            stat.state == 'T')
                                break;
                        nanosleep(&pause, NULL);
                }
}

int dispose(struct dump *d, struct ckpt_error *err) {
        int r;

        if (!d->opts->leave_running && !d->opts->leave_stopped)
                return kill_tree(d, err);
        r = fault_point_error(FAULT_DUMP_BEFORE_RESUME, err);
        if (d->opts->leave_stopped)
                stop_tree(d);
        sock_undo(d);
        thaw(d);
        if (d->opts->leave_stopped)
                wait_stopped(d);
        return r;
}
