/* SPDX-License-Identifier: GPL-2.0-only */
#include "dump/tracers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "cleanup.h"
#include "lib/thread.h"
#include "macro.h"
#include "task/kind.h"

enum {
        TRACERS_MAX = 4, /* more would only wait for each other's locks in the kernel */
        NOBODY = -1,
};

/* One of them. */
struct tracer {
        struct tracers *s;
        unsigned int number;
        pthread_t thread;
};

struct tracers {
        pthread_mutex_t lock, starting;
        pthread_cond_t begin, end;
        unsigned int n;       /* the main thread included */
        unsigned int round;   /* counted up with every job */
        unsigned int working; /* of the others */
        bool stop;
        tracers_job job;
        void *arg;
        int only; /* the one that has something to do, or NOBODY in particular */
        int result;
        struct ckpt_error err;
        struct tracer v[TRACERS_MAX]; /* the main thread has the first */
};

/* ---- the threads ---- */

static void note_result(struct tracers *s, int r, struct ckpt_error *err) {
        if (r < 0 && s->result == 0) {
                s->result = r;
                ckpt_error_move(&s->err, err);
        }
}

/* With the lock held, which it gives up for the job. */
static void do_part(struct tracers *s, unsigned int tracer) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        int r = 0;

        pthread_mutex_unlock(&s->lock);
        if (s->only == NOBODY || s->only == (int)tracer)
                r = s->job(s->arg, tracer, &err);
        pthread_mutex_lock(&s->lock);
        note_result(s, r, &err);
}

static void *trace(void *arg) {
        const struct tracer *tracer = arg;
        struct tracers *s = tracer->s;
        unsigned int seen = 0;

        pthread_mutex_lock(&s->lock);
        while (!s->stop) {
                if (seen == s->round) {
                        pthread_cond_wait(&s->begin, &s->lock);
                        continue;
                }
                seen = s->round;
                do_part(s, tracer->number);
                if (--s->working == 0)
                        pthread_cond_signal(&s->end);
        }
        pthread_mutex_unlock(&s->lock);
        return NULL;
}

static int start_one(struct tracers *s) {
        struct tracer *tracer = &s->v[s->n];
        int r;

        *tracer = (struct tracer){ .s = s, .number = s->n };
        r = thread_start(&tracer->thread, trace, tracer);
        if (r == 0)
                s->n++;
        return r;
}

static void start_threads(struct tracers *s, unsigned int n) {
        int r = 0;

        while (r == 0 && s->n < n)
                r = start_one(s);
}

static bool is_large(const struct dump *d) {
        for (size_t i = 0; i < d->nr_tasks; i++)
                if (d->tasks[i]->stat.num_threads >= TRACERS_MIN_THREADS)
                        return true;
        return d->nr_tasks >= TRACERS_MIN_SHARE;
}

int tracers_start(struct dump *d, struct ckpt_error *err) {
        unsigned int n = MIN(thread_cpus(), (unsigned int)TRACERS_MAX);
        struct tracers *s;

        /* The guard of the connections is told of the death of one tracer, before that lets go of what it traced. */
        if (d->tracers || n < 2 || !is_large(d) || d->opts->tcp_established)
                return 0;
        s = calloc(1, sizeof(*s));
        if (!s)
                return ckpt_error_errno(err, -ENOMEM, "cannot start threads that trace the tree");
        pthread_mutex_init(&s->lock, NULL);
        pthread_mutex_init(&s->starting, NULL);
        pthread_cond_init(&s->begin, NULL);
        pthread_cond_init(&s->end, NULL);
        s->n = 1;
        /* As many as there may be: the main thread can do it alone. */
        start_threads(s, n);
        d->tracers = s;
        return 0;
}

void tracers_free(struct dump *d) {
        struct tracers *s = d->tracers;

        if (!s)
                return;
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_broadcast(&s->begin);
        pthread_mutex_unlock(&s->lock);
        for (unsigned int i = 1; i < s->n; i++)
                pthread_join(s->v[i].thread, NULL);
        pthread_mutex_destroy(&s->lock);
        pthread_mutex_destroy(&s->starting);
        pthread_cond_destroy(&s->begin);
        pthread_cond_destroy(&s->end);
        ckpt_error_clear(&s->err);
        free(s);
        d->tracers = NULL;
}

unsigned int tracers_count(const struct dump *d) {
        return d->tracers ? d->tracers->n : 1;
}

pthread_mutex_t *tracers_starting(const struct dump *d) {
        return tracers_count(d) > 1 ? &d->tracers->starting : NULL;
}

static int run(struct tracers *s, int only, tracers_job job, void *arg, struct ckpt_error *err) {
        int r;

        pthread_mutex_lock(&s->lock);
        s->job = job;
        s->arg = arg;
        s->only = only;
        s->round++;
        s->working = s->n - 1;
        pthread_cond_broadcast(&s->begin);
        do_part(s, 0);
        while (s->working > 0)
                pthread_cond_wait(&s->end, &s->lock);
        r = s->result;
        s->result = 0;
        ckpt_error_move(err, &s->err);
        pthread_mutex_unlock(&s->lock);
        return r;
}

int tracers_run(struct dump *d, tracers_job job, void *arg, struct ckpt_error *err) {
        return tracers_count(d) > 1 ? run(d->tracers, NOBODY, job, arg, err) : job(arg, 0, err);
}

int tracers_run_at(const struct dump_thread *t, tracers_job job, void *arg, struct ckpt_error *err) {
        unsigned int tracer = tracers_of(t);

        if (tracer == 0)
                return job(arg, 0, err);
        return run(t->task->dump->tracers, (int)tracer, job, arg, err);
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
