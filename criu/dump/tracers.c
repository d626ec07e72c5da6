/* SPDX-License-Identifier: GPL-2.0-only */
#include "dump/tracers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "lib/thread.h"
#include "task/kind.h"

struct tracers {
        struct team *team;
        pthread_mutex_t starting;
};

static bool is_large(const struct dump *d) {
        for (size_t i = 0; i < d->nr_tasks; i++)
                if (d->tasks[i]->stat.num_threads >= TRACERS_MIN_THREADS)
                        return true;
        return d->nr_tasks >= TRACERS_MIN_SHARE;
}

int tracers_start(struct dump *d, struct ckpt_error *err) {
        unsigned int n = thread_cpus();
        struct tracers *s;

        /* The guard of the connections is told of the death of one tracer, before that lets go of what it traced. */
        if (d->tracers || n < 2 || !is_large(d) || d->opts->tcp_established)
                return 0;
        s = calloc(1, sizeof(*s));
        if (!s || team_create(n, &s->team) < 0) {
                free(s);
                return ckpt_error_errno(err, -ENOMEM, "cannot start threads that trace the tree");
        }
        pthread_mutex_init(&s->starting, NULL);
        d->tracers = s;
        return 0;
}

void tracers_free(struct dump *d) {
        struct tracers *s = d->tracers;

        if (!s)
                return;
        team_free(&s->team);
        pthread_mutex_destroy(&s->starting);
        free(s);
        d->tracers = NULL;
}

unsigned int tracers_count(const struct dump *d) {
        return d->tracers ? team_size(d->tracers->team) : 1;
}

pthread_mutex_t *tracers_starting(const struct dump *d) {
        return tracers_count(d) > 1 ? &d->tracers->starting : NULL;
}

int tracers_run(struct dump *d, team_job job, void *arg, struct ckpt_error *err) {
        return team_run(d->tracers ? d->tracers->team : NULL, TEAM_ALL, job, arg, err);
}

int tracers_run_at(const struct dump_thread *t, team_job job, void *arg, struct ckpt_error *err) {
        const struct tracers *s = t->task->dump->tracers;

        return team_run(s ? s->team : NULL, (int)tracers_of(t), job, arg, err);
}

/* ---- whose is what ---- */

/* What traces filtered tasks takes requests of one thread only. */
static bool is_main_threads(const struct dump_task *t) {
        return t->filtered || t->dump->trace_all;
}

void tracers_assign(struct dump *d, struct dump_task **tasks, size_t n) {
        unsigned int tracers = tracers_count(d);
        size_t shared = 0;

        for (size_t i = 0; i < n; i++) {
                struct dump_task *t = tasks[i];

                if (t->frozen)
                        continue;
                if (tracers == 1 || is_main_threads(t)) {
                        t->tracer = 0;
                        t->spread = false;
                        continue;
                }
                if (t->has_tracer)
                        continue;
                t->has_tracer = true;
                t->spread = t->stat.num_threads >= TRACERS_MIN_THREADS;
                /* Those that are visited side by side are neighbours. */
                if (n >= TRACERS_MIN_SHARE)
                        t->tracer = (unsigned int)(shared++ / TASK_GROUP_MAX) % tracers;
        }
}

unsigned int tracers_of(const struct dump_thread *t) {
        return t->task->spread ? (unsigned int)t->tid % tracers_count(t->task->dump) : t->task->tracer;
}

/* ---- letting go ---- */

struct releasing {
        struct dump_task **tasks;
        size_t n;
        bool leaders; /* those of processes that several share, after all other threads */
};

static int release_part(void *arg, unsigned int tracer, struct ckpt_error *err __attribute__((unused))) {
        const struct releasing *rel = arg;

        for (size_t i = 0; i < rel->n; i++)
                for (size_t j = rel->tasks[i]->nr_threads; j-- > 0;) {
                        struct dump_thread *th = &rel->tasks[i]->threads[j];

                        if (tracers_of(th) == tracer && (rel->tasks[i]->spread && j == 0) == rel->leaders)
                                compel_release(&th->stop);
                }
        return 0;
}

/* The leader last: of a process that was killed meanwhile it reports the end only after the others. */
void tracers_release(struct dump *d, struct dump_task **tasks, size_t n) {
        struct releasing rel = { .tasks = tasks, .n = n };
        bool spread = false;

        tracers_run(d, release_part, &rel, NULL);
        for (size_t i = 0; i < n; i++)
                spread |= tasks[i]->spread;
        rel.leaders = true;
        if (spread)
                tracers_run(d, release_part, &rel, NULL);
}
