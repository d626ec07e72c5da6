/* SPDX-License-Identifier: GPL-2.0-only */
/* The kinds, one after the other, for the stages of dump and restore. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/fault.h"
#include "mem/mem.h"
#include "task/internal.h"

enum { PASSES_MAX = 100 };

/* ---- helpers of the kinds ---- */

const char *dump_thread_name(const struct dump_thread *t) {
        struct arena *a = t->arena;

        if (t->tid == t->task->pid)
                return arena_printf(a, "pid %d (%s)", t->task->pid, t->task->stat.comm);
        return arena_printf(a, "pid %d (%s), thread %d", t->task->pid, t->task->stat.comm, t->tid);
}

const char *restore_thread_name(const struct restore_thread *t) {
        const char *name;

        if (t->tid == t->task->pid)
                return restore_task_name(t->task);
        name = restore_task_name(t->task);
        pthread_mutex_lock(&t->task->restore->naming);
        name = arena_printf(&t->task->arena, "%s, thread %d", name, t->tid);
        pthread_mutex_unlock(&t->task->restore->naming);
        return name;
}

int task_write_proc(pid_t pid, const char *name, const char *value) {
        _cleanup_close_ int fd = -EBADF;
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

/* ---- restore ---- */

static size_t first_living(const struct restore_task *t) {
        return t->leader_dead ? 1 : 0;
}

static int check_parts(const struct restore_thread *t, struct ckpt_error *err) {
        const Img__Core *core = t->core;

        if (core->thread_core && core->thread_info && core->thread_info->gpregs && core->thread_info->fpregs)
                return 0;
        return ckpt_error(err, -EBADMSG, "core-%d.img lacks the registers or attributes of the thread",
                          t->tid);
}

int task_check(struct restore_task *t, struct ckpt_error *err) {
        size_t first = first_living(t);
        int r = 0;

        for (size_t i = first; r == 0 && i < t->nr_threads; i++)
                r = check_parts(&t->threads[i], err);
        for (size_t k = 0; r == 0 && k < nr_task_kinds; k++) {
                const struct task_kind *kind = task_kinds[k];

                for (size_t i = first;
                     r == 0 && kind->check && i < (kind->per_thread ? t->nr_threads : first + 1); i++)
                        r = kind->check(&t->threads[i], err);
        }
        return r;
}

/* Calls fn for each kind of the phase and each thread that it has a part in. */
static int for_phase(struct restore_task *t, enum task_phase phase,
                     int (*fn)(const struct task_kind *kind, struct restore_thread *t,
                               struct ckpt_error *err),
                     struct ckpt_error *err) {
        size_t first = first_living(t);
        int r = 0;

        for (size_t k = 0; r == 0 && k < nr_task_kinds; k++) {
                const struct task_kind *kind = task_kinds[k];

                if (kind->phase != phase)
                        continue;
                for (size_t i = first; r == 0 && i < (kind->per_thread ? t->nr_threads : first + 1); i++)
                        r = fn(kind, &t->threads[i], err);
        }
        return r;
}

static int fill(const struct task_kind *kind, struct restore_thread *t, struct ckpt_error *err) {
        if (!kind->restore || (t->made && kind->per_thread))
                return 0;
        return kind->restore(t, &t->lane, err);
}

static int do_outside(const struct task_kind *kind, struct restore_thread *t, struct ckpt_error *err) {
        return kind->outside ? kind->outside(t, err) : 0;
}

/* As compel_run() begins. */
static int start_lane(struct compel_batch *b, struct ckpt_error *err) {
        if (b->error < 0 && ckpt_error_is_set(&b->failure))
                return ckpt_error(err, b->error, "%s", ckpt_error_message(&b->failure));
        if (b->error < 0)
                return ckpt_error_errno(err, b->error, "pid %d: cannot hand over its system calls", b->tid);
        if (b->n > 0)
                compel_start(b);
        return 0;
}

static int start_lanes(struct restore_task *t, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < t->nr_threads; i++)
                r = start_lane(&t->threads[i].lane, err);
        return r;
}

/* Everything that was started is waited for, also after an error; the first one counts. */
static int wait_lanes(struct restore_task *t, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; i < t->nr_threads; i++) {
                struct compel_batch *b = &t->threads[i].lane;
                int r;

                if (!b->started)
                        continue;
                r = compel_wait(b, err);
                if (r == 0)
                        compel_reset(b);
                else if (ret == 0)
                        ret = r;
        }
        return ret;
}

/*
 * Phases that follow each other in one batch of each thread; between two rounds the threads of a process wait for each
 * other.
 */
static const struct {
        enum task_phase first, last;
} rounds[] = {
        { TASK_PHASE_PROCESS, TASK_PHASE_PROCESS },
        { TASK_PHASE_THREAD, TASK_PHASE_CREDENTIALS },
        { TASK_PHASE_LAST, TASK_PHASE_LAST },
};

/*
 * What is late for the sake of others is late for all: once the kernel knows its robust futexes, a task that dies in a
 * restore that fails would mark them in memory that it shares with strangers.
 */
static size_t rounds_at_once(const struct restore_task *t, size_t round) {
        if (t->nr_threads > 1)
                return 1;
        if (mem_outlives(t))
                return round == 0 ? ELEMENTSOF(rounds) - 1 : round == ELEMENTSOF(rounds) - 1 ? 1 : 0;
        return round == 0 ? ELEMENTSOF(rounds) : 0;
}

static int fill_round(struct restore_task *t, size_t round, struct ckpt_error *err) {
        size_t n = rounds_at_once(t, round);
        int r = 0;

        if (n == 0)
                return 0;
        for (int phase = rounds[round].first; r == 0 && phase <= (int)rounds[round + n - 1].last; phase++)
                r = for_phase(t, (enum task_phase)phase, fill, err);
        return r < 0 ? r : start_lanes(t, err);
}

/* Each works from the moment that its batch is filled. */
static int run_round(struct restore *r, size_t round, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_LIVE)
                        ret = fill_round(r->tasks[i], round, err);
        for (size_t i = 0; i < r->nr_tasks; i++) {
                int waited = r->tasks[i]->kind == RESTORE_TASK_LIVE ? wait_lanes(r->tasks[i], err) : 0;

                if (ret == 0)
                        ret = waited;
        }
        return ret;
}

int task_restore(struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t round = 0; ret == 0 && round < ELEMENTSOF(rounds); round++)
                ret = run_round(r, round, err);
        for (int phase = 0; ret == 0 && phase < TASK_PHASE_MAX; phase++)
                for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                        if (r->tasks[i]->kind == RESTORE_TASK_LIVE)
                                ret = for_phase(r->tasks[i], (enum task_phase)phase, do_outside, err);
        return ret;
}

/*
 * Signals that are pending have to wait for the signal actions of the process, seccomp for everything, and robust
 * futexes for the end, where strangers share them.
 */
bool task_fills_unborn(const struct restore_thread *t) {
        const Img__SignalQueue *pending = t->core->thread_core->signals_p;

        return t != &t->task->threads[0] && !t->task->restore->seccomp && !mem_outlives(t->task) &&
               (!pending || pending->n_signals == 0);
}

int task_fill_unborn(struct restore_thread *t, struct ckpt_error *err) {
        int r = 0;

        ckpt_assert(t->lane.n == 0);
        for (size_t k = 0; r == 0 && k < nr_task_kinds; k++)
                if (task_kinds[k]->per_thread && task_kinds[k]->restore)
                        r = task_kinds[k]->restore(t, &t->lane, err);
        if (r == 0)
                r = start_lane(&t->lane, err);
        t->made = r == 0;
        return r;
}

int task_wait_born(struct restore_thread *t, struct ckpt_error *err) {
        int r;

        if (!t->lane.started)
                return 0;
        r = compel_wait(&t->lane, err);
        if (r == 0)
                compel_reset(&t->lane);
        return r;
}
