/* SPDX-License-Identifier: GPL-2.0-only */
/* Targets for the tests of compel: processes forked here, watched through a shared page, killed by pid. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "compel/compel.h"
#include "macro.h"

enum {
        DEADLINE_MS = 60000, /* for what takes milliseconds on an idle machine */
        THREADS_MAX = 512,
};

#define tidy __attribute__((unused)) static

/* What a target tells the test, and the test the target. */
struct shared {
        int ready;      /* set by the target when it is set up */
        int go;         /* set by the test */
        uint64_t beats; /* counted up by the target as long as all is well with it */
        int failed;     /* line number of the target's first complaint */
        int64_t ret;
        int err;
        int64_t elapsed_ns, extra;
        uint32_t word;
        int fd[2];
        int nr_got;
        int got[4096];
        pid_t pid;
};

struct target {
        pid_t pid;
        struct shared *sh;
};

tidy int64_t now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Not a fixed sleep: a pause between two looks at a condition. */
tidy void between_looks(void) {
        struct timespec ts = { 0, 200 * 1000 };

        nanosleep(&ts, NULL);
}

#define eventually(cond)                                                    \
        ({                                                                  \
                int64_t until_ = now_ns() + (int64_t)DEADLINE_MS * 1000000; \
                bool ok_;                                                   \
                while (!(ok_ = (cond)) && now_ns() < until_)                \
                        between_looks();                                    \
                ok_;                                                        \
        })

#define assert_eventually(cond) assert_true(eventually(cond))

/* In a target. */
#define complain_if(sh, cond)                    \
        do {                                     \
                if ((cond) && (sh)->failed == 0) \
                        (sh)->failed = __LINE__; \
        } while (0)

#define get(p)    __atomic_load_n(&(p), __ATOMIC_SEQ_CST)
#define set(p, v) __atomic_store_n(&(p), (v), __ATOMIC_SEQ_CST)

tidy struct target target_start(void (*fn)(struct shared *sh)) {
        struct target t = { 0 };
        pid_t parent = getpid();

        t.sh = mmap(NULL, sizeof(*t.sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(t.sh != MAP_FAILED);
        t.pid = fork();
        assert_true(t.pid >= 0);
        if (t.pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() != parent)
                        _exit(1);
                fn(t.sh);
                _exit(0);
        }
        return t;
}

tidy void target_end(struct target *t) {
        if (t->pid > 0) {
                kill(t->pid, SIGKILL);
                while (waitpid(t->pid, NULL, __WALL) < 0 && errno == EINTR)
                        ;
        }
        if (t->sh)
                munmap(t->sh, sizeof(*t->sh));
        *t = (struct target){ 0 };
}

tidy size_t read_proc(pid_t pid, const char *name, char *buf, size_t size) {
        char path[64];
        size_t len = 0;
        ssize_t n;
        int fd;

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        while (fd >= 0 && len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
                len += (size_t)n;
        safe_close(fd);
        buf[len] = '\0';
        return len;
}

/* R, S, D, T, t, Z ...; 0: gone. */
tidy char state_of(pid_t tid) {
        char buf[512], *p;

        read_proc(tid, "stat", buf, sizeof(buf));
        p = strrchr(buf, ')');
        return p ? p[2] : '\0';
}

/* A wait that was interrupted may go on as restart_syscall(2). */
tidy bool sleeps_in(pid_t tid, long nr) {
        char buf[256];

        read_proc(tid, "syscall", buf, sizeof(buf));
        return buf[0] >= '0' && buf[0] <= '9' && (atol(buf) == nr || atol(buf) == SYS_restart_syscall) &&
               state_of(tid) == 'S';
}

tidy size_t tids_of(pid_t pid, pid_t *tids, size_t max) {
        char path[64];
        struct dirent *e;
        size_t n = 0;
        DIR *d;

        snprintf(path, sizeof(path), "/proc/%d/task", pid);
        d = opendir(path);
        while (d && (e = readdir(d)) && n < max)
                if (atoi(e->d_name) > 0)
                        tids[n++] = atoi(e->d_name);
        if (d)
                closedir(d);
        return n;
}

/*
 * What a visit must leave as it was: the memory map, the open descriptors, the signal masks of all
 * threads.
 */
struct snapshot {
        char maps[64 * 1024], fds[4096], masks[THREADS_MAX * 64];
};

tidy void snapshot_fds(pid_t pid, char *buf, size_t size) {
        char path[64];
        struct dirent *e;
        size_t len = 0;
        DIR *d;

        snprintf(path, sizeof(path), "/proc/%d/fd", pid);
        d = opendir(path);
        buf[0] = '\0';
        while (d && (e = readdir(d)) && len + 300 < size) {
                char link[256];
                ssize_t n = e->d_name[0] == '.' ? -1 : readlinkat(dirfd(d), e->d_name, link, sizeof(link));

                if (n >= 0)
                        len += (size_t)snprintf(buf + len, size - len, "%s %.*s\n", e->d_name, (int)n, link);
        }
        if (d)
                closedir(d);
}

tidy void snapshot_masks(pid_t pid, char *buf, size_t size) {
        pid_t tids[THREADS_MAX];
        size_t n = tids_of(pid, tids, THREADS_MAX), len = 0;

        buf[0] = '\0';
        for (size_t i = 0; i < n; i++) {
                char status[4096], *p;

                read_proc(tids[i], "status", status, sizeof(status));
                p = strstr(status, "SigBlk:");
                if (p)
                        len += (size_t)snprintf(buf + len, size - len, "%d %.25s", tids[i], p);
        }
}

tidy void snapshot_take(pid_t pid, struct snapshot *s) {
        memset(s, 0, sizeof(*s));
        read_proc(pid, "maps", s->maps, sizeof(s->maps));
        snapshot_fds(pid, s->fds, sizeof(s->fds));
        snapshot_masks(pid, s->masks, sizeof(s->masks));
}

tidy bool snapshot_holds(pid_t pid, const struct snapshot *s) {
        static struct snapshot now;

        snapshot_take(pid, &now);
        return strcmp(now.maps, s->maps) == 0 && strcmp(now.fds, s->fds) == 0 &&
               strcmp(now.masks, s->masks) == 0;
}

/* Stopped threads of a target; threads[0] is the driver. */
struct stopped {
        struct compel_thread thread[THREADS_MAX];
        size_t n;
};

tidy void let_go(struct stopped *s) {
        while (s->n > 0)
                compel_release(&s->thread[--s->n]);
}

tidy int stop_tids(struct stopped *s, const pid_t *tids, size_t n, unsigned long options) {
        int r = 0;

        s->n = 0;
        for (size_t i = 0; i < n && r == 0; i++)
                r = compel_seize(&s->thread[s->n++], tids[i], options);
        for (size_t i = 0; i < n && r == 0; i++)
                r = compel_wait_stop(&s->thread[i], DEADLINE_MS);
        if (r < 0)
                let_go(s);
        return r;
}

tidy int stop_all(struct stopped *s, pid_t pid) {
        pid_t tids[THREADS_MAX];

        return stop_tids(s, tids, tids_of(pid, tids, THREADS_MAX), 0);
}

/* Begin a visit; -EAGAIN is the caller's. */
tidy int enter(struct stopped *s, struct compel_visit **v, struct ckpt_error *err) {
        return compel_visit_begin(s->thread, s->n, v, err);
}

/* All that a dump does with a process: stop it, send every thread through the agent, let go. */
tidy int visit_everyone(pid_t pid, unsigned int rounds, struct ckpt_error *err) {
        static struct stopped s;
        struct compel_visit *v = NULL;
        int r;

        do {
                r = stop_all(&s, pid);
                if (r < 0)
                        return r;
                r = enter(&s, &v, err);
                if (r < 0)
                        let_go(&s);
        } while (r == -EAGAIN);
        for (unsigned int k = 0; r == 0 && k < rounds; k++)
                for (size_t i = 0; r == 0 && i < s.n; i++) {
                        struct compel_batch *b = compel_visit_batch(v);
                        struct compel_op *op = compel_call(b, "get its tid", SYS_gettid);

                        op->check = COMPEL_CHECK_EQUAL;
                        op->want = s.thread[i].tid;
                        r = compel_visit_run(v, &s.thread[i], err);
                        compel_reset(b);
                }
        if (v && r == 0)
                r = compel_visit_end(v, err);
        compel_visit_free(&v);
        let_go(&s);
        return r;
}

tidy void assert_visited(pid_t pid) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        int r = visit_everyone(pid, 1, &err);

        if (r < 0)
                print_error("visit of %d: %s (%d)\n", pid, ckpt_error_message(&err), r);
        assert_int_equal(r, 0);
}

/* ---- targets that do something ---- */

tidy void beat(struct shared *sh) {
        struct timespec ts = { 0, 100 * 1000 };

        set(sh->ready, 1);
        while (!get(sh->go)) {
                set(sh->beats, sh->beats + 1);
                nanosleep(&ts, NULL);
        }
}

tidy void beat_without_calls(struct shared *sh) {
        set(sh->ready, 1);
        while (!get(sh->go)) {
                set(sh->beats, sh->beats + 1);
                __builtin_ia32_pause();
        }
}

tidy bool lives(const struct target *t) {
        uint64_t beats = get(t->sh->beats);

        return eventually(get(t->sh->beats) > beats + 2);
}
