/* SPDX-License-Identifier: GPL-2.0-only */
/* Many threads with small stacks, which sleep on one condition variable until they are all sent on. */
#pragma once

#include <pthread.h>

#include "e2e.h"

static struct {
        pthread_mutex_t lock; /* of the rest */
        pthread_cond_t cond;
        int asleep; /* or have been */
        int awake;  /* again */
        bool go;
} crowd = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

/* In each of them. */
static void crowd_sleep(void) {
        pthread_mutex_lock(&crowd.lock);
        crowd.asleep++;
        while (!crowd.go)
                pthread_cond_wait(&crowd.cond, &crowd.lock);
        crowd.awake++;
        pthread_mutex_unlock(&crowd.lock);
}

/* Thread number i gets args + i * step; returns when all `n` are asleep. */
static void crowd_start(pthread_t *threads, int n, void *(*run)(void *), void *args, size_t step) {
        pthread_attr_t attr;
        int asleep = 0;

        CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, 65536) == 0, "attributes");
        for (int i = 0; i < n; i++)
                CHECK(pthread_create(&threads[i], &attr, run,
                                     (void *)((uintptr_t)args + (size_t)i * step)) == 0,
                      "pthread_create");
        while (asleep < n) {
                pthread_mutex_lock(&crowd.lock);
                asleep = crowd.asleep;
                pthread_mutex_unlock(&crowd.lock);
                tick();
        }
}

/* None has gone on before. */
static void crowd_send_on(void) {
        pthread_mutex_lock(&crowd.lock);
        CHECK(crowd.awake == 0, "%d threads woke up too early", crowd.awake);
        crowd.go = true;
        pthread_cond_broadcast(&crowd.cond);
        pthread_mutex_unlock(&crowd.lock);
}
