/* SPDX-License-Identifier: GPL-2.0-only */
/* The kinds, one after the other, for the stages of a dump: what is read from outside, and by visits. */
#include <errno.h>
#include <stdlib.h>

#include "dump/tracers.h"
#include "fd/fd.h"
#include "lib/fault.h"
#include "task/facts.h"
#include "task/internal.h"

/* Of one thread: enough to ask about each of a million areas, some hundreds at a time. */
enum { PASSES_MAX = 10000 };

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
        struct arena *a = t->arena;

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

        for (size_t i = 0; i < t->nr_threads; i++) {
                t->threads[i].arena = a;
                make_core(&t->threads[i]);
        }
        if (t->leader_dead) {
                t->leader_core = arena_message(a, Img__Core, img__core__init);
                t->leader_core->mtype = IMG__CORE__MARCH__X86_64;
        } else
                t->leader_core = t->threads[0].core;
        t->leader_core->ids = t->ids;
        t->leader_core->tc = arena_message(a, Img__TaskCore, img__task_core__init);
        t->leader_core->tc->comm = arena_strdup(a, t->stat.comm);
}

/* `known`: whose status has been read, by this tracer. */
static int read_status(struct dump_thread *t, struct facts_known *known, struct ckpt_error *err) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const struct proc_dir *dir;
        int r;

        proc_status_done(&t->status);
        if (task_facts_infer_status(known, t))
                return 0;
        r = dump_thread_proc(t, &dir);
        if (r == 0)
                r = proc_status_read(dir, &buf, &t->status);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its status", dump_thread_name(t));
        return task_facts_status_read(known, t, err);
}

static int read_thread(struct dump_thread *t, struct facts_known *known, struct ckpt_error *err) {
        int r = read_status(t, known, err);

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
        void **asked;             /* of the driver, then of the guests that go one after the other */
        struct facts_known known; /* likewise */
        bool going;               /* there is a step to take */
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
                if (!g->v[i].task->visit_later) {
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
        v->task->visit_later = true;
        free(v->stops);
        v->stops = NULL;
        return 0;
}

static int begin_visit(struct visiting *v, struct ckpt_error *err) {
        unsigned int guests = v->task->spread ? tracers_count(v->task->dump) : 1;

        prepare_visit(v);
        return begin_result(
                v, compel_visit_begin_many(v->stops, v->task->nr_threads, guests, &v->visit, err), err);
}

/* What the thread is to be asked, in the batch. */
static void fill_batch(struct visiting *v, size_t index, struct compel_batch *b, void **asked) {
        struct dump_thread *t = &v->task->threads[index];

        compel_reset(b);
        for (size_t i = 0; i < nr_task_kinds; i++)
                if (task_kinds[i]->ask && is_dumped_by(task_kinds[i], t))
                        asked[i] = task_kinds[i]->ask(t, b);
}

/* 1: once more, please. */
static int take_answers(struct visiting *v, size_t index, struct compel_batch *b, void **asked,
                        struct ckpt_error *err) {
        struct dump_thread *t = &v->task->threads[index];
        int r;

        t->stop = v->stops[index];
        r = fault_point_error(FAULT_DUMP_ANSWERED, err);
        for (size_t i = 0; r == 0 && i < nr_task_kinds; i++)
                if (task_kinds[i]->answer && is_dumped_by(task_kinds[i], t))
                        r = task_kinds[i]->answer(t, b, asked[i], err);
        return r;
}

/* The first thread, the driver, stays inside until the end. */
static int start_driver(struct visiting *v, struct ckpt_error *err) {
        int r;

        r = fault_point_error(FAULT_DUMP_INJECT_MMAP, err);
        if (r < 0)
                return r;
        fill_batch(v, 0, compel_visit_batch(v->visit), v->asked);
        return compel_visit_run_start(v->visit, err);
}

/* All threads have the same descriptors. */
static int ask_about_descriptors(struct visiting *v, struct ckpt_error *err) {
        struct compel_batch *b = compel_visit_batch(v->visit);
        int r = 0;

        for (compel_reset(b); r == 0 && fd_ask(v->task, b); compel_reset(b)) {
                r = compel_visit_run(v->visit, &v->stops[0], err);
                if (r == 0)
                        fd_answer(v->task, b);
        }
        return r;
}

/* The first thread is the driver, the others go as `guest`. 1: once more, please. */
static int pass(struct visiting *v, unsigned int guest, size_t index, void **asked, struct ckpt_error *err) {
        struct compel_batch *b = compel_visit_guest_batch(v->visit, guest);
        int r;

        fill_batch(v, index, b, asked);
        r = index > 0 ? compel_visit_run_guest(v->visit, guest, &v->stops[index], err)
                      : compel_visit_run(v->visit, &v->stops[0], err);
        return r < 0 ? r : take_answers(v, index, b, asked, err);
}

/* As long as `r`, and what comes of each pass, asks for one more. Only what changes meanwhile may go on for ever. */
static int pass_on(struct visiting *v, unsigned int guest, size_t index, void **asked, int r,
                   struct ckpt_error *err) {
        for (int changes = 0; r > 0 && changes < PASSES_MAX;) {
                changes += r != TASK_ANSWER_MORE;
                r = pass(v, guest, index, asked, err);
        }
        if (r > 0)
                return ckpt_error(err, -EBUSY,
                                  "%s: its state changes while it is being read; the tree runs on",
                                  dump_thread_name(&v->task->threads[index]));
        return r;
}

/* It has been through the agent once. */
static int drive(struct visiting *v, struct ckpt_error *err) {
        int r = take_answers(v, 0, compel_visit_batch(v->visit), v->asked, err);

        r = pass_on(v, 0, 0, v->asked, r, err);
        if (r == 0)
                r = task_facts_visited(&v->known, &v->task->threads[0], err);
        if (r == 0)
                r = ask_about_descriptors(v, err);
        return r < 0 ? r : fault_point_error(FAULT_DUMP_IN_AGENT, err);
}

/* What need not be asked is found out all the same. */
static int infer(struct dump_thread *t, const struct dump_thread *like, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < nr_task_kinds; i++) {
                const struct task_kind *kind = task_kinds[i];

                if (!is_dumped_by(kind, t))
                        continue;
                if (kind->ask)
                        kind->infer(t, like, task_fact_of(t));
                else if (kind->answer)
                        r = kind->answer(t, NULL, NULL, err);
        }
        return r;
}

static int visit_guest(struct visiting *v, unsigned int guest, size_t index, struct facts_known *known,
                       void **asked, struct ckpt_error *err) {
        struct dump_thread *t = &v->task->threads[index];
        const struct dump_thread *like = task_facts_like(known, t);
        int r;

        /* A thread that cannot be visited does not get by without it. */
        if (like && !compel_unenterable(&v->stops[index]))
                return infer(t, like, err);
        r = pass_on(v, guest, index, asked, 1, err);
        return r < 0 ? r : task_facts_visited(known, t, err);
}

/* The other threads go through one after the other. */
static int visit_guests(struct visiting *v, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 1; r == 0 && i < v->task->nr_threads; i++)
                r = visit_guest(v, 0, i, &v->known, v->asked, err);
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
        for_each_visit(g, drive);
        for_each_visit(g, visit_guests);
        for_each_visit(g, end_visit);
        for_each_visit(g, visit_left);
}

int task_visit_alone(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_(group_done) struct group g = { .v[0].task = t, .n = 1, .err = err };

        t->visit_later = false;
        visit_group(&g, true);
        return g.result;
}

static int visit(struct dump_task **tasks, size_t n, struct ckpt_error *err) {
        _cleanup_(group_done) struct group g = { .n = n, .err = err };

        ckpt_assert(compel_visits_new(tracers_starting(tasks[0]->dump), &g.visits) == 0);
        for (size_t i = 0; i < n; i++) {
                g.v[i].task = tasks[i];
                g.v[i].visits = g.visits;
        }
        visit_group(&g, false);
        return g.result;
}

int task_collect(struct dump_task **tasks, size_t n, struct ckpt_error *err) {
        int r = 0;

        ckpt_assert(n > 0 && n <= TASK_GROUP_MAX);
        for (size_t i = 0; r == 0 && i < n; i++) {
                struct facts_known known = { .n = 0 };

                ckpt_assert(tasks[i]->nr_threads > 0);
                make_cores(tasks[i]);
                task_facts_read(tasks[i]);
                for (size_t j = 0; r == 0 && j < tasks[i]->nr_threads; j++)
                        r = read_thread(&tasks[i]->threads[j], &known, err);
        }
        if (r < 0)
                return r;
        return n == 1 && tracers_count(tasks[0]->dump) == 1 ? task_visit_alone(tasks[0], err)
                                                            : visit(tasks, n, err);
}

/* ---- a process in the hands of several tracers ---- */

/* The driver and what is the process's belong to the tracer of the first thread. */
struct spread {
        struct dump_task *task;
        struct group group;
        unsigned int first_guest; /* tracers from this on have guests now */
};

static int read_part(void *arg, unsigned int tracer, struct ckpt_error *err) {
        const struct spread *s = arg;
        struct facts_known known = { .n = 0 };
        int r = 0;

        for (size_t i = 0; r == 0 && i < s->task->nr_threads; i++)
                if (tracers_of(&s->task->threads[i]) == tracer)
                        r = read_thread(&s->task->threads[i], &known, err);
        return r;
}

static int drive_spread(void *arg, unsigned int tracer __attribute__((unused)), struct ckpt_error *err) {
        struct group *g = &((struct spread *)arg)->group;

        g->err = err;
        for_each_visit(g, begin_visit);
        for_each_visit(g, start_driver);
        for_each_visit(g, drive);
        return g->result;
}

static int guests_part(void *arg, unsigned int tracer, struct ckpt_error *err) {
        struct spread *s = arg;
        struct visiting *v = &s->group.v[0];
        unsigned int guest = tracer - s->first_guest;
        struct facts_known known = v->known;
        _cleanup_free_ void **asked = NULL;
        int r = 0;

        if (tracer < s->first_guest || guest >= compel_visit_guests(v->visit))
                return 0;
        asked = calloc(nr_task_kinds, sizeof(*asked));
        ckpt_assert(asked);
        for (size_t i = 1; r == 0 && i < s->task->nr_threads; i++)
                if (tracers_of(&s->task->threads[i]) == tracer)
                        r = visit_guest(v, guest, i, &known, asked, err);
        return r;
}

static int end_spread(void *arg, unsigned int tracer __attribute__((unused)), struct ckpt_error *err) {
        struct group *g = &((struct spread *)arg)->group;

        g->err = err;
        for_each_visit(g, end_visit);
        for_each_visit(g, visit_left);
        group_done(g);
        return g->result;
}

static int visit_spread(struct spread *s, struct ckpt_error *err) {
        const struct dump_thread *first = &s->task->threads[0];
        struct dump *d = s->task->dump;
        int r, r2;

        r = tracers_run_at(first, drive_spread, s, err);
        while (r == 0 && s->first_guest < tracers_count(d)) {
                r = tracers_run(d, guests_part, s, err);
                s->first_guest += compel_visit_guests(s->group.v[0].visit);
        }
        s->group.result = r;
        r2 = tracers_run_at(first, end_spread, s, r < 0 ? NULL : err);
        return r < 0 ? r : r2;
}

int task_collect_spread(struct dump_task *t, struct ckpt_error *err) {
        unsigned int n = tracers_count(t->dump), first = tracers_of(&t->threads[0]);
        struct spread s = { .task = t, .group = { .v[0].task = t, .n = 1 } };
        _cleanup_free_ struct arena *arenas = calloc(n, sizeof(*arenas));
        int r;

        ckpt_assert(arenas);
        make_cores(t);
        task_facts_read(t);
        for (size_t i = 0; i < t->nr_threads; i++)
                if (tracers_of(&t->threads[i]) != first)
                        t->threads[i].arena = &arenas[tracers_of(&t->threads[i])];
        r = tracers_run(t->dump, read_part, &s, err);
        if (r == 0)
                r = visit_spread(&s, err);
        for (size_t i = 0; i < t->nr_threads; i++)
                t->threads[i].arena = &t->arena;
        for (unsigned int i = 0; i < n; i++)
                arena_join(&t->arena, &arenas[i]);
        return r;
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
