/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How long threads have been waiting in system calls, for those calls that tell nobody. The moment at which a thread
 * last ran can be seen only before it is stopped (stopping it makes it run), so the look stage notes
 * it, and it counts if the thread has not run until the freeze.
 */
#pragma once

#include "dump/model.h"
#include "proc/syscall.h"

/* What a thread did when it was looked at. */
struct task_call {
        pid_t tid;
        bool known;
        bool has_sleeps;
        uint64_t sleeps; /* proc_status.sleeps, from before the call was looked at */
        struct proc_syscall call;
};

/* Look stage, first: t->calls, of which nothing is known yet. None for processes with very many threads. */
void waits_prepare(struct dump_task *t);

/* Then, before its memory is looked at: note what the threads of the process do and wait for. */
void waits_look(struct dump_task *t);

struct wait_seen {
        pid_t tid;
        int nr; /* the call, resolved if the kernel only said restart_syscall(2); -1: unknown */
        struct proc_syscall call; /* as the kernel said */
        bool stopped;             /* it was stopped by a signal then */
        uint64_t
                since; /* CLOCK_MONOTONIC in nanoseconds: it has not run since then; not earlier than true */
        uint64_t sleeps; /* how often it had given up a CPU by itself */
};

/* Frozen: what was seen of a thread that is still in the same call, or NULL. */
const struct wait_seen *waits_find(const struct dump_thread *t);

/* Frozen: has the thread slept without a break from then on until it was stopped? */
bool waits_unbroken(struct dump_thread *t, const struct wait_seen *seen);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t waits_now(void);

/* In the text of a sched file: how often the task has given up a CPU. -ENOENT, -EBADMSG as proc_sched_parse(). */
int waits_parse_sleeps(const char *text, size_t len, uint64_t *ret);

/* In the text of a stat file: the CPU that the task ran on last. */
int waits_parse_cpu(const char *text, size_t len, unsigned int *ret);
