/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/cgroup: the control groups of a task */
#pragma once

#include <stdint.h>

#include "proc/proc.h"

/* Texts are in the text buffer, NUL-terminated. */
struct proc_cgroup {
        uint32_t hierarchy;      /* 0: cgroup v2 */
        const char *controllers; /* "cpu,cpuacct", "name=systemd", or "" for v2 */
        /*
         * From the root of the reader's cgroup namespace; "/../x" lies outside of it. A group
         * that was removed while the task is in it ends in " (deleted)".
         */
        const char *path;
};

DEFINE_VEC(proc_cgroup_vec, struct proc_cgroup);

/*
 * Parse the text of a cgroup file. `text` is written to and must live as long as the groups
 * are used. *ret is replaced on success. -EBADMSG: nonsense.
 */
int proc_cgroup_parse(char *text, size_t len, struct proc_cgroup_vec *ret);

/* Read and parse `cgroup` of a process or thread. */
int proc_cgroup_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_cgroup_vec *ret);
