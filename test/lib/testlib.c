/* SPDX-License-Identifier: GPL-2.0-only */
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "testlib.h"

#define CHILDREN_MAX 64
#define SLOTS_MAX    1000

/* One page shared by all processes of a test: who has said that it is ready. */
struct slots {
        uint32_t used;
        uint32_t ready[SLOTS_MAX];
};

static volatile sig_atomic_t stop_requested;
static char ready_path[PATH_MAX];
static struct slots *slots;
static uint32_t own_slot;
static struct {
        pid_t pid;
        uint32_t slot;
} children[CHILDREN_MAX];
static unsigned int n_children;

static void on_stop(int sig __attribute__((unused))) {
        stop_requested = 1;
}

static void vsay(const char *prefix, const char *fmt, va_list ap) {
        char line[1024];
        int n, m;

        n = snprintf(line, sizeof(line), "%s", prefix);
        m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
        if (m > 0)
                n += m;
        if (n > (int)sizeof(line) - 2)
                n = (int)sizeof(line) - 2;
        line[n++] = '\n';
        /* Nothing can be said about a failure to say something. */
        if (write(STDOUT_FILENO, line, (size_t)n) < 0)
                return;
}

void test_msg(const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        vsay("", fmt, ap);
        va_end(ap);
}

void test_pass(void) {
        test_msg("PASS");
        _exit(0);
}

void test_fail(const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        vsay("FAIL: ", fmt, ap);
        va_end(ap);
        _exit(1);
}

void test_fail_at(const char *file, int line, int error, const char *cond, const char *fmt, ...) {
        char text[512];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        test_fail("%s:%d: pid %d: %s: %s%s%s", file, line, (int)getpid(), cond, text, error ? ": " : "",
                  error ? strerror(error) : "");
}

void test_skip(const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        vsay("SKIP: ", fmt, ap);
        va_end(ap);
        _exit(77);
}

static void set_stop_mask(int how) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        SYS(sigprocmask(how, &set, NULL));
}

void test_init(int argc __attribute__((unused)), char **argv __attribute__((unused))) {
        struct sigaction sa = { .sa_handler = on_stop };
        char cwd[PATH_MAX];
        int n;

        SYS(sigaction(SIGTERM, &sa, NULL));
        set_stop_mask(SIG_BLOCK);
        /* Kept as an absolute path: the test may go elsewhere before it is ready. */
        if (!getcwd(cwd, sizeof(cwd)))
                test_fail("getcwd: %s", strerror(errno));
        n = snprintf(ready_path, sizeof(ready_path), "%s/ready", cwd);
        CHECK(n > 0 && n < (int)sizeof(ready_path) - 8, "the working directory's name is too long");
}

void test_ready(void) {
        char tmp[PATH_MAX + 8];
        int fd;

        /* By rename, so that the runner never sees the descriptor that writes it. */
        snprintf(tmp, sizeof(tmp), "%s.new", ready_path);
        fd = SYS(open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        SYS(close(fd));
        SYS(rename(tmp, ready_path));
}

void test_wait(void) {
        sigset_t mask;

        SYS(sigprocmask(SIG_BLOCK, NULL, &mask));
        sigdelset(&mask, SIGTERM);
        while (!stop_requested)
                sigsuspend(&mask);
}

void test_wait_busy(void (*step)(void *), void *arg) {
        test_allow_stop();
        while (!stop_requested)
                step(arg);
        set_stop_mask(SIG_BLOCK);
}

void test_allow_stop(void) {
        set_stop_mask(SIG_UNBLOCK);
}

bool test_stop_requested(void) {
        return stop_requested;
}

/* --- children --- */

pid_t test_fork(int (*fn)(void *), void *arg) {
        uint32_t slot;
        pid_t pid;

        CHECK(n_children < CHILDREN_MAX, "too many children");
        if (!slots)
                slots = test_shared(sizeof(*slots));
        slot = __atomic_fetch_add(&slots->used, 1, __ATOMIC_RELAXED);
        CHECK(slot < SLOTS_MAX, "too many processes");

        pid = SYS(fork());
        if (pid == 0) {
                n_children = 0;
                own_slot = slot;
                stop_requested = 0;
                _exit(fn(arg));
        }
        children[n_children].pid = pid;
        children[n_children++].slot = slot;
        return pid;
}

void test_child_ready(void) {
        CHECK(slots, "only in a child of test_fork()");
        __atomic_store_n(&slots->ready[own_slot], 1, __ATOMIC_RELEASE);
        test_futex_wake(&slots->ready[own_slot]);
}

void test_wait_children_ready(void) {
        for (unsigned int i = 0; i < n_children; i++)
                while (!__atomic_load_n(&slots->ready[children[i].slot], __ATOMIC_ACQUIRE)) {
                        siginfo_t info = { 0 };

                        SYS(waitid(P_PID, (id_t)children[i].pid, &info, WEXITED | WNOHANG | WNOWAIT));
                        CHECK(info.si_pid == 0, "child %d died before it was ready (%s %d)",
                              (int)children[i].pid, info.si_code == CLD_EXITED ? "exit status" : "signal",
                              info.si_status);
                        test_futex_wait(&slots->ready[children[i].slot], 0, 100);
                }
}

void test_stop_children(void) {
        for (unsigned int i = 0; i < n_children; i++)
                SYS(kill(children[i].pid, SIGTERM));
        for (unsigned int i = 0; i < n_children; i++) {
                int status;
                pid_t pid;

                do
                        pid = waitpid(children[i].pid, &status, 0);
                while (pid < 0 && errno == EINTR);
                CHECK(pid == children[i].pid, "waitpid(%d): %s", (int)children[i].pid, strerror(errno));
                CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child %d ended with %s %d",
                      (int)children[i].pid, WIFEXITED(status) ? "exit status" : "signal",
                      WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        }
        n_children = 0;
}

/* --- shared memory --- */

void *test_shared(size_t size) {
        return SYS(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

void test_futex_wait(uint32_t *word, uint32_t value, unsigned int ms) {
        struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

        syscall(SYS_futex, word, FUTEX_WAIT, value, &ts, NULL, 0);
}

void test_futex_wake(uint32_t *word) {
        syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void test_barrier_init(struct test_barrier *barrier, unsigned int n) {
        *barrier = (struct test_barrier){ .n = n };
}

void test_barrier_wait(struct test_barrier *barrier) {
        uint32_t round = __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE);

        if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == barrier->n) {
                __atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
                __atomic_add_fetch(&barrier->round, 1, __ATOMIC_RELEASE);
                test_futex_wake(&barrier->round);
                return;
        }
        while (__atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE) == round)
                test_futex_wait(&barrier->round, round, 1000);
}

/* --- contents --- */

static uint64_t next_random(uint64_t *state) {
        *state += 0x9e3779b97f4a7c15ULL;
        uint64_t z = *state;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return z ^ (z >> 31);
}

void test_fill(void *p, size_t size, uint64_t seed) {
        unsigned char *to = p;

        for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
                uint64_t v = next_random(&seed);

                memcpy(to + i, &v, size - i < sizeof(v) ? size - i : sizeof(v));
        }
}

void test_verify(const void *p, size_t size, uint64_t seed, const char *what) {
        const unsigned char *from = p;

        for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
                uint64_t v = next_random(&seed);

                if (memcmp(from + i, &v, size - i < sizeof(v) ? size - i : sizeof(v)) != 0)
                        test_fail("pid %d: %s: wrong contents at offset %zu of %zu (%p)", (int)getpid(),
                                  what, i, size, (const void *)(from + i));
        }
}
