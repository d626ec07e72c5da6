/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* Policy, priority, nice and reset-on-fork, each thread with its own. Real-time policies only where this cgroup
 * may use them. */
#include "e2e.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#ifndef SCHED_RESET_ON_FORK
#define SCHED_RESET_ON_FORK 0x40000000
#endif

static const struct {
        int policy, priority, nice;
} table[] = {
        { SCHED_OTHER, 0, 0 }, { SCHED_OTHER, 0, 19 }, { SCHED_OTHER, 0, -11 },
        { SCHED_BATCH, 0, 5 }, { SCHED_IDLE, 0, 3 },   { SCHED_OTHER | SCHED_RESET_ON_FORK, 0, -5 },
        { SCHED_FIFO, 7, 0 },  { SCHED_RR, 3, 2 },     { SCHED_FIFO | SCHED_RESET_ON_FORK, 1, -1 },
};

#define N ELEMENTS(table)

static struct gate ready, go;
static bool skipped[N];
static size_t changed = N;

static void *run(void *arg) {
        size_t i = *(size_t *)arg;
        struct sched_param p = { .sched_priority = table[i].priority }, now;
        pid_t tid = xgettid();

        CHECK(setpriority(PRIO_PROCESS, (id_t)tid, table[i].nice) == 0, "setpriority: %m");
        if (sched_setscheduler(tid, table[i].policy, &p) < 0) {
                CHECK(errno == EPERM && table[i].priority > 0, "sched_setscheduler: %m");
                skipped[i] = true;
        }
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        if (changed == i)
                CHECK(sched_setscheduler(tid, SCHED_BATCH, &(struct sched_param){ 0 }) == 0, "break: %m");
        CHECK(getpriority(PRIO_PROCESS, (id_t)tid) == table[i].nice, "thread %zu: nice %d, not %d", i,
              getpriority(PRIO_PROCESS, (id_t)tid), table[i].nice);
        if (skipped[i])
                return arg;
        CHECK(sched_getscheduler(tid) == table[i].policy, "thread %zu: policy 0x%x, not 0x%x", i,
              (unsigned)sched_getscheduler(tid), (unsigned)table[i].policy);
        CHECK(sched_getparam(tid, &now) == 0 && now.sched_priority == table[i].priority,
              "thread %zu: priority %d", i, now.sched_priority);
        return arg;
}

int main(int argc, char **argv) {
        size_t index[N];
        pthread_t t[N];
        pid_t kid;
        int n = 0;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        kid = xfork();
        if (kid == 0) {
                CHECK(nice(4) == 4, "nice: %m");
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                CHECK(getpriority(PRIO_PROCESS, 0) == 4, "nice of the child: %d",
                      getpriority(PRIO_PROCESS, 0));
                _exit(2);
        }
        for (size_t i = 0; i < N; i++) {
                index[i] = i;
                CHECK(pthread_create(&t[i], NULL, run, &index[i]) == 0, "pthread_create");
        }
        gate_pass(&ready, N + 1);
        for (size_t i = 0; i < N; i++)
                n += skipped[i];
        test_msg("%d of %zu policies cannot be used here", n, N);
        test_ready();
        test_wait();
        /* break: changed = 0; */
        /* break: changed = 4; */
        /* break: setpriority(PRIO_PROCESS, (id_t) kid, 6); */
        CHECK(getpriority(PRIO_PROCESS, 0) == 0 && sched_getscheduler(0) == SCHED_OTHER, "the leader's own");
        gate_open(&go, N + 1);
        for (size_t i = 0; i < N; i++)
                CHECK(pthread_join(t[i], NULL) == 0, "pthread_join");
        xwait(kid, 2);
        test_pass();
}
