/* SPDX-License-Identifier: GPL-2.0-only */
/* What ckpt itself is and has: every restored task inherits it, and every dumped one is compared with it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "proc/limits.h"
#include "task/xstate.h"

struct dump;
struct restore;

/* A set of CPUs as sched_getaffinity(2) gives it: bit n of the bytes is CPU n. */
struct task_cpus {
        uint8_t bits[1024];
        uint32_t size; /* bytes used, 0: unknown */
};

struct task_self {
        uint64_t cap_permitted, cap_bounding;
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
        struct task_cpus affinity;
        struct task_cpus machine; /* where tasks run by default: that of pid 1 */
        char label[256];          /* /proc/self/attr/current, "" without a security module */
        struct xstate_layout xstate;
};

/* Read when first needed; the same one for the whole run. Callable from any thread. */
const struct task_self *task_self_of_dump(struct dump *d);
const struct task_self *task_self_of_restore(struct restore *r);

/* The CPUs that a thread may run on. size is 0 if that cannot be read. */
void task_read_cpus(pid_t tid, struct task_cpus *ret);

/* Are these the same CPUs, whatever the sizes? */
bool task_cpus_equal(const struct task_cpus *a, const struct task_cpus *b);

/* /proc/PID/attr/current without the newline, "" if there is none or it cannot be read. */
void task_read_label(pid_t pid, char *buf, size_t size);
