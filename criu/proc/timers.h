/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/timers: POSIX timers (timer_create) of a process; needs CONFIG_CHECKPOINT_RESTORE */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "proc/proc.h"

struct proc_timer {
        int id;             /* what timer_create(2) returned, as the kernel numbers it */
        int signo;          /* 0 is possible with SIGEV_NONE */
        uint64_t sival_ptr; /* sigev_value */
        int notify; /* SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, or'ed with SIGEV_THREAD_ID if by_tid */
        bool by_tid;
        pid_t target; /* the tid if by_tid, else the pid; in the pid namespace of our /proc, 0: gone */
        int clock_id; /* also the negative ones of CPU clocks */
};

DEFINE_VEC(proc_timer_vec, struct proc_timer);

/* Parse the text of a timers file. *ret is replaced on success, ascending by id. */
int proc_timers_parse(const char *text, size_t len, struct proc_timer_vec *ret);

/* Read and parse `timers` of a process. Intervals and remaining times only the task can read. */
int proc_timers_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_timer_vec *ret);
