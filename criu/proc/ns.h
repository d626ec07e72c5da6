/* SPDX-License-Identifier: GPL-2.0-only */
/* The namespaces that a task is in, many of them at once. */
#pragma once

#include "proc/proc.h"

enum proc_ns {
        PROC_NS_CGROUP,
        PROC_NS_IPC,
        PROC_NS_MNT,
        PROC_NS_NET,
        PROC_NS_PID,
        PROC_NS_PID_FOR_CHILDREN,
        PROC_NS_TIME,
        PROC_NS_TIME_FOR_CHILDREN,
        PROC_NS_USER,
        PROC_NS_UTS,
        PROC_NS_MAX,
        _PROC_NS_INVALID = -EINVAL,
};

#define PROC_NS_ALL ((1U << PROC_NS_MAX) - 1)

/* Inode numbers; 0: not asked for, or this kernel has no such namespace, or the task is a zombie and has left it. */
struct proc_ns_set {
        ino_t ino[PROC_NS_MAX];
};

/*
 * Descriptors of the namespaces of one task. While they are open, asking for those of the many tasks that are in the same
 * ones costs half: the kernel keeps an inode of each namespace only as long as somebody has it open. NULL: not enough
 * memory. To be freed by proc_ns_let_go().
 */
struct proc_ns_held *proc_ns_hold(const struct proc_dir *process);
void proc_ns_let_go(struct proc_ns_held **held);

/*
 * Those of the thread `tid` whose bits (1 << PROC_NS_NET) are in `which`. `process` is /proc/TID itself, or that of
 * the process that the thread belongs to. By ioctl(2) on a pidfd where there is one (Linux 6.11), else by the links
 * below ns/: each of those takes half as long again to look up, and as long to be forgotten when the task is reaped.
 */
void proc_ns_read(const struct proc_dir *process, pid_t tid, unsigned int which, struct proc_ns_set *ret);
