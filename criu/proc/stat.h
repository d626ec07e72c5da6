/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/stat and /proc/PID/task/TID/stat */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "proc/proc.h"

/*
 * The fields in the units of the kernel. Addresses, exit_code and the memory layout are 0
 * to a reader that may not ptrace the task, and for zombies and kernel threads.
 */
struct proc_stat {
        pid_t pid;     /* in the pid namespace of our /proc, like ppid, pgid and sid */
        char comm[64]; /* as the task set it, any byte but NUL; kernel workers have long ones */
        char state;    /* one of RSDTtZXxKWPI: T stopped by a signal, t by a tracer */
        pid_t ppid;    /* 0: none, or outside the pid namespace */
        pid_t pgid, sid;
        int tty_nr;     /* device number of the controlling terminal (new_encode_dev), 0: none */
        int tpgid;      /* foreground group of that terminal, -1: none */
        uint32_t flags; /* PF_* of the kernel; 0x00200000 is a kernel thread */
        uint64_t utime, stime, cutime, cstime; /* clock ticks (sysconf(_SC_CLK_TCK)) */
        int nice;                              /* -20 to 19 */
        int num_threads;                       /* 1 for a zombie whose threads are all gone */
        uint64_t start_time;                   /* clock ticks since boot, in the reader's time namespace */
        uint64_t start_code, end_code, start_stack;
        int exit_signal; /* what the parent gets on exit; -1: a thread that is not the leader */
        uint32_t rt_priority;
        uint32_t policy; /* SCHED_* */
        uint64_t start_data, end_data, start_brk;
        uint64_t arg_start, arg_end, env_start, env_end;
        int exit_code; /* as wait(2) reports it; also of a zombie */
};

/*
 * Parse the text of a stat file. comm is what stands between the first '(' and the last
 * ')', so that it may contain parentheses, blanks and newlines. Fields that kernels before
 * 3.5 lack are required. -EBADMSG otherwise.
 */
int proc_stat_parse(const char *text, size_t len, struct proc_stat *ret);

/* Read and parse `stat` of a process (or, given a thread's directory, of that thread). */
int proc_stat_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_stat *ret);

/*
 * Wait until a process or thread that was let go in a job-control stop, or was sent SIGSTOP before it was let go, has
 * stopped (state T): it does so by itself, but not before it next gets a CPU. Returns 0 also when it has ended, or
 * was continued meanwhile and sleeps; -ETIMEDOUT if it still runs after `timeout_ms`.
 */
int proc_wait_stopped(const struct proc_dir *dir, unsigned int timeout_ms);
