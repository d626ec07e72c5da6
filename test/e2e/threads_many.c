/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=120 */
/* A thousand threads asleep on one condition variable. */
#include "e2e.h"

#include <pthread.h>

#define N_THREADS 1000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int asleep, awake, go;
static pid_t tids[N_THREADS];

static void *run(void *arg) {
        pid_t *slot = arg;

        *slot = xgettid();
        pthread_mutex_lock(&lock);
        asleep++;
        while (!go)
                pthread_cond_wait(&cond, &lock);
        awake++;
        pthread_mutex_unlock(&lock);
        CHECK(xgettid() == *slot, "tid %d is now %d", *slot, xgettid());
        return slot;
}

int main(int argc, char **argv) {
        static pthread_t threads[N_THREADS];
        pthread_attr_t attr;
        int n = 0;

        test_init(argc, argv);
        CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, 65536) == 0, "attributes");
        for (int i = 0; i < N_THREADS; i++)
                CHECK(pthread_create(&threads[i], &attr, run, &tids[i]) == 0, "pthread_create");
        while (n < N_THREADS) {
                pthread_mutex_lock(&lock);
                n = asleep;
                pthread_mutex_unlock(&lock);
                tick();
        }
        test_ready();
        test_wait();
        /* break: tids[999] = 1; */
        /* break: awake = 1; */
        CHECK(status_u64(getpid(), "Threads", 10) == N_THREADS + 1, "%d threads",
              (int)status_u64(getpid(), "Threads", 10));
        pthread_mutex_lock(&lock);
        CHECK(awake == 0, "%d threads woke up too early", awake);
        go = 1;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&lock);
        for (int i = 0; i < N_THREADS; i++) {
                void *r = NULL;

                CHECK(pthread_join(threads[i], &r) == 0 && r == &tids[i], "join of thread %d", i);
        }
        CHECK(awake == N_THREADS, "%d threads woke up", awake);
        test_pass();
}
