/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* Alternate stacks: set, disabled, with SS_AUTODISARM, and in use: threads that are dumped inside handlers (one
 * nested in another) return from them to where they were, with the mask they had. */
#include "e2e.h"

#include <pthread.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

enum { IDLE, INSIDE, NESTED, AUTODISARM, DISABLED, N_THREADS };

struct thread {
        pthread_t t;
        int kind;
        pid_t tid;
        int handled;
        char stack[65536];
};

static struct thread threads[N_THREADS];
static struct gate ready, go;
static __thread struct thread *me;

static bool inside(const void *p) {
        return (const char *)p >= me->stack && (const char *)p < me->stack + sizeof(me->stack);
}

static void check_stack(void *sp, size_t size, int flags) {
        stack_t now;

        CHECK(sigaltstack(NULL, &now) == 0, "sigaltstack: %m");
        CHECK(now.ss_flags == flags, "thread %d: flags 0x%x, not 0x%x", me->kind, (unsigned)now.ss_flags,
              (unsigned)flags);
        if (flags != SS_DISABLE)
                CHECK(now.ss_sp == sp && now.ss_size == size, "thread %d: stack %p %zu", me->kind, now.ss_sp,
                      now.ss_size);
}

static void wait_inside(void) {
        uint64_t local[100];
        sigset_t mask;

        fill(local, sizeof(local), (uint64_t)me->kind);
        CHECK(inside(local), "thread %d: the handler is not on its stack", me->kind);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        check_filled(local, sizeof(local), (uint64_t)me->kind, "local variables of a handler");
        pthread_sigmask(SIG_SETMASK, NULL, &mask);
        CHECK(sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGHUP), "thread %d: mask in the handler",
              me->kind);
        if (me->kind == AUTODISARM) {
                check_stack(NULL, 0, SS_DISABLE);
        } else {
                stack_t other = { .ss_sp = local, .ss_size = 65536 };

                check_stack(me->stack, sizeof(me->stack), SS_ONSTACK);
                CHECK(sigaltstack(&other, NULL) < 0 && errno == EPERM, "a stack in use was changed");
        }
}

static void on_usr2(int sig E2E_UNUSED) {
        wait_inside();
        me->handled++;
}

static void on_usr1(int sig E2E_UNUSED) {
        char here[64];

        memset(here, 77, sizeof(here));
        if (me->kind == NESTED)
                syscall(SYS_tgkill, getpid(), me->tid, SIGUSR2);
        else if (me->kind != IDLE)
                wait_inside();
        for (size_t i = 0; i < sizeof(here); i++)
                CHECK(here[i] == 77, "local variables of the outer handler");
        me->handled++;
        if (me->kind == IDLE)
                CHECK(inside(here), "the idle thread's handler is not on its stack");
}

static void *run(void *arg) {
        stack_t ss;
        sigset_t before, after;

        me = arg;
        me->tid = xgettid();
        ss = (stack_t){ .ss_sp = me->stack, .ss_size = sizeof(me->stack) };
        if (me->kind == AUTODISARM)
                ss.ss_flags = (int)SS_AUTODISARM;
        if (me->kind == DISABLED)
                ss.ss_flags = SS_DISABLE;
        CHECK(sigaltstack(&ss, NULL) == 0, "sigaltstack: %m");
        pthread_sigmask(SIG_SETMASK, NULL, &before);
        if (me->kind == IDLE || me->kind == DISABLED) {
                gate_open(&ready, 1);
                gate_pass(&go, 1);
        }
        if (me->kind == DISABLED) {
                check_stack(NULL, 0, SS_DISABLE);
                return NULL;
        }
        if (me->kind == IDLE)
                check_stack(me->stack, sizeof(me->stack), 0);
        CHECK(syscall(SYS_tgkill, getpid(), me->tid, SIGUSR1) == 0, "tgkill: %m");
        CHECK(me->handled == (me->kind == NESTED ? 2 : 1), "thread %d: %d handlers", me->kind, me->handled);
        pthread_sigmask(SIG_SETMASK, NULL, &after);
        CHECK(memcmp(&before, &after, 8) == 0, "mask after the handler");
        check_stack(me->stack, sizeof(me->stack), me->kind == AUTODISARM ? (int)SS_AUTODISARM : 0);
        return me;
}

int main(int argc, char **argv) {
        struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = SA_ONSTACK };

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        sigaction(SIGUSR1, &sa, NULL);
        sa.sa_handler = on_usr2;
        sigaction(SIGUSR2, &sa, NULL);
        for (int i = 0; i < N_THREADS; i++) {
                threads[i].kind = i;
                CHECK(pthread_create(&threads[i].t, NULL, run, &threads[i]) == 0, "pthread_create");
        }
        gate_pass(&ready, N_THREADS);
        test_ready();
        test_wait();
        /* break: signal(SIGUSR1, SIG_IGN); */
        /* break: threads[NESTED].kind = INSIDE; */
        /* break: memset(threads[INSIDE].stack + 60000, 1, 5000); */
        gate_open(&go, N_THREADS);
        for (int i = 0; i < N_THREADS; i++)
                CHECK(pthread_join(threads[i].t, NULL) == 0, "pthread_join");
        test_pass();
}
