/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread busy timeout=120 ignore=maps,fd.3 */
/*
 * One thread of many changes what madvise(2) leaves on memory, all the time: what was seen before the process was stopped is
 * never what is restored, unless it still holds.
 */
#include "e2e_crowd.h"

enum { N_THREADS = 240, AREAS = 5 };

struct state {
        char *at[AREAS];
        unsigned long round;
};

static void *wait_for_end(void *arg) {
        crowd_sleep();
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

        test_init(argc, argv);
        for (int i = 0; i < AREAS; i++) {
                char *at = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

                CHECK(at != MAP_FAILED && mprotect(at + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0,
                      "mmap: %m");
                s.at[i] = at + PAGE;
        }
        crowd_start(threads, N_THREADS, wait_for_end, NULL, 0);
        test_ready();
        test_wait_busy(step, &s);
        step(&s);
        crowd_send_on();
        for (int i = 0; i < N_THREADS; i++)
                CHECK(pthread_join(threads[i], NULL) == 0, "pthread_join");
        test_pass();
}
