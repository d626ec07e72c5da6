/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: busy libs=-lpthread cflags=-ffp-contract=off timeout=120 */
/* 200 threads that compute with AVX without pause, each verifying its sums against plain arithmetic. */
#include "e2e.h"

#include <pthread.h>

#define N_THREADS 200
#define STEPS     4000
#define FACTOR    3.97
#define LANES     4
#define VECTORS   6

typedef double vec __attribute__((vector_size(LANES * sizeof(double))));

static volatile int stop;
static volatile uint64_t rounds[N_THREADS];
static struct gate ready;
static volatile uint64_t wrong;

/* The same recurrence twice; bit for bit the same result because each operation rounds alike. It is chaotic, so
 * that a single wrong bit, wherever it was, is seen in the end. */
static void __attribute__((target("avx"), noinline)) with_avx(double *state) {
        vec v[VECTORS], factor, one;

        memcpy(v, state, sizeof(v));
        for (int lane = 0; lane < LANES; lane++) {
                factor[lane] = FACTOR;
                one[lane] = 1;
        }
        for (int i = 0; i < STEPS; i++)
                for (int j = 0; j < VECTORS; j++) {
                        v[j] = (v[j] * factor) * (one - v[j]);
                        __asm__ volatile("" : "+x"(v[j])); /* stays in its register */
                }
        memcpy(state, v, sizeof(v));
}

static void __attribute__((noinline)) plain(double *state) {
        for (int k = 0; k < VECTORS * LANES; k++)
                for (int i = 0; i < STEPS; i++)
                        state[k] = (state[k] * FACTOR) * (1 - state[k]);
}

static void *run(void *arg) {
        size_t me = (size_t)((volatile uint64_t *)arg - rounds);
        double start[VECTORS * LANES], a[VECTORS * LANES], b[VECTORS * LANES];

        for (size_t i = 0; i < ELEMENTS(start); i++)
                start[i] = (double)(me * 100 + i + 1) / 30000;
        memcpy(b, start, sizeof(b));
        plain(b);
        gate_open(&ready, 1);
        while (!stop) {
                memcpy(a, start, sizeof(a));
                with_avx(a);
                for (size_t i = 0; i < ELEMENTS(a); i++) {
                        uint64_t got, want;

                        memcpy(&got, &a[i], sizeof(got));
                        memcpy(&want, &b[i], sizeof(want));
                        CHECK(got == want, "thread %zu, round %" PRIu64 ": sum %zu is %a, not %a", me,
                              rounds[me], i, a[i], b[i]);
                }
                rounds[me]++;
                if (wrong == me + 1)
                        start[3] += 1e-9;
        }
        return arg;
}

int main(int argc, char **argv) {
        static pthread_t t[N_THREADS];
        uint64_t seen[N_THREADS];

        test_init(argc, argv);
        if (!__builtin_cpu_supports("avx"))
                test_skip("this CPU has no AVX");
        gate_init(&ready);
        for (int i = 0; i < N_THREADS; i++)
                CHECK(pthread_create(&t[i], NULL, run, (void *)(uintptr_t)&rounds[i]) == 0,
                      "pthread_create");
        gate_pass(&ready, N_THREADS);
        for (int i = 0; i < N_THREADS; i++)
                WAIT_FOR(rounds[i] > 0, "thread %d computes", i);
        test_ready();
        test_wait();
        /* break: wrong = 77; */
        for (int i = 0; i < N_THREADS; i++)
                seen[i] = rounds[i];
        for (int i = 0; i < N_THREADS; i++)
                WAIT_FOR(rounds[i] > seen[i] + 1, "thread %d goes on", i);
        stop = 1;
        for (int i = 0; i < N_THREADS; i++)
                CHECK(pthread_join(t[i], NULL) == 0, "pthread_join");
        test_pass();
}
