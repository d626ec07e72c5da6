/* SPDX-License-Identifier: GPL-2.0-only */
#include "lib/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/thread.h"
#include "macro.h"

struct pool_item {
        struct pool_item *next;
        pool_job job;
        void *arg;
        struct pool_offer *offer; /* whose job it is; NULL: the pool's own */
};

enum { THREADS_MAX = 64, DESCRIPTORS = 16384 };

struct pool {
        pthread_mutex_t lock;
        pthread_cond_t work, idle;
        struct pool_item *first, **last;
        unsigned int nr_threads, pending; /* pending: queued or running */
        bool stop;
        int result;
        struct ckpt_error err;
        pthread_t threads[THREADS_MAX];
};

/* Those who wait for all jobs do jobs meanwhile, or do not. */
static void note_end(struct pool *pool) {
        if (--pool->pending > 0)
                return;
        pthread_cond_broadcast(&pool->idle);
        pthread_cond_broadcast(&pool->work);
}

static void finish_item(struct pool *pool, struct pool_offer *offer, int r, struct ckpt_error *err) {
        if (offer) {
                offer->result = r;
                ckpt_error_move(&offer->err, err);
                offer->done = true;
                pthread_cond_broadcast(&pool->idle);
        } else if (r < 0 && pool->result == 0) {
                pool->result = r;
                ckpt_error_move(&pool->err, err);
        }
        note_end(pool);
}

static void run_item(struct pool *pool, struct pool_item *item) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        struct pool_offer *offer = item->offer;
        bool skip = pool->result < 0 && !offer;
        int r = 0;

        pthread_mutex_unlock(&pool->lock);
        if (!skip)
                r = item->job(item->arg, &err);
        free(item);
        pthread_mutex_lock(&pool->lock);
        finish_item(pool, offer, r, &err);
}

/* The next job of the queue, which is not empty. */
static void run_next(struct pool *pool) {
        struct pool_item *item = pool->first;

        pool->first = item->next;
        if (!pool->first)
                pool->last = &pool->first;
        run_item(pool, item);
}

static void *worker(void *arg) {
        struct pool *pool = arg;

        pthread_mutex_lock(&pool->lock);
        for (;;) {
                if (pool->first)
                        run_next(pool);
                else if (pool->stop)
                        break;
                else
                        pthread_cond_wait(&pool->work, &pool->lock);
        }
        pthread_mutex_unlock(&pool->lock);
        return NULL;
}

static int start_threads(struct pool *pool, unsigned int threads) {
        int r = 0;

        while (r == 0 && pool->nr_threads < threads) {
                r = thread_start(&pool->threads[pool->nr_threads], worker, pool);
                if (r == 0)
                        pool->nr_threads++;
        }
        return pool->nr_threads > 0 ? 0 : r;
}

/*
 * The kernel enlarges the descriptor table of a process with threads only after an RCU grace period, some 10 ms each
 * time it doubles; without threads at once, in some 5 us.
 */
static void enlarge_descriptor_table(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 0)
                safe_close(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC,
                                 (int)MIN(limit.rlim_cur, (rlim_t)DESCRIPTORS) - 1));
}

int pool_create(unsigned int threads, struct pool **ret, struct ckpt_error *err) {
        _cleanup_pool_ struct pool *pool = calloc(1, sizeof(*pool));
        int r;

        if (!pool)
                return ckpt_error_errno(err, -ENOMEM, "cannot start worker threads");
        pthread_mutex_init(&pool->lock, NULL);
        pthread_cond_init(&pool->work, NULL);
        pthread_cond_init(&pool->idle, NULL);
        pool->last = &pool->first;
        enlarge_descriptor_table();
        if (threads == 0)
                threads = thread_cpus();
        r = start_threads(pool, MIN(threads, (unsigned int)THREADS_MAX));
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot start worker threads");
        *ret = TAKE_PTR(pool);
        return 0;
}

unsigned int pool_threads(const struct pool *pool) {
        return pool->nr_threads;
}

static int add(struct pool *pool, pool_job job, void *arg, struct pool_offer *offer) {
        struct pool_item *item = malloc(sizeof(*item));

        if (!item)
                return -ENOMEM;
        *item = (struct pool_item){ .job = job, .arg = arg, .offer = offer };
        pthread_mutex_lock(&pool->lock);
        *pool->last = item;
        pool->last = &item->next;
        pool->pending++;
        pthread_cond_signal(&pool->work);
        pthread_mutex_unlock(&pool->lock);
        return 0;
}

int pool_add(struct pool *pool, pool_job job, void *arg) {
        return add(pool, job, arg, NULL);
}

int pool_offer(struct pool *pool, pool_job job, void *arg, struct pool_offer *offer) {
        int r;

        *offer = (struct pool_offer){ .pool = pool, .job = job, .arg = arg, .err = CKPT_ERROR_INIT };
        r = add(pool, job, arg, offer);
        if (r < 0)
                offer->pool = NULL;
        return r;
}

/* Out of the queue. false: somebody has taken it already. */
static bool take_back(struct pool *pool, const struct pool_offer *offer) {
        struct pool_item **at = &pool->first, *item;

        while (*at && (*at)->offer != offer)
                at = &(*at)->next;
        item = *at;
        if (!item)
                return false;
        *at = item->next;
        if (!item->next)
                pool->last = at;
        free(item);
        note_end(pool);
        return true;
}

/* true: nobody has begun with it, and nobody will. Otherwise it is done. */
static bool end_offer(struct pool_offer *offer) {
        struct pool *pool = offer->pool;
        bool mine;

        pthread_mutex_lock(&pool->lock);
        mine = take_back(pool, offer);
        while (!mine && !offer->done)
                pthread_cond_wait(&pool->idle, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
        offer->pool = NULL;
        return mine;
}

int pool_claim(struct pool_offer *offer, struct ckpt_error *err) {
        if (end_offer(offer))
                return offer->job(offer->arg, err);
        ckpt_error_move(err, &offer->err);
        return offer->result;
}

void pool_withdraw(struct pool_offer *offer) {
        if (offer->pool && !end_offer(offer))
                ckpt_error_clear(&offer->err);
}

static int wait_for_all(struct pool *pool, bool help, struct ckpt_error *err) {
        int r;

        pthread_mutex_lock(&pool->lock);
        while (pool->pending > 0)
                if (help && pool->first)
                        run_next(pool);
                else /* one that helps also wakes for jobs that a job has added */
                        pthread_cond_wait(help ? &pool->work : &pool->idle, &pool->lock);
        r = pool->result;
        pool->result = 0;
        ckpt_error_move(err, &pool->err);
        pthread_mutex_unlock(&pool->lock);
        return r;
}

int pool_wait(struct pool *pool, struct ckpt_error *err) {
        return wait_for_all(pool, false, err);
}

int pool_join(struct pool *pool, struct ckpt_error *err) {
        return wait_for_all(pool, true, err);
}

struct share {
        void (*fn)(void *ctx, bool helper);
        void *ctx;
};

static int share_job(void *arg, struct ckpt_error *err __attribute__((unused))) {
        const struct share *s = arg;

        s->fn(s->ctx, true);
        return 0;
}

void pool_share(struct pool *pool, unsigned int helpers, void (*fn)(void *ctx, bool helper), void *ctx) {
        struct share s = { .fn = fn, .ctx = ctx };
        struct pool_offer offers[THREADS_MAX];
        unsigned int n = 0;

        helpers = MIN(helpers, (unsigned int)THREADS_MAX);
        while (n < helpers && pool_offer(pool, share_job, &s, &offers[n]) == 0)
                n++;
        fn(ctx, false);
        while (n > 0)
                pool_withdraw(&offers[--n]);
}

struct spread {
        void (*fn)(void *ctx, size_t from, size_t to);
        void *ctx;
        size_t n, step;
        size_t next; /* atomic */
};

static int spread_job(void *arg, struct ckpt_error *err __attribute__((unused))) {
        struct spread *s = arg;

        for (;;) {
                size_t from = __atomic_fetch_add(&s->next, s->step, __ATOMIC_RELAXED);

                if (from >= s->n)
                        return 0;
                s->fn(s->ctx, from, MIN(from + s->step, s->n));
        }
}

int pool_spread(struct pool *pool, size_t n, void (*fn)(void *ctx, size_t from, size_t to), void *ctx) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        size_t step = n / (4 * (pool->nr_threads + 1));
        struct spread s = { .fn = fn, .ctx = ctx, .n = n, .step = step > 0 ? step : 1 };
        int r = 0, waited;

        for (unsigned int i = 0; r == 0 && i < pool->nr_threads; i++)
                r = pool_add(pool, spread_job, &s);
        waited = pool_join(pool, &err);
        return r < 0 ? r : waited;
}

static void drop_queue(struct pool *pool) {
        while (pool->first) {
                struct pool_item *item = pool->first;

                pool->first = item->next;
                pool->pending--;
                free(item);
        }
        pool->last = &pool->first;
}

void pool_free(struct pool **p) {
        struct pool *pool = *p;

        if (!pool)
                return;
        pthread_mutex_lock(&pool->lock);
        drop_queue(pool);
        pool->stop = true;
        pthread_cond_broadcast(&pool->work);
        pthread_mutex_unlock(&pool->lock);
        for (unsigned int i = 0; i < pool->nr_threads; i++)
                pthread_join(pool->threads[i], NULL);
        pthread_mutex_destroy(&pool->lock);
        pthread_cond_destroy(&pool->work);
        pthread_cond_destroy(&pool->idle);
        ckpt_error_clear(&pool->err);
        free(pool);
        *p = NULL;
}
