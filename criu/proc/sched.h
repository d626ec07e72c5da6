/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/sched */
#pragma once

#include <stdint.h>

#include "proc/proc.h"

/*
 * Find se.exec_start in the text of a sched file: when the task was last put on a CPU or
 * accounted for, in nanoseconds of the scheduler's clock, which leaves out what interrupts and,
 * in a virtual machine, the host take. It does not move while a task sleeps. -ENOENT: the text
 * has no such line; -EBADMSG: nonsense.
 */
int proc_sched_parse(const char *text, size_t len, uint64_t *ret_exec_start_ns);

/* Read and parse `sched` of a thread. -ENOENT without CONFIG_SCHED_DEBUG. */
int proc_sched_read(const struct proc_dir *dir, struct proc_buf *buf, uint64_t *ret_exec_start_ns);
