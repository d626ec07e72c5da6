/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread busy timeout=120 ignore=maps,fd.3 */
/*
 * One thread of many changes what madvise(2) leaves on memory, all the time: what was seen before the process was stopped is
 * never what is restored, unless it still holds.
 */
#include "e2e.h"

#include <pthread.h>

enum { N_THREADS = 240, AREAS = 5 };

struct state {
        char *at[AREAS];
        unsigned long round;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int ready;
static bool go;

static void *wait_for_end(void *arg) {
        pthread_mutex_lock(&lock);
        ready++;
        while (!go)
                pthread_cond_wait(&cond, &lock);
        pthread_mutex_unlock(&lock);
        return arg;
}

static bool is_kept(unsigned long round, int area) {
        return round >> area & 1;
}

/* Area number n changes every 2^n rounds, so that two moments that are not far apart differ somewhere. */
static void step(void *arg) {
        struct state *s = arg;
        struct vma v;

        for (int i = 0; i < AREAS; i++) {
                CHECK(find_vma(s->at[i], &v), "area %d is gone", i);
                /* break: s->round += s->round == 20; */
                CHECK(vma_has_flag(&v, "dc") == is_kept(s->round, i), "round %lu: area %d has the flags %s",
                      s->round, i, v.flags);
        }
        s->round++;
        for (int i = 0; i < AREAS; i++)
                if (is_kept(s->round, i) != is_kept(s->round - 1, i))
                        CHECK(madvise(s->at[i], PAGE, is_kept(s->round, i) ? MADV_DONTFORK : MADV_DOFORK) ==
                                      0,
                              "madvise: %m");
}

int main(int argc, char **argv) {
        static pthread_t threads[N_THREADS];
        struct state s = { .round = 0 };
        pthread_attr_t attr;
        int n = 0;

        test_init(argc, argv);
        for (int i = 0; i < AREAS; i++) {
                char *at = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

                CHECK(at != MAP_FAILED && mprotect(at + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0,
                      "mmap: %m");
                s.at[i] = at + PAGE;
        }
        CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, 65536) == 0, "attributes");
        for (int i = 0; i < N_THREADS; i++)
                CHECK(pthread_create(&threads[i], &attr, wait_for_end, NULL) == 0, "pthread_create");
        while (n < N_THREADS) {
                pthread_mutex_lock(&lock);
                n = ready;
                pthread_mutex_unlock(&lock);
                tick();
        }
        test_ready();
        test_wait_busy(step, &s);
        step(&s);
        pthread_mutex_lock(&lock);
        go = true;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&lock);
        for (int i = 0; i < N_THREADS; i++)
                CHECK(pthread_join(threads[i], NULL) == 0, "pthread_join");
        test_pass();
}
