/* SPDX-License-Identifier: GPL-2.0-only */
/* kernel/thread_facts.h: what is read of threads that tell themselves what they have. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "kernel/bpf.h"
#include "kernel/thread_facts.h"
#include "macro.h"

#define PENDING (1ULL << (SIGUSR1 - 1))

enum { THREADS = 20, STACK = 16384 };

struct told {
        unsigned int number;
        pthread_barrier_t *ready, *done;
        pid_t tid;
        bool failed;
        char comm[16], stack[STACK];
        uint64_t address;
        stack_t ss;
};

static void *tell(void *arg) {
        struct told *t = arg;
        stack_t ss = { .ss_sp = t->stack, .ss_size = sizeof(t->stack) };
        int r = 0;

        t->tid = gettid();
        snprintf(t->comm, sizeof(t->comm), "number %u", t->number);
        prctl(PR_SET_NAME, t->comm, 0, 0, 0);
        if (t->number % 2 == 1)
                r = sigaltstack(&ss, NULL);
        prctl(PR_SET_TIMERSLACK, 50000 + t->number, 0, 0, 0);
        /* Every third has credentials of its own, and a signal that waits; two have given up new privileges. */
        if (r == 0 && t->number % 3 == 1) {
                syscall(SYS_rt_sigprocmask, SIG_BLOCK, &(uint64_t){ PENDING }, NULL, 8);
                r = (int)syscall(SYS_tgkill, getpid(), t->tid, SIGUSR1);
        }
        if (r == 0 && t->number % 3 == 1)
                r = prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
        /* One with a descriptor table of its own, one with a working directory. */
        if (t->number == 4 || t->number == 5)
                r |= unshare(t->number == 4 ? CLONE_FILES : CLONE_FS);
        if (t->number == 3 || t->number == 6)
                r |= prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        t->failed = r != 0;
        prctl(PR_GET_TID_ADDRESS, &t->address, 0, 0, 0);
        if (r == 0)
                sigaltstack(NULL, &t->ss);
        pthread_barrier_wait(t->ready);
        pthread_barrier_wait(t->done);
        if (t->number % 2 == 1) /* a sanitizer would free it */
                sigaltstack(&(stack_t){ .ss_flags = SS_DISABLE }, NULL);
        return NULL;
}

static void check_told(const struct thread_fact_vec *facts, const struct told *t, pid_t other) {
        const struct thread_fact *fact = thread_facts_find(facts, t->tid);

        assert_non_null(fact);
        assert_int_equal(fact->tid, t->tid);
        assert_string_equal(fact->comm, t->comm);
        assert_int_equal(fact->tid_address, t->address);
        assert_int_equal(fact->ss_sp, (uintptr_t)t->ss.ss_sp);
        assert_int_equal(fact->ss_size, t->ss.ss_size);
        assert_int_equal(fact->ss_flags, t->ss.ss_flags);
        assert_true(thread_facts_alike(fact, fact));
        /* Each has a timer slack of its own. */
        assert_false(thread_facts_alike(fact, thread_facts_find(facts, other)));
}

/* Who has rights of its own, and who those of the others. */
static void check_rights(const struct thread_fact_vec *facts, const struct told *told) {
        const struct thread_fact *first = thread_facts_find(facts, told[0].tid);

        for (unsigned int i = 0; i < THREADS; i++) {
                const struct thread_fact *fact = thread_facts_find(facts, told[i].tid);

                assert_false(told[i].failed);
                assert_int_equal(fact->pending, i % 3 == 1 ? PENDING : 0);
                assert_int_equal(thread_facts_same_rights(first, fact), i % 3 != 1 && i != 3 && i != 6);
                assert_int_equal(fact->areas, first->areas);
                assert_int_equal(thread_facts_same_tables(first, fact), i != 4 && i != 5);
                assert_int_equal(fact->files == first->files, i != 4);
                assert_int_equal(fact->fs == first->fs, i != 5);
        }
        assert_true(thread_facts_same_rights(thread_facts_find(facts, told[3].tid),
                                             thread_facts_find(facts, told[6].tid)));
}

/* A thread of the check that has been joined is there until the kernel has done with it. */
static void read_settled(const struct thread_facts *f, struct thread_fact_vec *ret) {
        do {
                thread_fact_vec_done(ret);
                assert_int_equal(thread_facts_read(f, getpid(), ret), 0);
        } while (ret->n > THREADS + 1);
        assert_int_equal(ret->n, THREADS + 1);
}

static void test_told(void **state) {
        _cleanup_(bpf_free) struct bpf *b = NULL;
        _cleanup_(thread_facts_free) struct thread_facts *f = NULL;
        _cleanup_(thread_fact_vec_done) struct thread_fact_vec facts = { 0 };
        static struct told told[THREADS];
        pthread_barrier_t ready, done;
        pthread_t threads[THREADS];

        assert_int_equal(bpf_new(&b), 0);
        if (bpf_load(b) < 0) {
                print_message("no BPF here\n");
                skip();
        }
        assert_int_equal(thread_facts_open(b, &f), 0);
        pthread_barrier_init(&ready, NULL, THREADS + 1);
        pthread_barrier_init(&done, NULL, THREADS + 1);
        for (unsigned int i = 0; i < THREADS; i++) {
                told[i].number = i;
                told[i].ready = &ready;
                told[i].done = &done;
                assert_int_equal(pthread_create(&threads[i], NULL, tell, &told[i]), 0);
        }
        pthread_barrier_wait(&ready);
        read_settled(f, &facts);
        for (size_t i = 1; i < facts.n; i++)
                assert_true(facts.v[i - 1].tid < facts.v[i].tid);
        for (size_t i = 0; i < THREADS; i++)
                check_told(&facts, &told[i], told[(i + 1) % THREADS].tid);
        assert_null(thread_facts_find(&facts, 1));
        check_rights(&facts, told);
        pthread_barrier_wait(&done);
        for (unsigned int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        pthread_barrier_destroy(&ready);
        pthread_barrier_destroy(&done);
}

static void test_find(void **state) {
        struct thread_fact v[] = { { .tid = 3 },
                                   { .tid = 5, .likeness = { 1 } },
                                   { .tid = 9, .likeness = { 1 } } };
        const struct thread_fact_vec facts = { .v = v, .n = ELEMENTSOF(v) }, none = { 0 };

        assert_ptr_equal(thread_facts_find(&facts, 5), &v[1]);
        assert_null(thread_facts_find(&facts, 4));
        assert_null(thread_facts_find(&none, 4));
        assert_true(thread_facts_alike(&v[1], &v[2]));
        assert_false(thread_facts_same_rights(&v[1], &v[2])); /* not known */
        v[1].credentials = v[2].credentials = 7;
        assert_true(thread_facts_same_rights(&v[1], &v[2]));
        v[2].seccomp = 2;
        assert_false(thread_facts_same_rights(&v[1], &v[2]));
        for (size_t i = 0; i < THREAD_LIKENESS; i++) {
                v[2].likeness[i] ^= 1ULL << 63;
                assert_false(thread_facts_alike(&v[1], &v[2]));
                v[2].likeness[i] ^= 1ULL << 63;
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_told),
                cmocka_unit_test(test_find),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
