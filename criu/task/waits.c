/* SPDX-License-Identifier: GPL-2.0-only */
#include "task/waits.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "proc/attr.h"
#include "proc/scan.h"
#include "proc/sched.h"
#include "task/self.h"

enum {
        THREADS_MAX = 256, /* looking at one takes some 100 microseconds */
        STAT_FIELD_CPU = 39,
        STAT_FIELD_STATE = 3,
};

struct task_waits {
        size_t n;
        struct wait_seen v[];
};

uint64_t waits_now(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

int waits_parse_sleeps(const char *text, size_t len, uint64_t *ret) {
        struct scan s = scan_text(text, len), line;
        bool found = false;

        /* The name of the task in the first line may pretend to be more; what the kernel says comes later. */
        while (scan_line(&s, &line)) {
                if (!scan_lit(&line, "nr_voluntary_switches "))
                        continue;
                if (!scan_blanks_lit(&line, ":"))
                        return -EBADMSG;
                scan_blanks(&line);
                if (!scan_u64(&line, ret))
                        return -EBADMSG;
                found = true;
        }
        return found ? 0 : -ENOENT;
}

int waits_parse_cpu(const char *text, size_t len, unsigned int *ret) {
        const char *name_end = memrchr(text, ')', len);
        struct scan s, word;

        if (!name_end)
                return -EBADMSG;
        s = (struct scan){ .p = name_end + 1, .end = text + len };
        for (int field = STAT_FIELD_STATE; field < STAT_FIELD_CPU; field++) {
                scan_blanks(&s);
                if (!scan_word(&s, &word))
                        return -EBADMSG;
        }
        scan_blanks(&s);
        return scan_u32(&s, ret) ? 0 : -EBADMSG;
}

/*
 * The scheduler has a clock for each CPU, and they differ. This thread goes to that CPU to read its clock there: its
 * own exec_start, at most a tick old, which errs on the side of a longer wait.
 */
static int clock_of_cpu(unsigned int cpu, uint64_t *ret) {
        _cleanup_proc_dir_ struct proc_dir process = PROC_DIR_INIT, self = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct task_cpus saved, one = { .size = sizeof(one.bits) };
        int r;

        task_read_cpus(0, &saved);
        if (cpu >= 8 * sizeof(one.bits) || saved.size == 0)
                return -ERANGE;
        one.bits[cpu / 8] = (uint8_t)(1U << cpu % 8);
        if (syscall(SYS_sched_setaffinity, 0, one.size, one.bits) < 0)
                return -errno;
        sched_yield();
        r = proc_open(getpid(), &process);
        if (r == 0)
                r = proc_open_thread(&process, gettid(), &self);
        if (r == 0)
                r = proc_sched_read(&self, &buf, ret);
        syscall(SYS_sched_setaffinity, 0, saved.size, saved.bits);
        return r;
}

/* Since when, on CLOCK_MONOTONIC, the thread has not run. */
static int sleeping_since(const struct proc_dir *dir, struct proc_buf *buf, struct wait_seen *seen) {
        uint64_t exec_start, there, now, ago;
        unsigned int cpu;
        int r;

        r = proc_read_once(dir, "stat", buf);
        if (r == 0)
                r = waits_parse_cpu(buf->data, buf->len, &cpu);
        if (r == 0)
                r = proc_read_once(dir, "sched", buf);
        if (r == 0)
                r = proc_sched_parse(buf->data, buf->len, &exec_start);
        if (r == 0)
                r = waits_parse_sleeps(buf->data, buf->len, &seen->sleeps);
        if (r == 0)
                r = clock_of_cpu(cpu, &there);
        if (r < 0)
                return r;
        now = waits_now();
        ago = there > exec_start ? there - exec_start : 0;
        /* The two clocks run at speeds that differ by less than one in a thousand. */
        ago -= ago / 1024;
        seen->since = now > ago ? now - ago : 0;
        return 0;
}

/*
 * restart_syscall(2) hides which call goes on; the kernel function that the thread sleeps in tells. It is the first that
 * does not belong to the scheduler; all that restarts nanosleep does, so there it is the entry to the kernel.
 */
static int resolve_restart(const struct proc_dir *dir, struct proc_buf *buf) {
        static const struct {
                const char *part;
                int nr;
        } rows[] = {
                { "poll", SYS_poll },
                { "futex", SYS_futex },
                { "nanosleep", SYS_clock_nanosleep },
                { "nsleep", SYS_clock_nanosleep },
                { "do_syscall", SYS_clock_nanosleep },
        };
        const char *wchan;

        if (proc_wchan_read(dir, buf, &wchan) < 0)
                return -1;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                if (strstr(wchan, rows[i].part))
                        return rows[i].nr;
        return -1;
}

static bool is_timed_wait(const struct proc_syscall *sc) {
        switch (sc->nr) {
        case SYS_nanosleep:
        case SYS_clock_nanosleep:
        case SYS_restart_syscall:
                return true;
        case SYS_poll:
                return (int32_t)sc->args[2] >= 0;
        case SYS_futex:
                return sc->args[3] != 0;
        default:
                return false;
        }
}

static bool look_call(const struct proc_dir *dir, struct proc_buf *buf, struct task_call *call,
                      struct wait_seen *ret) {
        const struct proc_syscall *sc = &call->call;
        const char *state;

        if (proc_syscall_read(dir, buf, &call->call) < 0)
                return false;
        call->known = true;
        if (sc->state != PROC_SYSCALL_INSIDE || !is_timed_wait(sc))
                return false;
        *ret = (struct wait_seen){ .tid = call->tid, .nr = sc->nr, .call = *sc };
        if (sc->nr == SYS_restart_syscall)
                ret->nr = resolve_restart(dir, buf);
        if (proc_read_once(dir, "stat", buf) < 0 || !(state = memrchr(buf->data, ')', buf->len)))
                return false;
        ret->stopped = strncmp(state, ") T", 3) == 0;
        return sleeping_since(dir, buf, ret) == 0;
}

/* The files of the leader are those of the process. */
static bool look_thread(const struct dump_task *t, struct proc_buf *buf, struct task_call *call,
                        struct wait_seen *ret) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;

        if (call->tid == t->pid)
                return look_call(&t->proc, buf, call, ret);
        return proc_open_thread(&t->proc, call->tid, &dir) == 0 && look_call(&dir, buf, call, ret);
}

void waits_prepare(struct dump_task *t) {
        const struct pid_vec *tids = dump_tids(t);

        t->waits = NULL;
        t->calls = NULL;
        t->nr_calls = 0;
        if (tids->n == 0 || tids->n > THREADS_MAX)
                return;
        t->calls = arena_new_array(&t->arena, struct task_call, tids->n);
        t->nr_calls = tids->n;
        for (size_t i = 0; i < tids->n; i++)
                t->calls[i].tid = tids->v[i];
}

void waits_look(struct dump_task *t) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct task_waits *waits;

        if (t->nr_calls == 0)
                return;
        waits = arena_alloc(&t->arena, sizeof(*waits) + t->nr_calls * sizeof(waits->v[0]));
        for (size_t i = 0; i < t->nr_calls; i++)
                if (look_thread(t, &buf, &t->calls[i], &waits->v[waits->n]))
                        waits->n++;
        t->waits = waits;
}

static bool is_same_call(const struct user_regs_struct *regs, const struct proc_syscall *call) {
        const uint64_t args[6] = { regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9 };

        return regs->orig_rax == (uint64_t)call->nr && regs->rsp == call->sp && regs->rip == call->pc &&
               memcmp(args, call->args, sizeof(args)) == 0;
}

const struct wait_seen *waits_find(const struct dump_thread *t) {
        const struct task_waits *waits = t->task->waits;

        for (size_t i = 0; waits && i < waits->n; i++)
                if (waits->v[i].tid == t->tid)
                        return is_same_call(&t->stop.regs, &waits->v[i].call) ? &waits->v[i] : NULL;
        return NULL;
}

bool waits_unbroken(struct dump_thread *t, const struct wait_seen *seen) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const struct proc_dir *dir;
        uint64_t sleeps;

        /* Once more for the stop of ptrace. */
        return dump_thread_proc(t, &dir) == 0 && proc_read_once(dir, "sched", &buf) == 0 &&
               waits_parse_sleeps(buf.data, buf.len, &sleeps) == 0 && sleeps == seen->sleeps + 1;
}
