/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a program that is dumped and restored needs to say and to check.
 *
 *      int main(int argc, char **argv) {
 *              test_init(argc, argv);
 *              ... set up the state under test ...
 *              test_ready();                   the runner may dump from here on, as often as it likes
 *              test_wait();                    until the runner says that the time for checking has come
 *              CHECK(value == 42, "value is %d", value);
 *              test_pass();
 *      }
 *
 * The working directory is the test's own and empty: use relative names. stdin is /dev/null, stdout and stderr
 * are one regular file. The library itself uses only what every ckpt can carry: signals, regular files and, for
 * children, one page of shared anonymous memory. It owns SIGTERM (blocked outside the waits).
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

/* First thing in main(). */
void test_init(int argc, char **argv);

/* The state is set up: tell the runner. Leaves no descriptor behind. */
void test_ready(void);

/* Sleep until the runner sends SIGTERM. The signal mask is the caller's own again afterwards. */
void test_wait(void);

/* As test_wait(), but call step(arg) over and over meanwhile, so that the program is dumped while busy. */
void test_wait_busy(void (*step)(void *), void *arg);

/*
 * For waits of the test's own: let SIGTERM in, so that a blocking call ends with EINTR (the handler has no
 * SA_RESTART) and loops can ask test_stop_requested().
 */
void test_allow_stop(void);
bool test_stop_requested(void);

/* How it ended. In a child of test_fork() test_fail() makes test_stop_children() of its parent fail too. */
void test_pass(void) __attribute__((noreturn));
void test_fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* Only before test_ready(): this machine cannot show what the test is about. */
void test_skip(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* One line into the test's output, shown when it fails. Async-signal-safe enough for tests; no stdio buffer. */
void test_msg(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void test_fail_at(const char *file, int line, int error, const char *cond, const char *fmt, ...)
        __attribute__((noreturn, format(printf, 5, 6)));

/* CHECK(condition, "what was seen: %d", seen) */
#define CHECK(cond, ...)                                                         \
        do {                                                                     \
                if (!(cond))                                                     \
                        test_fail_at(__FILE__, __LINE__, 0, #cond, __VA_ARGS__); \
        } while (0)

/* CHECK_EQ(got, want): both are integers. */
#define CHECK_EQ(got, want)                                                                             \
        do {                                                                                            \
                long long _got_ = (long long)(got), _want_ = (long long)(want);                         \
                if (_got_ != _want_)                                                                    \
                        test_fail_at(__FILE__, __LINE__, 0, #got " == " #want,                          \
                                     "%lld (0x%llx), not %lld (0x%llx)", _got_, _got_, _want_, _want_); \
        } while (0)

/* The value of a call that answers -1 and errno; fails the test with errno's text when it does. */
#define SYS(call)                                                                          \
        ({                                                                                 \
                __typeof__(call) _sys_ = (call);                                           \
                if (_sys_ == (__typeof__(call))-1)                                         \
                        test_fail_at(__FILE__, __LINE__, errno, #call, "the call failed"); \
                _sys_;                                                                     \
        })

/* --- children --------------------------------------------------------------------------------------------- */

/*
 * Fork a child that runs fn(arg) and exits with what it returns. The parent goes on at once; up to 64 live
 * children per process, grandchildren work alike. Returns the child's pid.
 */
pid_t test_fork(int (*fn)(void *), void *arg);

/* In the child: its state is set up. Then usually test_wait(), which ends when the parent stops it. */
void test_child_ready(void);

/* In the parent: wait until every child has said so; fails when one has died before. */
void test_wait_children_ready(void);

/* In the parent: SIGTERM each child of test_fork() and wait for it; fails unless each exits with 0. */
void test_stop_children(void);

/* --- shared memory ---------------------------------------------------------------------------------------- */

/* Zeroed memory shared with all children forked later (MAP_SHARED|MAP_ANONYMOUS). Never freed. */
void *test_shared(size_t size);

struct test_barrier {
        uint32_t n, arrived, round;
};

/* In shared memory, for n processes or threads. */
void test_barrier_init(struct test_barrier *barrier, unsigned int n);
void test_barrier_wait(struct test_barrier *barrier);

/* Sleep while *word is `value`, at most ms milliseconds; woken by test_futex_wake(). Works across processes. */
void test_futex_wait(uint32_t *word, uint32_t value, unsigned int ms);
void test_futex_wake(uint32_t *word);

/* --- contents --------------------------------------------------------------------------------------------- */

/* Fill with bytes that follow from the seed, and fail (with the first wrong offset) unless they still stand. */
void test_fill(void *p, size_t size, uint64_t seed);
void test_verify(const void *p, size_t size, uint64_t seed, const char *what);
