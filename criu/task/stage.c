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
        if (t->tid == t->task->pid)
                return dump_task_name(t->task);
        return arena_printf(&t->task->arena, "%s, thread %d", dump_task_name(t->task), t->tid);
}

const char *restore_thread_name(const struct restore_thread *t) {
        if (t->tid == t->task->pid)
                return restore_task_name(t->task);
        return arena_printf(&t->task->arena, "%s, thread %d", restore_task_name(t->task), t->tid);
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

/* ---- dump ---- */

void task_look(struct dump_task *t) {
        for (size_t i = 0; i < nr_task_kinds; i++)
                if (task_kinds[i]->look)
                        task_kinds[i]->look(t);
}

/* Does this kind have a part in this thread? */
static bool is_dumped_by(const struct task_kind *kind, const struct dump_thread *t) {
        return kind->per_thread || t == &t->task->threads[0];
}

static void make_core(struct dump_thread *t) {
        struct arena *a = &t->task->arena;

        t->core = arena_message(a, Img__Core, img__core__init);
        t->core->mtype = IMG__CORE__MARCH__X86_64;
        t->core->thread_info = arena_message(a, Img__ThreadInfoX86, img__thread_info_x86__init);
        t->core->thread_info->gpregs = arena_message(a, Img__UserX86Regs, img__user_x86_regs__init);
        t->core->thread_info->fpregs = arena_message(a, Img__UserX86Fpregs, img__user_x86_fpregs__init);
        t->core->thread_core = arena_message(a, Img__ThreadCore, img__thread_core__init);
}

/* A leader that has exited keeps a core with the process-wide part and nothing else. */
static void make_cores(struct dump_task *t) {
        struct arena *a = &t->arena;

        for (size_t i = 0; i < t->nr_threads; i++)
                make_core(&t->threads[i]);
        if (t->leader_dead) {
                t->leader_core = arena_message(a, Img__Core, img__core__init);
                t->leader_core->mtype = IMG__CORE__MARCH__X86_64;
        } else
                t->leader_core = t->threads[0].core;
        t->leader_core->ids = t->ids;
        t->leader_core->tc = arena_message(a, Img__TaskCore, img__task_core__init);
        t->leader_core->tc->comm = arena_strdup(a, t->stat.comm);
}

static int read_thread(struct dump_thread *t, struct ckpt_error *err) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        int r;

        proc_status_done(&t->status);
        r = proc_status_read(&t->proc, &buf, &t->status);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its status", dump_thread_name(t));
        for (size_t i = 0; r == 0 && i < nr_task_kinds; i++)
                if (task_kinds[i]->read && is_dumped_by(task_kinds[i], t))
                        r = task_kinds[i]->read(t, err);
        return r;
}

/* compel wants the threads of a process side by side: copies, which go back when the visit ends. */
struct visiting {
        struct dump_task *task;
        struct compel_visits *visits; /* of the group */
        struct compel_thread *stops;
        struct compel_visit *visit;
        void **asked;
        bool going; /* there is a step to take */
        bool later; /* when nobody else is visited */
};

/* Processes that are visited side by side. The first error ends it all; what is going on then is brought to its end. */
struct group {
        struct visiting v[TASK_GROUP_MAX];
        size_t n;
        struct compel_visits *visits;
        int result;
        struct ckpt_error *err;
};

static void group_done(struct group *g) {
        for (size_t i = 0; i < g->n; i++) {
                struct visiting *v = &g->v[i];

                compel_visit_free(&v->visit);
                for (size_t j = 0; v->stops && j < v->task->nr_threads; j++)
                        v->task->threads[j].stop = v->stops[j];
                free(v->stops);
        }
        compel_visits_free(&g->visits);
}

/* Take a step of each that has one, or has not failed yet, until nobody has any more. */
static void go_on(struct group *g) {
        bool going = true;

        while (going) {
                going = false;
                for (size_t i = 0; i < g->n; i++) {
                        struct visiting *v = &g->v[i];
                        int r;

                        if (!v->going)
                                continue;
                        r = compel_visit_go(v->visit, g->result < 0 ? NULL : g->err);
                        v->going = r > 0;
                        going |= v->going;
                        if (r < 0 && g->result == 0)
                                g->result = r;
                }
        }
}

/* A step of every visit, and then the steps that it has started. */
static void for_each_visit(struct group *g, int (*fn)(struct visiting *v, struct ckpt_error *err)) {
        for (size_t i = 0; g->result == 0 && i < g->n; i++)
                if (!g->v[i].later) {
                        int r = fn(&g->v[i], g->err);

                        g->v[i].going = r > 0;
                        g->result = MIN(r, 0);
                }
        go_on(g);
}

static void prepare_visit(struct visiting *v) {
        ckpt_assert(v->task->nr_threads > 0);
        v->stops = calloc(v->task->nr_threads + 1, sizeof(*v->stops));
        ckpt_assert(v->stops);
        for (size_t i = 0; i < v->task->nr_threads; i++)
                v->stops[i] = v->task->threads[i].stop;
        v->asked = arena_new_array(&v->task->arena, void *, nr_task_kinds);
}

static int begin_result(struct visiting *v, int r, struct ckpt_error *err) {
        if (r == -EAGAIN)
                return ckpt_error(
                        err, r,
                        "%s has not left yet what a ckpt that was killed had it do; it does that by itself as "
                        "soon as it runs; the tree runs on",
                        dump_task_name(v->task));
        return r;
}

static int start_visit(struct visiting *v, struct ckpt_error *err) {
        int r;

        prepare_visit(v);
        r = compel_visit_start(v->visits, v->stops, v->task->nr_threads, &v->visit, err);
        if (r != -EBUSY)
                return begin_result(v, r, err);
        v->later = true;
        free(v->stops);
        v->stops = NULL;
        return 0;
}

static int begin_visit(struct visiting *v, struct ckpt_error *err) {
        prepare_visit(v);
        return begin_result(v, compel_visit_begin(v->stops, v->task->nr_threads, &v->visit, err), err);
}

/* What the thread is to be asked, in the batch. */
static void fill_batch(struct visiting *v, size_t index) {
        struct compel_batch *b = compel_visit_batch(v->visit);
        struct dump_thread *t = &v->task->threads[index];

        compel_reset(b);
        for (size_t i = 0; i < nr_task_kinds; i++)
                if (task_kinds[i]->ask && is_dumped_by(task_kinds[i], t))
                        v->asked[i] = task_kinds[i]->ask(t, b);
}

/* 1: once more, please. */
static int take_answers(struct visiting *v, size_t index, struct ckpt_error *err) {
        struct compel_batch *b = compel_visit_batch(v->visit);
        struct dump_thread *t = &v->task->threads[index];
        int r = 0;

        t->stop = v->stops[index];
        for (size_t i = 0; r == 0 && i < nr_task_kinds; i++)
                if (task_kinds[i]->answer && is_dumped_by(task_kinds[i], t))
                        r = task_kinds[i]->answer(t, b, v->asked[i], err);
        return r;
}

/* Passages through the agent, until one has brought all. `r`: what the last one has brought. */
static int visit_thread(struct visiting *v, size_t index, int r, struct ckpt_error *err) {
        for (int i = 0; r > 0 && i < PASSES_MAX; i++) {
                fill_batch(v, index);
                r = compel_visit_run(v->visit, &v->stops[index], err);
                if (r == 0)
                        r = take_answers(v, index, err);
        }
        if (r > 0)
                return ckpt_error(err, -EBUSY,
                                  "%s: its state changes while it is being read; the tree runs on",
                                  dump_thread_name(&v->task->threads[index]));
        return r;
}

/* The first thread, the driver, stays inside until the end. */
static int start_driver(struct visiting *v, struct ckpt_error *err) {
        int r;

        r = fault_point_error(FAULT_DUMP_INJECT_MMAP, err);
        if (r < 0)
                return r;
        fill_batch(v, 0);
        return compel_visit_run_start(v->visit, err);
}

/* The other threads go through one after the other. */
static int visit_threads(struct visiting *v, struct ckpt_error *err) {
        int r;

        r = visit_thread(v, 0, take_answers(v, 0, err), err);
        if (r == 0)
                r = fault_point_error(FAULT_DUMP_IN_AGENT, err);
        for (size_t i = 1; r == 0 && i < v->task->nr_threads; i++)
                r = visit_thread(v, i, 1, err);
        return r;
}

static int end_visit(struct visiting *v, struct ckpt_error *err) {
        return compel_visit_end_start(v->visit, err);
}

static int visit_left(struct visiting *v __attribute__((unused)), struct ckpt_error *err) {
        return fault_point_error(FAULT_DUMP_AGENT_LEFT, err);
}

static void visit_group(struct group *g, bool alone) {
        for_each_visit(g, alone ? begin_visit : start_visit);
        for_each_visit(g, start_driver);
        for_each_visit(g, visit_threads);
        for_each_visit(g, end_visit);
        for_each_visit(g, visit_left);
}

static int visit_alone(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_(group_done) struct group g = { .v[0].task = t, .n = 1, .err = err };

        visit_group(&g, true);
        return g.result;
}

static int visit(struct dump_task **tasks, size_t n, struct ckpt_error *err) {
        _cleanup_(group_done) struct group g = { .n = n, .err = err };

        ckpt_assert(compel_visits_new(NULL, &g.visits) == 0);
        for (size_t i = 0; i < n; i++) {
                g.v[i].task = tasks[i];
                g.v[i].visits = g.visits;
        }
        visit_group(&g, false);
        for (size_t i = 0; g.result == 0 && i < n; i++)
                if (g.v[i].later) {
                        g.v[i].later = false;
                        g.result = visit_alone(tasks[i], err);
                }
        return g.result;
}

int task_collect(struct dump_task **tasks, size_t n, struct ckpt_error *err) {
        int r = 0;

        ckpt_assert(n > 0 && n <= TASK_GROUP_MAX);
        for (size_t i = 0; r == 0 && i < n; i++) {
                ckpt_assert(tasks[i]->nr_threads > 0);
                make_cores(tasks[i]);
                for (size_t j = 0; r == 0 && j < tasks[i]->nr_threads; j++)
                        r = read_thread(&tasks[i]->threads[j], err);
        }
        if (r < 0)
                return r;
        return n == 1 ? visit_alone(tasks[0], err) : visit(tasks, n, err);
}

int task_collect_aside(struct dump_task *t, struct ckpt_error *err) {
        int r = 0;

        for (size_t k = 0; k < nr_task_kinds; k++)
                for (size_t i = 0; r == 0 && task_kinds[k]->aside && i < t->nr_threads; i++)
                        if (is_dumped_by(task_kinds[k], &t->threads[i]))
                                r = task_kinds[k]->aside(&t->threads[i], err);
        return r;
}

bool task_collects_alone(const struct dump_task *t) {
        return t->threads[0].stop.tracer != NULL;
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
