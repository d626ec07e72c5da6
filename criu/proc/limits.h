/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/limits: readable where prlimit(2) on another uid's task needs CAP_SYS_RESOURCE */
#pragma once

#include <sys/resource.h>

#include "proc/proc.h"

#define PROC_LIMITS 16

struct proc_limits {
        struct rlimit v[PROC_LIMITS]; /* by RLIMIT_*; RLIM_INFINITY for "unlimited" */
};

/* Parse the text of a limits file: all sixteen limits, in order. -EBADMSG otherwise. */
int proc_limits_parse(const char *text, size_t len, struct proc_limits *ret);

/* Read and parse `limits` of a process. A zombie still has them. */
int proc_limits_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_limits *ret);
