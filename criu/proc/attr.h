/* SPDX-License-Identifier: GPL-2.0-only */
/* The files of /proc/PID that hold a single value */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "proc/proc.h"

/*
 * Parse a decimal number (possibly negative) or one in hexadecimal without 0x, with or
 * without a newline behind it, and nothing else. -EBADMSG otherwise.
 */
int proc_attr_parse_dec(const char *text, size_t len, int64_t *ret);
int proc_attr_parse_hex(const char *text, size_t len, uint64_t *ret);

/* personality(2). Needs ptrace rights. */
int proc_personality_read(const struct proc_dir *dir, struct proc_buf *buf, uint32_t *ret);

/*
 * The timer slack (PR_SET_TIMERSLACK) of a process's leader in ns. Kernel: only the
 * directory of a process has this file; other threads must ask prctl(2) themselves.
 */
int proc_timerslack_read(const struct proc_dir *dir, struct proc_buf *buf, uint64_t *ret);

/* -1000 to 1000 */
int proc_oom_score_adj_read(const struct proc_dir *dir, struct proc_buf *buf, int *ret);

/* The audit login uid; (uid_t)-1: not set. -ENOENT without CONFIG_AUDIT. */
int proc_loginuid_read(const struct proc_dir *dir, struct proc_buf *buf, uid_t *ret);

/* Which areas a core dump would contain, see core(5). -ENOENT without CONFIG_ELF_CORE. */
int proc_coredump_filter_read(const struct proc_dir *dir, struct proc_buf *buf, uint32_t *ret);

/*
 * The nice value of its session's autogroup, see sched(7), "/autogroup-12 nice 5": -20 to 19. -ENOENT: a kernel
 * without, or it is in none.
 */
int proc_autogroup_read(const struct proc_dir *dir, struct proc_buf *buf, int *ret);

/*
 * The kernel function a task sleeps in, NUL-terminated in buf, or "0" for none and where the
 * kernel does not tell.
 */
int proc_wchan_read(const struct proc_dir *dir, struct proc_buf *buf, const char **ret);
