/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

/* What the end-to-end programs share besides testlib: gates between processes, /proc readers, clocks.
 *
 * A line "break: STATEMENT" in a comment of a test program is a mutant: test/e2e/_prove.py puts the
 * statement in and demands that the program then fails, so that no check is one that cannot fail. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "testlib.h"

#define E2E_UNUSED  __attribute__((unused))
#define ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE        ((size_t)4096)
#define NS_PER_S    1000000000LL

/* A pipe on which processes or threads wait for each other: one byte lets one of them through. */
struct gate {
        int r, w;
};

static inline void gate_init(struct gate *g) {
        int fd[2];

        CHECK(pipe2(fd, 0) == 0, "pipe: %m");
        g->r = fd[0];
        g->w = fd[1];
}

static inline void gate_open(const struct gate *g, int n) {
        for (int i = 0; i < n; i++)
                CHECK(write(g->w, "x", 1) == 1, "write to a gate: %m");
}

/* Not EINTR either: a wait that was checkpointed must not show it. */
static inline void gate_pass(const struct gate *g, int n) {
        for (int i = 0; i < n; i++) {
                char c = 0;
                ssize_t r = read(g->r, &c, 1);

                CHECK(r == 1 && c == 'x', "read from a gate gave %zd (%s)", r, r < 0 ? strerror(errno) : "");
        }
}

/* fork, with buffers flushed so that nothing is printed twice */
static inline pid_t xfork(void) {
        pid_t pid;

        fflush(stdout);
        fflush(stderr);
        pid = fork();
        CHECK(pid >= 0, "fork: %m");
        return pid;
}

/* Waits for that child and demands that it exits with that status. */
static inline void xwait(pid_t pid, int status) {
        int st = -1;
        pid_t r = waitpid(pid, &st, 0);

        CHECK(r == pid, "waitpid(%d) gave %d: %m", pid, r);
        CHECK(WIFEXITED(st) && WEXITSTATUS(st) == status,
              "child %d ended with wait status 0x%x, wanted exit %d", pid, (unsigned)st, status);
}

/* Life goes on: fork, exit, wait. */
static inline void check_fork(void) {
        pid_t pid = xfork();

        if (pid == 0)
                _exit(42);
        xwait(pid, 42);
}

/* A child that says test_ready() for a program that will be unable to: no descriptor free, another root, no
 * privileges. Start it before the change; ready_go() ends and reaps it. */
struct ready_helper {
        struct gate g;
        pid_t pid;
};

static inline void ready_start(struct ready_helper *h) {
        gate_init(&h->g);
        h->pid = xfork();
        if (h->pid == 0) {
                gate_pass(&h->g, 1);
                test_ready();
                _exit(0);
        }
        close(h->g.r);
}

static inline void ready_go(struct ready_helper *h) {
        gate_open(&h->g, 1);
        close(h->g.w);
        xwait(h->pid, 0);
}

static inline int64_t now_ns(clockid_t clock) {
        struct timespec ts;

        CHECK(clock_gettime(clock, &ts) == 0, "clock_gettime: %m");
        return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static inline void tick(void) {
        struct timespec ts = { .tv_nsec = 1000000 };

        (void)nanosleep(&ts, NULL);
}

/* For state that only /proc shows: asks again every millisecond, gives up after ten seconds. */
#define WAIT_FOR(cond, fmt, ...)                                                                        \
        do {                                                                                            \
                int64_t _end = now_ns(CLOCK_MONOTONIC) + 100 * NS_PER_S;                                \
                while (!(cond)) {                                                                       \
                        CHECK(now_ns(CLOCK_MONOTONIC) < _end, "never: " #cond ": " fmt, ##__VA_ARGS__); \
                        tick();                                                                         \
                }                                                                                       \
        } while (0)

/* Reads a whole file of /proc into buf, NUL-terminated; returns its length or -1. Uses no descriptor below
 * what is free and no heap, so that it can be called in the state under test. */
static inline ssize_t read_file(const char *path, char *buf, size_t size) {
        size_t n = 0;
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return -1;
        while (n < size - 1) {
                ssize_t r = read(fd, buf + n, size - 1 - n);

                if (r <= 0)
                        break;
                n += (size_t)r;
        }
        buf[n] = 0;
        close(fd);
        return (ssize_t)n;
}

/* The text after "KEY:" in /proc/PID/task/TID/status, without leading blanks. */
static inline void status_text(pid_t tid, const char *key, char *out, size_t size) {
        char path[64], buf[8192], *p;
        size_t len = strlen(key);

        snprintf(path, sizeof(path), "/proc/%d/status", tid);
        CHECK(read_file(path, buf, sizeof(buf)) > 0, "read %s: %m", path);
        for (p = buf; p; p = strchr(p, '\n')) {
                p += *p == '\n';
                if (strncmp(p, key, len) == 0 && p[len] == ':')
                        break;
        }
        CHECK(p, "no %s in %s", key, path);
        p += len + 1;
        p += strspn(p, " \t");
        snprintf(out, size, "%.*s", (int)strcspn(p, "\n"), p);
}

static inline uint64_t status_u64(pid_t tid, const char *key, int base) {
        char text[256];

        status_text(tid, key, text, sizeof(text));
        return strtoull(text, NULL, base);
}

/* Field n (as numbered in proc_pid_stat(5), 3 or more) of /proc/PID/stat as text. */
static inline void stat_field(pid_t pid, int n, char *out, size_t size) {
        char path[64], buf[2048], *p;

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        CHECK(read_file(path, buf, sizeof(buf)) > 0, "read %s: %m", path);
        p = strrchr(buf, ')');
        CHECK(p, "%s has no command name", path);
        for (int i = 2; p && i < n; i++)
                p = strchr(p + 1, ' ');
        CHECK(p, "%s has no field %d", path, n);
        p++;
        snprintf(out, size, "%.*s", (int)strcspn(p, " \n"), p);
}

static inline uint64_t stat_u64(pid_t pid, int n) {
        char text[64];

        stat_field(pid, n, text, sizeof(text));
        return strtoull(text, NULL, 10);
}

static inline char proc_state(pid_t pid) {
        char text[8];

        stat_field(pid, 3, text, sizeof(text));
        return text[0];
}

/* One VMA of /proc/self/smaps. */
struct vma {
        uint64_t start, end, off;
        char perms[8], flags[128], path[256];
        uint64_t rss_kb, pss_kb, anon_kb, swap_kb, locked_kb, huge_kb;
};

/* Finds the VMA that holds addr; false when there is none. Linear: not for thousands of calls. */
static inline bool find_vma(const void *addr, struct vma *ret) {
        uint64_t a = (uint64_t)(uintptr_t)addr;
        char line[512];
        bool in = false;
        FILE *f = fopen("/proc/self/smaps", "re");

        CHECK(f, "open smaps: %m");
        while (fgets(line, sizeof(line), f)) {
                struct vma v = { 0 };

                if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %255[^\n]", &v.start,
                           &v.end, v.perms, &v.off, v.path) >= 4) {
                        if (in)
                                break;
                        in = a >= v.start && a < v.end;
                        if (in)
                                *ret = v;
                        continue;
                }
                if (!in)
                        continue;
                (void)sscanf(line, "Rss: %" SCNu64, &ret->rss_kb);
                (void)sscanf(line, "Pss: %" SCNu64, &ret->pss_kb);
                (void)sscanf(line, "Anonymous: %" SCNu64, &ret->anon_kb);
                (void)sscanf(line, "Swap: %" SCNu64, &ret->swap_kb);
                (void)sscanf(line, "Locked: %" SCNu64, &ret->locked_kb);
                (void)sscanf(line, "AnonHugePages: %" SCNu64, &ret->huge_kb);
                (void)sscanf(line, "VmFlags: %127[^\n]", ret->flags);
        }
        fclose(f);
        return in;
}

static inline bool vma_has_flag(const struct vma *v, const char *two) {
        for (const char *p = v->flags; *p; p += strcspn(p, " "), p += strspn(p, " "))
                if (strncmp(p, two, 2) == 0)
                        return true;
        return false;
}

/* What was sent over the network, even lo, need not have arrived when send(2) returns: a busy kernel leaves it to ksoftirqd. */
static inline void wait_readable(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN };

        CHECK(poll(&p, 1, 30000) == 1, "nothing came for 30 s");
}

/* MLOCK_ONFAULT; older kernels have no name for it. */
static inline bool vma_is_onfault(const struct vma *v) {
        return vma_has_flag(v, "lf") || vma_has_flag(v, "??");
}

/* A pattern that differs between pages and words, and is told by a seed. */
static inline uint64_t pattern(uint64_t seed, uint64_t i) {
        uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15ULL + i * 0xbf58476d1ce4e5b9ULL;

        return (x ^ (x >> 29)) | 1;
}

static inline void fill(void *mem, size_t size, uint64_t seed) {
        uint64_t *p = mem;

        for (size_t i = 0; i < size / 8; i++)
                p[i] = pattern(seed, i);
}

static inline void check_filled(const void *mem, size_t size, uint64_t seed, const char *what) {
        const uint64_t *p = mem;

        for (size_t i = 0; i < size / 8; i++)
                CHECK(p[i] == pattern(seed, i), "%s: word %zu (at %p) is 0x%" PRIx64, what, i,
                      (const void *)(p + i), p[i]);
}

static inline void check_zero(const void *mem, size_t size, const char *what) {
        const uint64_t *p = mem;

        for (size_t i = 0; i < size / 8; i++)
                CHECK(p[i] == 0, "%s: word %zu is 0x%" PRIx64 ", not 0", what, i, p[i]);
}

/* True when an access of that kind works, false when it faults. */
static inline bool can_access(const void *addr, bool write_too) {
        pid_t pid = xfork();
        int st;

        if (pid == 0) {
                volatile char *p = (volatile char *)(uintptr_t)addr;
                char c;

                signal(SIGSEGV, SIG_DFL);
                signal(SIGBUS, SIG_DFL);
                c = *p;
                if (write_too)
                        *p = c;
                _exit(0);
        }
        CHECK(waitpid(pid, &st, 0) == pid, "waitpid: %m");
        return WIFEXITED(st) && WEXITSTATUS(st) == 0;
}

static inline pid_t xgettid(void) {
        return (pid_t)syscall(SYS_gettid);
}

/* A fresh file in the current directory (the runner's private one), named after the program's pid. */
static inline int make_file(char path[64], const char *tag, const void *data, size_t size) {
        int fd;

        snprintf(path, 64, "%s.%d", tag, getpid());
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
        CHECK(fd >= 0, "create %s: %m", path);
        if (size > 0)
                CHECK(write(fd, data, size) == (ssize_t)size, "write %s: %m", path);
        return fd;
}
