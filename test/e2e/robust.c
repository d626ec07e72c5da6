/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* Robust futexes: the list that each thread has registered, and what the kernel does with it when a holder dies
 * after the restore: a process, a thread, with somebody already waiting. Also the word that the kernel clears
 * when a thread ends, and priority inheritance. */
#include "e2e.h"

#include <pthread.h>

struct shared {
        pthread_mutex_t by_process, by_thread, contended, pi;
        int waiter_got;
};

static struct shared *sh;
static struct gate ready, go, thread_go;
static bool no_lists;

static void init_mutex(pthread_mutex_t *m, int protocol, int robust) {
        pthread_mutexattr_t a;

        CHECK(pthread_mutexattr_init(&a) == 0 &&
                      pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED) == 0 &&
                      pthread_mutexattr_setrobust(&a, robust) == 0 &&
                      pthread_mutexattr_setprotocol(&a, protocol) == 0 && pthread_mutex_init(m, &a) == 0,
              "a mutex");
}

static void get_list(void **head, size_t *len) {
        CHECK(syscall(SYS_get_robust_list, 0, head, len) == 0, "get_robust_list: %m");
}

/* Takes mutexes and ends without giving them back. */
static void run_holder(void) {
        void *head, *head_now;
        size_t len, len_now;

        CHECK(pthread_mutex_lock(&sh->by_process) == 0 && pthread_mutex_lock(&sh->contended) == 0 &&
                      pthread_mutex_lock(&sh->pi) == 0,
              "lock");
        get_list(&head, &len);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        get_list(&head_now, &len_now);
        CHECK(head == head_now && len == len_now && head, "robust list %p %zu, was %p %zu", head_now,
              len_now, head, len);
        CHECK(pthread_mutex_unlock(&sh->pi) == 0, "unlock with priority inheritance");
        _exit(9);
}

static void run_waiter(void) {
        int r;

        gate_open(&ready, 1);
        r = pthread_mutex_lock(&sh->contended);
        CHECK(r == EOWNERDEAD, "the waiter got %d (%s)", r, strerror(r));
        CHECK(pthread_mutex_consistent(&sh->contended) == 0 && pthread_mutex_unlock(&sh->contended) == 0,
              "unlock");
        r = pthread_mutex_lock(&sh->pi);
        CHECK(r == 0, "priority inheritance: %s", strerror(r));
        CHECK(pthread_mutex_unlock(&sh->pi) == 0, "unlock");
        _exit(10);
}

static void run_pi_waiter(void) {
        int r;

        gate_open(&ready, 1);
        r = pthread_mutex_lock(&sh->pi);
        CHECK(r == 0, "priority inheritance: %s", strerror(r));
        CHECK(pthread_mutex_unlock(&sh->pi) == 0, "unlock");
        _exit(11);
}

static void *run_thread(void *arg) {
        CHECK(pthread_mutex_lock(&sh->by_thread) == 0, "lock");
        gate_open(&ready, 1);
        gate_pass(&thread_go, 1);
        if (no_lists)
                CHECK(syscall(SYS_set_robust_list, NULL, (size_t)24) == 0, "set_robust_list: %m");
        return arg; /* holding it */
}

int main(int argc, char **argv) {
        pid_t holder, waiter, pi_waiter;
        struct timespec limit;
        pthread_t t;
        int r;

        test_init(argc, argv);
        sh = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(sh != MAP_FAILED, "mmap: %m");
        gate_init(&ready);
        gate_init(&go);
        gate_init(&thread_go);
        init_mutex(&sh->by_process, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST);
        init_mutex(&sh->by_thread, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST);
        init_mutex(&sh->contended, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST);
        init_mutex(&sh->pi, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED);
        holder = xfork();
        if (holder == 0)
                run_holder();
        gate_pass(&ready, 1);
        waiter = xfork();
        if (waiter == 0)
                run_waiter();
        pi_waiter = xfork();
        if (pi_waiter == 0)
                run_pi_waiter();
        gate_pass(&ready, 2);
        CHECK(pthread_create(&t, NULL, run_thread, NULL) == 0, "pthread_create");
        gate_pass(&ready, 1);
        WAIT_FOR(proc_state(waiter) == 'S' && proc_state(pi_waiter) == 'S', "the waiters wait");
        test_ready();
        test_wait();
        /* break: no_lists = true; */
        /* break: kill(waiter, SIGKILL); */
        /* break: pthread_mutex_init(&sh->by_process, NULL); */
        CHECK(pthread_mutex_trylock(&sh->by_process) == EBUSY &&
                      pthread_mutex_trylock(&sh->by_thread) == EBUSY &&
                      pthread_mutex_trylock(&sh->contended) == EBUSY &&
                      pthread_mutex_trylock(&sh->pi) == EBUSY,
              "a mutex was released");
        gate_open(&go, 1);
        xwait(holder, 9);
        xwait(pi_waiter, 11);
        xwait(waiter, 10);
        r = pthread_mutex_lock(&sh->by_process);
        CHECK(r == EOWNERDEAD, "the dead process's mutex: %s", strerror(r));
        gate_open(&thread_go, 1);
        /* By the word that the kernel clears and wakes. */
        CHECK(pthread_join(t, NULL) == 0, "pthread_join");
        CHECK(clock_gettime(CLOCK_REALTIME, &limit) == 0, "clock_gettime: %m");
        limit.tv_sec += 5;
        r = pthread_mutex_timedlock(&sh->by_thread, &limit);
        CHECK(r == EOWNERDEAD, "the dead thread's mutex: %s", strerror(r));
        test_pass();
}
