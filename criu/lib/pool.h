/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Worker threads for work that ptrace has no part in: copying memory, encoding and checking images.
 * The first job that fails makes the rest be skipped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

struct pool;

/* What a job does; a negative errno, with *err filled, fails the pool. */
typedef int (*pool_job)(void *arg, struct ckpt_error *err);

/* Start `threads` workers; 0: as many as there are CPUs to run on. Signals are blocked in them. */
int pool_create(unsigned int threads, struct pool **ret, struct ckpt_error *err);

unsigned int pool_threads(const struct pool *pool);

/* Queue a job. Jobs begin in order; a job may queue more. -ENOMEM. */
int pool_add(struct pool *pool, pool_job job, void *arg);

/* Wait until all jobs are done. Returns, and moves to *err, the first failure. */
int pool_wait(struct pool *pool, struct ckpt_error *err);

/* As pool_wait(), and meanwhile the caller does jobs itself. Signals must not disturb them. */
int pool_join(struct pool *pool, struct ckpt_error *err);

/*
 * Call fn(ctx, from, to) for parts of [0, n), by all threads and the caller, and return when all is done. Several
 * may do so at once; each then waits for all, and its caller takes part in all. -ENOMEM: perhaps not all parts were done.
 */
int pool_spread(struct pool *pool, size_t n, void (*fn)(void *ctx, size_t from, size_t to), void *ctx);

/*
 * A job that another thread may do while the caller does something else. Also from within a job, where waiting for all
 * is not possible. The offer stays where it is until it has been claimed or withdrawn; it does not fail the pool.
 */
struct pool_offer {
        struct pool *pool; /* NULL: nothing is offered */
        pool_job job;
        void *arg;
        bool done;
        int result;
        struct ckpt_error err;
};

/* *offer is filled. -ENOMEM: nothing is offered. */
int pool_offer(struct pool *pool, pool_job job, void *arg, struct pool_offer *offer);

/* Do the job unless somebody has begun with it; then wait for its end. Returns its result, and moves its error. */
int pool_claim(struct pool_offer *offer, struct ckpt_error *err);

/* It is not needed any more: wait only if somebody is at it. Does nothing where nothing is offered. */
void pool_withdraw(struct pool_offer *offer);

/*
 * Call fn(ctx, false) here and, side by side with it, fn(ctx, true) in up to `helpers` workers: those that have time
 * before the caller's own call is over. Returns when all calls have. Callable from a job. What fn has to divide, it
 * divides itself; without memory for it, nobody helps.
 */
void pool_share(struct pool *pool, unsigned int helpers, void (*fn)(void *ctx, bool helper), void *ctx);

/* Wait for running jobs, drop queued ones, end the threads. NULL is allowed. */
void pool_free(struct pool **pool);

#define _cleanup_pool_ __attribute__((cleanup(pool_free)))
