/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=120 */
/* A thousand threads asleep on one condition variable. */
#include "e2e_crowd.h"

#define N_THREADS 1000

static pid_t tids[N_THREADS];

static void *run(void *arg) {
        pid_t *slot = arg;

        *slot = xgettid();
        crowd_sleep();
        CHECK(xgettid() == *slot, "tid %d is now %d", *slot, xgettid());
        return slot;
}

int main(int argc, char **argv) {
        static pthread_t threads[N_THREADS];

        test_init(argc, argv);
        crowd_start(threads, N_THREADS, run, tids, sizeof(tids[0]));
        test_ready();
        test_wait();
        /* break: tids[999] = 1; */
        /* break: crowd.awake = 1; */
        CHECK(status_u64(getpid(), "Threads", 10) == N_THREADS + 1, "%d threads",
              (int)status_u64(getpid(), "Threads", 10));
        crowd_send_on();
        for (int i = 0; i < N_THREADS; i++) {
                void *r = NULL;

                CHECK(pthread_join(threads[i], &r) == 0 && r == &tids[i], "join of thread %d", i);
        }
        CHECK(crowd.awake == N_THREADS, "%d threads woke up", crowd.awake);
        test_pass();
}
