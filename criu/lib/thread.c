/* SPDX-License-Identifier: GPL-2.0-only */
#include "lib/thread.h"

#include <sched.h>
#include <signal.h>

int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg) {
        sigset_t all, saved;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);
        r = pthread_create(ret, NULL, fn, arg);
        pthread_sigmask(SIG_SETMASK, &saved, NULL);
        return -r;
}

unsigned int thread_cpus(void) {
        cpu_set_t set;

        return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned int)CPU_COUNT(&set);
}
