/* SPDX-License-Identifier: GPL-2.0-only */
#include "cli/progress.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lib/io.h"
#include "lib/thread.h"
#include "macro.h"

#define FIRST_NSEC 1000000000L
#define NEXT_NSEC  200000000L

struct progress_shared {
        struct progress_counters counters; /* first: progress_counters() */

        /* For the process that draws. */
        const char *verb;
        pid_t owner;
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool stop;
};

_Static_assert(offsetof(struct progress_shared, counters) == 0, "progress_counters() rests on it");

/* "12.5 MiB" */
static void format_bytes(char *buf, size_t size, double bytes) {
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        size_t i = 0;

        for (; bytes >= 1024 && i + 1 < ELEMENTSOF(units); i++)
                bytes /= 1024;
        snprintf(buf, size, i ? "%.1f %s" : "%.0f %s", bytes, units[i]);
}

void progress_format(char *buf, unsigned size, const char *verb, uint64_t done, uint64_t total,
                     double seconds) {
        char amount[32], all[32], rate[32];

        format_bytes(amount, sizeof(amount), (double)done);
        format_bytes(all, sizeof(all), (double)total);
        format_bytes(rate, sizeof(rate), seconds > 0 ? (double)done / seconds : 0);
        if (total > 0)
                snprintf(buf, size, "%s  %s of %s  %u%%  %s/s", verb, amount, all,
                         (unsigned)(MIN((double)done / (double)total, 1.0) * 100), rate);
        else
                snprintf(buf, size, "%s  %s  %s/s", verb, amount, rate);
}

static void draw(const struct progress_shared *shared, double seconds) {
        struct winsize window = { 0 };
        char text[160], line[200];
        int width = 80, n;

        if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
                width = window.ws_col;
        progress_format(text, sizeof(text), shared->verb,
                        atomic_load_explicit(&shared->counters.done, memory_order_relaxed),
                        atomic_load_explicit(&shared->counters.total, memory_order_relaxed), seconds);
        /* A line that wraps could not be erased again. */
        n = snprintf(line, sizeof(line), "\r%.*s\033[K", MAX(width - 1, 0), text);
        (void)write_full(STDERR_FILENO, line, MIN((size_t)n, sizeof(line) - 1));
}

static double seconds_between(const struct timespec *from, const struct timespec *to) {
        return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_nsec - from->tv_nsec) / 1e9;
}

static void add_nsec(struct timespec *t, long nsec) {
        t->tv_nsec += nsec;
        t->tv_sec += t->tv_nsec / 1000000000L;
        t->tv_nsec %= 1000000000L;
}

static void *watch(void *arg) {
        struct progress_shared *shared = arg;
        struct timespec start, wake, now;
        bool drawn = false;

        clock_gettime(CLOCK_MONOTONIC, &start);
        wake = start;
        add_nsec(&wake, FIRST_NSEC);

        pthread_mutex_lock(&shared->lock);
        while (!shared->stop) {
                if (pthread_cond_timedwait(&shared->changed, &shared->lock, &wake) == 0)
                        continue;
                clock_gettime(CLOCK_MONOTONIC, &now);
                draw(shared, seconds_between(&start, &now));
                drawn = true;
                wake = now;
                add_nsec(&wake, NEXT_NSEC);
        }
        pthread_mutex_unlock(&shared->lock);

        if (drawn)
                (void)write_full(STDERR_FILENO, "\r\033[K", 4);
        return NULL;
}

static bool start_thread(struct progress_shared *shared) {
        pthread_condattr_t attr;

        pthread_mutex_init(&shared->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&shared->changed, &attr);
        pthread_condattr_destroy(&attr);
        return thread_start(&shared->thread, watch, shared) == 0;
}

void progress_start(struct progress *ret, const char *verb, bool wanted) {
        struct progress_shared *shared;

        *ret = (struct progress){ 0 };
        if (!wanted || !isatty(STDERR_FILENO))
                return;
        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED)
                return;

        shared->verb = verb;
        shared->owner = getpid();
        if (!start_thread(shared)) {
                munmap(shared, sizeof(*shared));
                return;
        }
        ret->shared = shared;
}

void progress_stop(struct progress *p) {
        struct progress_shared *shared = p->shared;

        if (!shared)
                return;
        *p = (struct progress){ 0 };
        /* A forked child has the counters, but neither the thread nor the terminal. */
        if (shared->owner == getpid()) {
                pthread_mutex_lock(&shared->lock);
                shared->stop = true;
                pthread_cond_signal(&shared->changed);
                pthread_mutex_unlock(&shared->lock);
                pthread_join(shared->thread, NULL);
        }
        munmap(shared, sizeof(*shared));
}
