/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Threads of ckpt that trace the tree. ptrace(2) belongs to the thread that seized, so each of them has a share of
 * the tasks, from the first stop to the last resume: whole processes, or, of a process with very many threads, some
 * of these. Number 0 is the main thread, which has everything where there is not enough to share. A stage goes to all
 * of them, and ends when all have done their part.
 *
 * The end of a tracer detaches what it still traces.
 */
#pragma once

#include <pthread.h>

#include "dump/model.h"
#include "lib/team.h"

/* Below this many processes, or threads of one process, there is nothing to share. */
enum { TRACERS_MIN_SHARE = 32, TRACERS_MIN_THREADS = 64 };

/* Start tracers if the tree is large and there are CPUs for them, unless they are there. */
int tracers_start(struct dump *d, struct ckpt_error *err);

/* End them. What they trace runs on. */
void tracers_free(struct dump *d);

unsigned int tracers_count(const struct dump *d);

/* Around the beginning of visits by several of them, for compel_visits_new(). NULL: there is only one. */
pthread_mutex_t *tracers_starting(const struct dump *d);

/*
 * Hand `n` processes that are about to be stopped to tracers, those that have none yet: once for all attempts to stop
 * them.
 */
void tracers_assign(struct dump *d, struct dump_task **tasks, size_t n);

/* Who traces it, or will. */
unsigned int tracers_of(const struct dump_thread *t);

/* Have all of them, by their numbers, do their part, and wait for all. Returns, and moves to *err, the first failure. */
int tracers_run(struct dump *d, team_job job, void *arg, struct ckpt_error *err);

/* Have the one do it, in whose hands this thread is. */
int tracers_run_at(const struct dump_thread *t, team_job job, void *arg, struct ckpt_error *err);

/* Let all threads of these processes go on. */
void tracers_release(struct dump *d, struct dump_task **tasks, size_t n);
