/* SPDX-License-Identifier: GPL-2.0-only */
/* Stopping the tree and letting it go. */
#include <errno.h>
#include <linux/kcmp.h>
#include <linux/ptrace.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "dump/blockers.h"
#include "dump/facts.h"
#include "dump/stages.h"
#include "dump/tracers.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "log.h"
#include "macro.h"
#include "proc/stat.h"
#include "sock/sock.h"
#include "task/hidden.h"

enum {
        STOPPED_TIMEOUT_MS = 5000,
        STOP_TIMEOUT_MS =
                200, /* how long a thread in an uninterruptible sleep is waited for before all are let go */
        RETRY_PAUSE_MS = 10,
        OUTLIVED_THREADS_MAX = 64,
};

static int read_status(struct dump_thread *t, struct proc_status *ret) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const struct proc_dir *dir;
        int r = dump_thread_proc(t, &dir);

        return r < 0 ? r : proc_status_read(dir, &buf, ret);
}

/* Somebody else traces the thread, or it is just dying. Other threads of the process may be stopped at the same time. */
static int cannot_seize(struct dump_thread *t, int r, struct ckpt_error *err) {
        _cleanup_proc_status_ struct proc_status status = { 0 };

        if (r == -ESRCH || read_status(t, &status) < 0 || status.state == 'Z' || status.state == 'X')
                return 0;
        if (status.tracer_pid > 0) {
                ckpt_error(
                        err, -EBUSY,
                        "pid %d (%s) is traced by pid %d, and a task has one tracer at most; the tree runs on",
                        t->task->pid, t->task->stat.comm, status.tracer_pid);
                return ckpt_error_hint(err, "End the debugger or strace first");
        }
        ckpt_error_errno(err, r, "pid %d (%s): cannot stop its thread %d; the tree runs on", t->task->pid,
                         t->task->stat.comm, t->tid);
        return ckpt_error_hint(err, "ckpt needs CAP_SYS_PTRACE over the tree: run it as root");
}

static void remove_thread(struct dump_task *t, size_t i) {
        proc_close(&t->threads[i].own_proc);
        proc_status_done(&t->threads[i].status);
        memmove(&t->threads[i], &t->threads[i + 1], (t->nr_threads - i - 1) * sizeof(*t->threads));
        t->nr_threads--;
}

static bool needs_tracer(const struct dump_task *t) {
        return t->filtered || t->dump->trace_all;
}

static struct compel_tracer *tracer_of(const struct dump_task *t) {
        return needs_tracer(t) ? t->dump->tracer : NULL;
}

/* An attempt that was given up left it attached, because it could not be stopped: its stop is still asked for. */
static bool is_ours_already(struct dump_thread *th) {
        _cleanup_proc_status_ struct proc_status status = { 0 };
        struct compel_tracer *tracer = tracer_of(th->task);

        if (read_status(th, &status) < 0 || status.state == 'Z' || status.state == 'X' ||
            status.tracer_pid != compel_tracer_pid(tracer))
                return false;
        th->stop = (struct compel_thread){ .tid = th->tid, .tracer = tracer, .seized = true };
        return true;
}

static int seize(struct dump_thread *th) {
        struct compel_tracer *tracer = tracer_of(th->task);

        return compel_seize_by(tracer, &th->stop, th->tid, tracer ? PTRACE_O_SUSPEND_SECCOMP : 0);
}

/* Ask the threads from number `first` on that are this tracer's to stop. */
static int seize_threads(struct dump_task *t, size_t first, unsigned int tracer, struct ckpt_error *err) {
        int r = 0;

        if (needs_tracer(t) && !t->dump->tracer)
                r = compel_tracer_start(&t->dump->tracer, err);
        for (size_t i = first; r == 0 && i < t->nr_threads; i++) {
                struct dump_thread *th = &t->threads[i];

                if (tracers_of(th) != tracer)
                        continue;
                r = seize(th);
                if (r == 0 || is_ours_already(th))
                        r = fault_point_error(FAULT_DUMP_SEIZE_EACH, err);
                else {
                        r = cannot_seize(th, r, err);
                        th->gone = true;
                }
        }
        return r;
}

static void remove_gone(struct dump_task *t, size_t first) {
        for (size_t i = t->nr_threads; i-- > first;)
                if (t->threads[i].gone)
                        remove_thread(t, i);
}

static bool sleeps_uninterruptibly(struct dump_thread *th) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const struct proc_dir *dir;
        struct proc_stat stat;

        return dump_thread_proc(th, &dir) == 0 && proc_stat_read(dir, &buf, &stat) == 0 && stat.state == 'D';
}

/* Only a sleep that nothing interrupts is given up; a thread that merely gets no CPU will stop. */
static int wait_thread(struct dump_thread *th) {
        int r;

        do
                r = compel_wait_stop(&th->stop, STOP_TIMEOUT_MS);
        while (r == -ETIMEDOUT && !sleeps_uninterruptibly(th));
        return r;
}

static int wait_threads(struct dump_task *t, size_t first, unsigned int tracer) {
        int r = 0;

        for (size_t i = first; r == 0 && i < t->nr_threads; i++) {
                struct dump_thread *th = &t->threads[i];

                if (tracers_of(th) != tracer || th->gone)
                        continue;
                r = wait_thread(th);
                th->gone = r == -ESRCH;
                r = th->gone ? 0 : r;
        }
        return r;
}

/* Threads that have not been asked to stop yet are asked, from number *ret_first on. Returns how many. */
static int seize_new(struct dump_task *t, size_t *ret_first, struct ckpt_error *err) {
        int r;

        *ret_first = t->nr_threads;
        r = tree_refresh_threads(t, err);
        if (r > 0)
                r = seize_threads(t, *ret_first, t->tracer, err);
        remove_gone(t, *ret_first);
        return r < 0 ? r : (int)(t->nr_threads - *ret_first);
}

/* Wait for those that have been asked, from number `first` on, and for those that they have made meanwhile. */
static int wait_task(struct dump_task *t, size_t first, struct ckpt_error *err) {
        int r;

        do {
                r = wait_threads(t, first, t->tracer);
                remove_gone(t, first);
                if (r == 0)
                        r = seize_new(t, &first, err);
        } while (r > 0);
        t->frozen = r == 0;
        return r;
}

static int cannot_freeze(const struct dump_task *t, int r, struct ckpt_error *err) {
        if (r == -ETIMEDOUT)
                return ckpt_error(
                        err, r,
                        "pid %d (%s) sleeps in the kernel where nothing can interrupt it, and cannot "
                        "be stopped; the tree runs on",
                        t->pid, t->stat.comm);
        return ckpt_error_errno(err, r, "pid %d (%s): cannot stop it; the tree runs on", t->pid,
                                t->stat.comm);
}

/* ---- one process in the hands of several tracers ---- */

struct spread_freezing {
        struct dump_task *task;
        size_t first;
};

static int freeze_spread_part(void *arg, unsigned int tracer, struct ckpt_error *err) {
        const struct spread_freezing *f = arg;
        int r;

        r = seize_threads(f->task, f->first, tracer, err);
        if (r == 0)
                r = wait_threads(f->task, f->first, tracer);
        return r < 0 ? cannot_freeze(f->task, r, err) : 0;
}

static int freeze_spread(struct dump_task *t, struct ckpt_error *err) {
        struct spread_freezing f = { .task = t };
        int r;

        do {
                f.first = t->nr_threads;
                r = tree_refresh_threads(t, err);
                if (r > 0) {
                        int r2 = tracers_run(t->dump, freeze_spread_part, &f, err);

                        remove_gone(t, f.first);
                        r = r2 < 0 ? r2 : r;
                }
        } while (r > 0);
        t->frozen = r == 0;
        return r;
}

/* ---- processes ---- */

/* Processes that are stopped together: none of them is the parent of another. */
struct freezing {
        struct dump_task **tasks;
        size_t n;
        size_t *first;
};

static bool is_part(const struct dump_task *t, unsigned int tracer) {
        return !t->spread && t->tracer == tracer && !t->frozen;
}

/* All are asked to stop before the first is waited for. */
static int freeze_part(void *arg, unsigned int tracer, struct ckpt_error *err) {
        const struct freezing *f = arg;
        int r;

        for (size_t i = 0; i < f->n; i++) {
                r = is_part(f->tasks[i], tracer) ? seize_new(f->tasks[i], &f->first[i], err) : 0;
                if (r < 0)
                        return cannot_freeze(f->tasks[i], r, err);
        }
        for (size_t i = 0; i < f->n; i++) {
                r = is_part(f->tasks[i], tracer) ? wait_task(f->tasks[i], f->first[i], err) : 0;
                if (r < 0)
                        return cannot_freeze(f->tasks[i], r, err);
        }
        return 0;
}

/* Has anybody but the main thread a part in them? */
static bool is_shared(const struct freezing *f) {
        for (size_t i = 0; i < f->n; i++)
                if (f->tasks[i]->tracer != 0)
                        return true;
        return false;
}

/*
 * Processes from number `from` on, up to one whose parent is among them: in vfork(2), that stops only when its child has
 * gone on. *ret_end: the number after the last.
 */
static int freeze_some(struct dump *d, size_t from, size_t *first, size_t *ret_end, struct ckpt_error *err) {
        struct freezing f = { .tasks = d->tasks + from, .first = first };
        int r;

        for (; from + f.n < d->nr_tasks; f.n++) {
                const struct dump_task *t = d->tasks[from + f.n];

                if (!t->frozen && f.n > 0 && t->parent && !t->parent->frozen)
                        break;
        }
        tracers_assign(d, f.tasks, f.n);
        r = is_shared(&f) ? tracers_run(d, freeze_part, &f, err) : freeze_part(&f, 0, err);
        for (size_t i = 0; r == 0 && i < f.n; i++)
                if (f.tasks[i]->spread && !f.tasks[i]->frozen)
                        r = freeze_spread(f.tasks[i], err);
        *ret_end = from + f.n;
        return r;
}

static int freeze_tasks(struct dump *d, struct ckpt_error *err) {
        _cleanup_free_ size_t *first = reallocarray(NULL, d->nr_tasks + 1, sizeof(*first));
        size_t at = 0;
        int r;

        ckpt_assert(first);
        r = tracers_start(d, err);
        while (r == 0 && at < d->nr_tasks)
                r = freeze_some(d, at, first, &at, err);
        return r;
}

/*
 * A child that has not called exec since vfork(2) uses its parent's memory, and the parent sleeps until then:
 * neither can be dumped, but it lasts only moments. 1: they share it.
 */
static int shares_memory(const struct dump_task *t) {
        if (!t->parent || t->nr_threads == 0 || t->parent->nr_threads == 0)
                return 0;
        return syscall(SYS_kcmp, t->threads[0].tid, t->parent->threads[0].tid, KCMP_VM, 0, 0) == 0;
}

static int check_vfork(struct dump *d, struct ckpt_error *err) {
        for (size_t i = 1; i < d->nr_tasks; i++)
                if (shares_memory(d->tasks[i]))
                        return ckpt_error(
                                err, -EAGAIN,
                                "%s shares its memory with its parent (vfork or CLONE_VM), which is not "
                                "supported yet; the tree runs on",
                                dump_task_name(d->tasks[i]));
        return 0;
}

/* One attempt. -ETIMEDOUT, -EAGAIN: try again. */
static int freeze_once(struct dump *d, struct ckpt_error *err) {
        int r;

        for (;;) {
                r = freeze_tasks(d, err);
                if (r == 0)
                        r = tree_refresh(d, err);
                if (r < 0)
                        return r;
                if (r == 0)
                        return check_vfork(d, err);
                log_info("%d processes appeared while the tree was being stopped", r);
                r = look_tasks(d, err);
                if (r < 0)
                        return r;
        }
}

/* It stops by itself, but only when it next gets a CPU; who asks before that would be told that it runs. */
static void wait_stopped(const struct dump_task *t) {
        const struct proc_dir *dir;

        for (size_t i = 0; i < t->nr_threads; i++)
                if (dump_thread_proc(&t->threads[i], &dir) == 0 &&
                    proc_wait_stopped(dir, STOPPED_TIMEOUT_MS) < 0) {
                        log_warn("pid %d has not stopped again yet", t->pid);
                        return;
                }
}

void thaw(struct dump *d) {
        tracers_release(d, d->tasks, d->nr_tasks);
        for (size_t i = 0; i < d->nr_tasks; i++)
                if (d->tasks[i]->state == 'T')
                        wait_stopped(d->tasks[i]);
}

/* Forget what the attempt found out; threads are read anew by the next one. */
static void let_go(struct dump *d) {
        struct timespec pause = { 0, RETRY_PAUSE_MS * 1000000L };

        thaw(d);
        for (size_t i = 0; i < d->nr_tasks; i++) {
                d->tasks[i]->frozen = false;
                while (d->tasks[i]->nr_threads > 0)
                        remove_thread(d->tasks[i], d->tasks[i]->nr_threads - 1);
        }
        nanosleep(&pause, NULL);
}

static void note_states(struct dump *d) {
        for (size_t i = 0; i < d->nr_tasks; i++) {
                struct dump_task *t = d->tasks[i];

                t->leader_dead = t->nr_threads > 0 && t->threads[0].tid != t->pid;
                if (t->nr_threads == 0)
                        t->state = 'Z';
                else if (t->threads[0].stop.stop_signal)
                        t->state = 'T';
                else
                        t->state = 'R';
        }
}

/*
 * Sockets that are being read give errors to programs. The death of ckpt lets these run, and who reads the sockets may
 * be late; a tracer that outlives ckpt waits for that. Each thing that is asked of it takes longer, so that large trees
 * are left to the haste of the other.
 */
static void choose_tracer(struct dump *d) {
        size_t n = 0;

        if (!sock_will_read(d) || !kernel_has(&d->kernel, KERNEL_SECCOMP_SUSPEND))
                return;
        for (size_t i = 0; i < d->nr_tasks; i++)
                n += d->tasks[i]->stat.num_threads;
        if (n <= OUTLIVED_THREADS_MAX)
                d->trace_all = true;
}

int freeze(struct dump *d, struct ckpt_error *err) {
        uint64_t deadline = clock_us(CLOCK_MONOTONIC) / 1000 + 1000 * (uint64_t)d->opts->timeout;
        int r;

        choose_tracer(d);
        for (;;) {
                _cleanup_error_ struct ckpt_error attempt = CKPT_ERROR_INIT;

                r = freeze_once(d, &attempt);
                if (r == 0)
                        break;
                if ((r != -ETIMEDOUT && r != -EAGAIN) || clock_us(CLOCK_MONOTONIC) / 1000 >= deadline) {
                        ckpt_error_move(err, &attempt);
                        return r;
                }
                log_debug("%s; trying again", ckpt_error_message(&attempt));
                let_go(d);
        }
        if (d->tasks[0]->nr_threads == 0)
                return ckpt_error(err, -ESRCH, "pid %d is a zombie: it has exited and waits for its parent",
                                  d->tasks[0]->pid);
        note_states(d);
        dump_facts_freeze(d);
        if (blockers_count(d->blockers) > 0) {
                r = look_again(d, err);
                if (r < 0)
                        return r;
        } else
                hidden_look_tree(d);
        r = look_namespaces_again(d, err);
        if (r < 0)
                return r;
        look_sessions(d);
        r = blockers_to_retry(d->blockers, err);
        if (r < 0)
                return r;
        return fault_point_error(FAULT_DUMP_FROZEN, err);
}
