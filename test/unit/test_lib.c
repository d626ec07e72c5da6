/* SPDX-License-Identifier: GPL-2.0-only */
/* Arena, worker threads, the guard of the last step, blockers. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "dump/blockers.h"
#include "lib/arena.h"
#include "lib/kill_guard.h"
#include "lib/pool.h"
#include "lib/thread.h"

static void test_arena(void **state) {
        struct arena a = { 0 };
        char *small[1000], *large;

        for (size_t i = 0; i < 1000; i++) {
                small[i] = arena_alloc(&a, i);
                assert_int_equal((uintptr_t)small[i] % 16, 0);
                for (size_t j = 0; j < i; j++)
                        assert_int_equal(small[i][j], 0);
                if (i > 0)
                        memset(small[i], (int)i, i);
        }
        large = arena_alloc(&a, 10 << 20);
        memset(large, 1, 10 << 20);
        for (size_t i = 1; i < 1000; i++)
                for (size_t j = 0; j < i; j++)
                        assert_int_equal((unsigned char)small[i][j], i & 0xff);
        assert_string_equal(arena_printf(&a, "%d-%s", 7, "x"), "7-x");
        assert_string_equal(arena_strdup(&a, ""), "");
        arena_done(&a);
        assert_null(a.blocks);
}

static void *read_mask(void *arg) {
        pthread_sigmask(SIG_BLOCK, NULL, arg);
        return arg;
}

/* No signal reaches it, and the starter's own mask is as it was. */
static void test_thread(void **state) {
        sigset_t before, after, its;
        pthread_t thread;
        void *result;

        pthread_sigmask(SIG_BLOCK, NULL, &before);
        assert_int_equal(sigismember(&before, SIGUSR1), 0);
        sigemptyset(&its);
        assert_int_equal(thread_start(&thread, read_mask, &its), 0);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_ptr_equal(result, &its);
        assert_int_equal(sigismember(&its, SIGUSR1), 1);
        assert_int_equal(sigismember(&its, SIGINT), 1);
        pthread_sigmask(SIG_BLOCK, NULL, &after);
        for (int sig = 1; sig < NSIG; sig++)
                assert_int_equal(sigismember(&after, sig), sigismember(&before, sig));
        assert_true(thread_cpus() >= 1);
}

struct counter {
        struct pool *pool;
        unsigned int done, fail_at;
};

static int count(void *arg, struct ckpt_error *err) {
        struct counter *c = arg;
        unsigned int n = __atomic_add_fetch(&c->done, 1, __ATOMIC_SEQ_CST);

        if (n != c->fail_at)
                return 0;
        ckpt_error(err, -EIO, "job %u", n);
        return ckpt_error_hint(err, "Do not ask for %u", n);
}

static int add_more(void *arg, struct ckpt_error *err) {
        struct counter *c = arg;

        for (int i = 0; i < 10; i++)
                assert_int_equal(pool_add(c->pool, count, c), 0);
        return count(arg, err);
}

static void test_pool(void **state) {
        struct ckpt_error err = CKPT_ERROR_INIT;
        struct counter c = { 0 };

        assert_int_equal(pool_create(3, &c.pool, &err), 0);
        assert_int_equal(pool_threads(c.pool), 3);
        for (int i = 0; i < 100; i++)
                assert_int_equal(pool_add(c.pool, add_more, &c), 0);
        assert_int_equal(pool_wait(c.pool, &err), 0);
        assert_int_equal(c.done, 1100);

        pool_free(&c.pool);
        assert_null(c.pool);
}

/* The first failure is the pool's, and what has not begun is skipped. One thread, so that it is known what has. */
static void test_pool_failure(void **state) {
        struct ckpt_error err = CKPT_ERROR_INIT;
        struct counter c = { .fail_at = 5 };

        assert_int_equal(pool_create(1, &c.pool, &err), 0);
        for (int i = 0; i < 1000; i++)
                assert_int_equal(pool_add(c.pool, count, &c), 0);
        assert_int_equal(pool_wait(c.pool, &err), -EIO);
        assert_string_equal(ckpt_error_message(&err), "job 5");
        assert_string_equal(err.hint, "Do not ask for 5");
        assert_int_equal(c.done, 5);
        ckpt_error_clear(&err);

        /* And it works on afterwards. */
        c.done = c.fail_at = 0;
        assert_int_equal(pool_add(c.pool, count, &c), 0);
        assert_int_equal(pool_wait(c.pool, &err), 0);
        assert_int_equal(c.done, 1);
        pool_free(&c.pool);
}

struct shared_work {
        struct pool *pool;
        unsigned int todo, calls, by_helpers;
        bool need_helper; /* the caller goes on until one has come */
};

static void share_work(void *ctx, bool helper) {
        struct shared_work *w = ctx;

        __atomic_add_fetch(&w->calls, 1, __ATOMIC_SEQ_CST);
        while (!helper && w->need_helper && __atomic_load_n(&w->by_helpers, __ATOMIC_SEQ_CST) == 0)
                sched_yield();
        while (__atomic_load_n(&w->todo, __ATOMIC_SEQ_CST) > 0) {
                __atomic_sub_fetch(&w->todo, 1, __ATOMIC_SEQ_CST);
                if (helper)
                        __atomic_add_fetch(&w->by_helpers, 1, __ATOMIC_SEQ_CST);
        }
}

static int share_from_job(void *arg, struct ckpt_error *err __attribute__((unused))) {
        struct shared_work *w = arg;

        pool_share(w->pool, 1, share_work, w);
        return 0;
}

static void test_pool_share(void **state) {
        struct ckpt_error err = CKPT_ERROR_INIT;
        struct shared_work w = { .todo = 1, .need_helper = true };
        struct counter c = { .fail_at = 1 };

        assert_int_equal(pool_create(1, &w.pool, &err), 0);
        c.pool = w.pool;
        pool_share(w.pool, 1, share_work, &w);
        assert_int_equal(w.calls, 2);
        assert_int_equal(w.by_helpers, 1);

        /* Nobody is asked, or nobody has time: the caller does it alone, and who comes later touches nothing. */
        w = (struct shared_work){ .pool = w.pool, .todo = 3 };
        pool_share(w.pool, 0, share_work, &w);
        assert_int_equal(w.calls, 1);
        assert_int_equal(w.by_helpers, 0);
        for (int i = 0; i < 100; i++)
                assert_int_equal(pool_add(w.pool, share_from_job, &w), 0);
        assert_int_equal(pool_wait(w.pool, &err), 0);
        assert_int_equal(w.calls, 101);

        /* A job shares what the one that waits for all has time for. */
        w = (struct shared_work){ .pool = w.pool, .todo = 1, .need_helper = true };
        assert_int_equal(pool_add(w.pool, share_from_job, &w), 0);
        assert_int_equal(pool_join(w.pool, &err), 0);
        assert_int_equal(w.by_helpers, 1);

        /* A failure skips jobs, but not what keeps the books. */
        assert_int_equal(pool_add(w.pool, count, &c), 0);
        w.need_helper = false;
        pool_share(w.pool, 5, share_work, &w);
        assert_int_equal(pool_wait(w.pool, &err), -EIO);
        ckpt_error_clear(&err);
        pool_free(&w.pool);
}

/* Ends when it is let go. */
struct held {
        unsigned int begun, go;
};

static int hold(void *arg, struct ckpt_error *err) {
        struct held *h = arg;

        (void)err;
        __atomic_store_n(&h->begun, 1, __ATOMIC_SEQ_CST);
        while (!__atomic_load_n(&h->go, __ATOMIC_SEQ_CST))
                sched_yield();
        return 0;
}

/* A job of the pool that offers another one, and claims it. */
static int offer_within(void *arg, struct ckpt_error *err) {
        struct counter *c = arg;
        struct pool_offer offer;

        assert_int_equal(pool_offer(c->pool, count, c, &offer), 0);
        return pool_claim(&offer, err);
}

static void test_pool_offers(void **state) {
        struct ckpt_error err = CKPT_ERROR_INIT;
        struct pool_offer offer = { 0 }, other;
        struct held h = { 0 };
        struct counter c = { 0 };

        pool_withdraw(&offer); /* nothing is offered */
        assert_int_equal(pool_create(1, &c.pool, &err), 0);

        /* While the only worker is busy, whoever claims it does it, and nobody what was withdrawn. */
        assert_int_equal(pool_add(c.pool, hold, &h), 0);
        while (!__atomic_load_n(&h.begun, __ATOMIC_SEQ_CST))
                sched_yield();
        assert_int_equal(pool_offer(c.pool, count, &c, &offer), 0);
        assert_int_equal(pool_offer(c.pool, count, &c, &other), 0);
        pool_withdraw(&other);
        assert_int_equal(pool_claim(&offer, &err), 0);
        assert_int_equal(c.done, 1);
        pool_withdraw(&offer);
        __atomic_store_n(&h.go, 1, __ATOMIC_SEQ_CST);
        assert_int_equal(pool_wait(c.pool, &err), 0);
        assert_int_equal(c.done, 1);

        /* Done by the worker, it fails whoever claims it, and not the pool. */
        h = (struct held){ .go = 1 };
        c.fail_at = 2;
        assert_int_equal(pool_offer(c.pool, count, &c, &offer), 0);
        assert_int_equal(pool_offer(c.pool, hold, &h, &other), 0);
        while (!__atomic_load_n(&h.begun, __ATOMIC_SEQ_CST))
                sched_yield();
        assert_int_equal(pool_claim(&offer, &err), -EIO);
        assert_string_equal(ckpt_error_message(&err), "job 2");
        ckpt_error_clear(&err);
        assert_int_equal(pool_claim(&other, &err), 0);
        assert_int_equal(pool_wait(c.pool, &err), 0);

        for (int i = 0; i < 1000; i++)
                assert_int_equal(pool_add(c.pool, offer_within, &c), 0);
        assert_int_equal(pool_join(c.pool, &err), 0);
        assert_int_equal(c.done, 1002);
        pool_free(&c.pool);
}

static pid_t start_sleeper(void) {
        pid_t pid = fork();

        if (pid == 0)
                for (;;)
                        pause();
        return pid;
}

static bool is_killed(pid_t pid, int flags) {
        int status;

        return waitpid(pid, &status, flags) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void test_guard_disarmed(void **state) {
        struct kill_guard g = KILL_GUARD_INIT;
        pid_t pids[2] = { start_sleeper(), start_sleeper() };

        kill_guard_end(&g); /* never started */
        assert_int_equal(kill_guard_start(&g, NULL), 0);
        assert_int_equal(kill_guard_arm(&g, pids, 2, NULL), 0);
        kill_guard_end(&g);
        for (int i = 0; i < 2; i++) {
                assert_false(is_killed(pids[i], WNOHANG));
                kill(pids[i], SIGKILL);
                assert_true(is_killed(pids[i], 0));
        }
}

/* A process in ckpt's place arms the guard and dies. */
static void test_guard_of_the_dead(void **state) {
        pid_t pids[2] = { start_sleeper(), start_sleeper() }, tool = fork();

        if (tool == 0) {
                struct kill_guard g = KILL_GUARD_INIT;

                if (kill_guard_start(&g, NULL) < 0 || kill_guard_arm(&g, pids, 2, NULL) < 0)
                        _exit(1);
                raise(SIGKILL);
        }
        assert_true(is_killed(tool, 0));
        assert_true(is_killed(pids[0], 0));
        assert_true(is_killed(pids[1], 0));
}

/* It has not been armed: nothing is to end with the one that started it. */
static void test_guard_not_armed(void **state) {
        pid_t pid = start_sleeper(), tool, its_guard = 0;
        struct pollfd end = { .events = POLLIN };
        int p[2];

        assert_int_equal(pipe(p), 0);
        tool = fork();
        if (tool == 0) {
                struct kill_guard g = KILL_GUARD_INIT;

                if (kill_guard_start(&g, NULL) < 0 || write(p[1], &g.pid, sizeof(g.pid)) != sizeof(g.pid))
                        _exit(1);
                raise(SIGKILL);
        }
        assert_int_equal(read(p[0], &its_guard, sizeof(its_guard)), sizeof(its_guard));
        assert_true(is_killed(tool, 0));
        end.fd = (int)syscall(SYS_pidfd_open, its_guard, 0);
        if (end.fd >= 0)
                assert_int_equal(poll(&end, 1, -1), 1);
        assert_false(is_killed(pid, WNOHANG));
        kill(pid, SIGKILL);
        assert_true(is_killed(pid, 0));
        close(end.fd);
        close(p[0]);
        close(p[1]);
}

static void test_guard_dies_itself(void **state) {
        struct kill_guard g = KILL_GUARD_INIT;
        pid_t pid = start_sleeper();

        assert_int_equal(kill_guard_start(&g, NULL), 0);
        assert_int_equal(kill_guard_arm(&g, &pid, 1, NULL), 0);
        kill(g.pid, SIGKILL);
        kill_guard_end(&g);
        assert_false(is_killed(pid, WNOHANG));
        kill(pid, SIGKILL);
        assert_true(is_killed(pid, 0));
}

static void test_blockers(void **state) {
        struct ckpt_error err = CKPT_ERROR_INIT;
        struct blockers *b = blockers_new();
        const char *hint;

        assert_int_equal(blockers_to_error(b, "state", &err), 0);
        assert_false(ckpt_error_is_set(&err));
        blocker_add(b, "do this", "pid %d: one", 1);
        blocker_add(b, "do this", "pid %d: one", 1);
        blocker_add(b, "do this", "pid %d: two", 2);
        blocker_add(b, NULL, "pid %d: three", 3);
        assert_int_equal(blockers_count(b), 3);
        assert_string_equal(blocker_message(b, 2, &hint), "pid 3: three");
        assert_null(hint);
        assert_int_equal(blockers_to_error(b, "nothing was changed", &err), -ENOTSUP);
        assert_string_equal(err.what, "pid 1: one\npid 2: two\npid 3: three\nnothing was changed");
        assert_string_equal(err.hint, "do this");
        ckpt_error_clear(&err);
        blockers_free(&b);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_arena),
                cmocka_unit_test(test_thread),
                cmocka_unit_test(test_pool),
                cmocka_unit_test(test_pool_failure),
                cmocka_unit_test(test_pool_share),
                cmocka_unit_test(test_pool_offers),
                cmocka_unit_test(test_guard_disarmed),
                cmocka_unit_test(test_guard_of_the_dead),
                cmocka_unit_test(test_guard_not_armed),
                cmocka_unit_test(test_guard_dies_itself),
                cmocka_unit_test(test_blockers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
