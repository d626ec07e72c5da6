/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* 200 threads, each with a tid, TLS, errno, signal mask, alternate stack and name of its own. */
#include "e2e.h"

#include <pthread.h>

#define N_THREADS 200

struct thread {
        pthread_t t;
        int i;
        pid_t tid;
        char alt[16384];
};

static struct thread threads[N_THREADS];
static struct gate ready, go;
static pthread_barrier_t barrier;
static __thread uint64_t tls_word = 1;
static __thread uint64_t tls_array[64];
static volatile sig_atomic_t on_altstack[N_THREADS];

static void on_usr1(int sig E2E_UNUSED) {
        char here;
        size_t i = tls_word - 1000;

        if (i < N_THREADS)
                on_altstack[i] = &here >= threads[i].alt && &here < threads[i].alt + sizeof(threads[i].alt);
}

/* A mask that tells threads apart: the bits of i on the real-time signals. */
static void mask_of(int i, sigset_t *ret) {
        sigemptyset(ret);
        sigaddset(ret, SIGTERM);
        for (int bit = 0; bit < 8; bit++)
                if (i & 1 << bit)
                        sigaddset(ret, SIGRTMIN + bit);
}

static void *run(void *arg) {
        struct thread *me = arg;
        char want[16], name[16];
        sigset_t mask, now;
        stack_t ss = { .ss_sp = me->alt, .ss_size = sizeof(me->alt) }, old;
        uint64_t *slot = &tls_word;

        me->tid = xgettid();
        tls_word = 1000 + (uint64_t)me->i;
        fill(tls_array, sizeof(tls_array), (uint64_t)me->i);
        snprintf(want, sizeof(want), "thread %d", me->i);
        CHECK(prctl(PR_SET_NAME, want) == 0, "PR_SET_NAME: %m");
        CHECK(sigaltstack(&ss, NULL) == 0, "sigaltstack: %m");
        mask_of(me->i, &mask);
        CHECK(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0, "sigmask");
        gate_open(&ready, 1);
        errno = 10000 + me->i;
        gate_pass(&go, 1);

        CHECK(errno == 10000 + me->i, "errno of thread %d is %d", me->i, errno);
        CHECK(xgettid() == me->tid, "tid %d is now %d", me->tid, xgettid());
        CHECK(pthread_self() == me->t, "pthread_self of thread %d", me->i);
        CHECK(slot == &tls_word && tls_word == 1000 + (uint64_t)me->i, "TLS of thread %d", me->i);
        check_filled(tls_array, sizeof(tls_array), (uint64_t)me->i, "TLS array");
        CHECK(prctl(PR_GET_NAME, name) == 0 && strcmp(name, want) == 0, "name '%s', not '%s'", name, want);
        CHECK(sigaltstack(NULL, &old) == 0 && old.ss_sp == me->alt && old.ss_size == sizeof(me->alt) &&
                      old.ss_flags == 0,
              "alternate stack of thread %d: %p %zu %d", me->i, old.ss_sp, old.ss_size, old.ss_flags);
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        for (int s = 1; s < 65; s++)
                CHECK(sigismember(&now, s) == sigismember(&mask, s), "thread %d: signal %d in its mask: %d",
                      me->i, s, sigismember(&now, s));
        CHECK(syscall(SYS_tgkill, getpid(), me->tid, SIGUSR1) == 0, "tgkill: %m");
        CHECK(on_altstack[me->i] == 1, "thread %d: the handler did not run on its stack", me->i);
        pthread_barrier_wait(&barrier);
        return me;
}

int main(int argc, char **argv) {
        struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = SA_ONSTACK };
        char text[32];

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        sigaction(SIGUSR1, &sa, NULL);
        CHECK(pthread_barrier_init(&barrier, NULL, N_THREADS) == 0, "barrier");
        for (int i = 0; i < N_THREADS; i++) {
                threads[i].i = i;
                CHECK(pthread_create(&threads[i].t, NULL, run, &threads[i]) == 0, "pthread_create");
        }
        gate_pass(&ready, N_THREADS);
        test_ready();
        test_wait();
        /* break: threads[7].tid++; */
        /* break: pthread_setname_np(threads[8].t, "other"); */
        /* break: threads[11].i = 12; */
        status_text(getpid(), "Threads", text, sizeof(text));
        CHECK(atoi(text) == N_THREADS + 1, "%s threads", text);
        gate_open(&go, N_THREADS);
        for (int i = 0; i < N_THREADS; i++) {
                void *r = NULL;

                CHECK(pthread_join(threads[i].t, &r) == 0 && r == &threads[i], "join of thread %d", i);
        }
        WAIT_FOR(status_u64(getpid(), "Threads", 10) == 1, "the threads end");
        /* New ones can be made. */
        CHECK(pthread_barrier_destroy(&barrier) == 0 && pthread_barrier_init(&barrier, NULL, 1) == 0,
              "barrier");
        CHECK(pthread_create(&threads[0].t, NULL, run, &threads[0]) == 0, "pthread_create");
        gate_pass(&ready, 1);
        gate_open(&go, 1);
        CHECK(pthread_join(threads[0].t, NULL) == 0, "join of a new thread");
        test_pass();
}
