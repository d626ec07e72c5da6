/* SPDX-License-Identifier: GPL-2.0-only */
/* Threads of ckpt beside its main thread. */
#pragma once

#include <pthread.h>

/*
 * pthread_create(3) of a thread in which all signals are blocked, so that they reach the main thread, which waits for
 * them. *ret is to be joined. 0 or a negative errno: -EAGAIN when there may be no more threads.
 */
int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg);

/*
 * How many CPUs the calling thread may run on (sched_getaffinity(2)): at least 1, which is also the answer where that is
 * not told.
 */
unsigned int thread_cpus(void);
