/* SPDX-License-Identifier: GPL-2.0-only */
#include "lib/team.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "cleanup.h"
#include "lib/thread.h"
#include "macro.h"

/* One of them. */
struct member {
        struct team *team;
        unsigned int number;
        pthread_t thread;
};

struct team {
        pthread_mutex_t lock;
        pthread_cond_t begin, end;
        unsigned int n;       /* the caller included */
        unsigned int round;   /* counted up with every job */
        unsigned int working; /* of the others */
        bool stop;
        team_job job;
        void *arg;
        int only; /* the one that has something to do, or TEAM_ALL */
        int result;
        struct ckpt_error err;
        struct member v[TEAM_MAX]; /* the caller has the first */
};

static void note_result(struct team *t, int r, struct ckpt_error *err) {
        if (r < 0 && t->result == 0) {
                t->result = r;
                ckpt_error_move(&t->err, err);
        }
}

/* With the lock held, which it gives up for the job. */
static void do_part(struct team *t, unsigned int member) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        int r = 0;

        pthread_mutex_unlock(&t->lock);
        if (t->only == TEAM_ALL || t->only == (int)member)
                r = t->job(t->arg, member, &err);
        pthread_mutex_lock(&t->lock);
        note_result(t, r, &err);
}

static void *work(void *arg) {
        const struct member *member = arg;
        struct team *t = member->team;
        unsigned int seen = 0;

        pthread_mutex_lock(&t->lock);
        while (!t->stop) {
                if (seen == t->round) {
                        pthread_cond_wait(&t->begin, &t->lock);
                        continue;
                }
                seen = t->round;
                do_part(t, member->number);
                if (--t->working == 0)
                        pthread_cond_signal(&t->end);
        }
        pthread_mutex_unlock(&t->lock);
        return NULL;
}

static int start_one(struct team *t) {
        struct member *member = &t->v[t->n];
        int r;

        *member = (struct member){ .team = t, .number = t->n };
        r = thread_start(&member->thread, work, member);
        if (r == 0)
                t->n++;
        return r;
}

int team_create(unsigned int n, struct team **ret) {
        struct team *t = calloc(1, sizeof(*t));
        int r = 0;

        if (!t)
                return -ENOMEM;
        pthread_mutex_init(&t->lock, NULL);
        pthread_cond_init(&t->begin, NULL);
        pthread_cond_init(&t->end, NULL);
        t->n = 1;
        /* As many as there may be: the caller can do it alone. */
        while (r == 0 && t->n < MIN(n, (unsigned int)TEAM_MAX))
                r = start_one(t);
        *ret = t;
        return 0;
}

void team_free(struct team **team) {
        struct team *t = *team;

        if (!t)
                return;
        pthread_mutex_lock(&t->lock);
        t->stop = true;
        pthread_cond_broadcast(&t->begin);
        pthread_mutex_unlock(&t->lock);
        for (unsigned int i = 1; i < t->n; i++)
                pthread_join(t->v[i].thread, NULL);
        pthread_mutex_destroy(&t->lock);
        pthread_cond_destroy(&t->begin);
        pthread_cond_destroy(&t->end);
        ckpt_error_clear(&t->err);
        free(t);
        *team = NULL;
}

unsigned int team_size(const struct team *team) {
        return team ? team->n : 1;
}

static int run(struct team *t, int only, team_job job, void *arg, struct ckpt_error *err) {
        int r;

        pthread_mutex_lock(&t->lock);
        t->job = job;
        t->arg = arg;
        t->only = only;
        t->round++;
        t->working = t->n - 1;
        pthread_cond_broadcast(&t->begin);
        do_part(t, 0);
        while (t->working > 0)
                pthread_cond_wait(&t->end, &t->lock);
        r = t->result;
        t->result = 0;
        ckpt_error_move(err, &t->err);
        pthread_mutex_unlock(&t->lock);
        return r;
}

int team_run(struct team *team, int only, team_job job, void *arg, struct ckpt_error *err) {
        return team_size(team) > 1 && only != 0 ? run(team, only, job, arg, err) : job(arg, 0, err);
}
