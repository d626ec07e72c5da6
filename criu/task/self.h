/* SPDX-License-Identifier: GPL-2.0-only */
/* What ckpt itself is and has: every restored task inherits it, and every dumped one is compared with it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "proc/limits.h"
#include "task/xstate.h"

/* struct sched_attr as of Linux 3.14; whether libc's headers have it depends on their age. */
struct sched_attributes {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
};

struct dump;
struct restore;

/* A set of CPUs as sched_getaffinity(2) gives it: bit n of the bytes is CPU n. */
struct task_cpus {
        uint8_t bits[1024];
        uint32_t size; /* bytes used, 0: unknown */
};

enum { TASK_GROUPS_MAX = 64 };

struct task_self {
        uint64_t cap_permitted, cap_bounding, cap_effective, cap_inheritable, cap_ambient;
        uid_t uids[4]; /* real, effective, saved, filesystem */
        gid_t gids[4];
        gid_t groups[TASK_GROUPS_MAX];
        size_t nr_groups;      /* SIZE_MAX: more than fit there, or unknown */
        int64_t securebits;    /* negative: unknown */
        uint64_t ignored;      /* signals, as bits signo - 1; all: unknown */
        unsigned int last_cap; /* highest capability that this kernel knows */
        bool no_new_privs;
        struct proc_limits limits;
        int oom_score_adj;
        uint32_t coredump_filter;
        uint32_t loginuid;
        bool has_coredump_filter, has_loginuid;
        uint32_t personality;
        uint64_t timerslack_ns;
        int ioprio;
        uint64_t slice_ns; /* sched_runtime of an ordinary policy, 0 before Linux 6.12 */
        bool plain_policy; /* SCHED_NORMAL without flags, its slice that of pid 1 */
        int nice;
        bool default_mempolicy; /* it has no NUMA policy of its own, or the kernel knows none */
        struct task_cpus affinity;
        struct task_cpus machine; /* where tasks run by default: that of pid 1 */
        char label[256];          /* /proc/self/attr/current, "" without a security module */
        bool no_labels;           /* no security module of this kernel gives any */
        struct xstate_layout xstate;
};

/* Read when first needed; the same one for the whole run. Callable from any thread. */
const struct task_self *task_self_of_dump(struct dump *d);
const struct task_self *task_self_of_restore(struct restore *r);

/* The CPUs that a thread may run on. size is 0 if that cannot be read. */
void task_read_cpus(pid_t tid, struct task_cpus *ret);

/* Are these the same CPUs, whatever the sizes? */
bool task_cpus_equal(const struct task_cpus *a, const struct task_cpus *b);

/*
 * /proc/PID/attr/current without the newline, "" if there is none or it cannot be read. Returns -EINVAL if no security
 * module has labels, 0 otherwise.
 */
int task_read_label(const struct proc_dir *dir, char *buf, size_t size);
