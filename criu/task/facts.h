/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Threads that need no visit. What only they themselves could tell (row `ask` of the kinds) is, where there are many of
 * them, read by BPF for all at once (kernel/thread_facts.h): what is a value of their own, and how far they are like one
 * another. One of each sort is visited all the same, and answers for all that are like it.
 */
#pragma once

#include "dump/model.h"
#include "kernel/thread_facts.h"

/* With fewer threads of a process, opening it takes longer than to visit them. */
enum { FACTS_MIN_THREADS = 200 };

/* The tree has been read: if it has such a process, have the program loaded while other things are done. Main thread. */
void task_facts_prepare(struct dump *d);
void task_facts_free(struct dump *d);

/* It is being looked at, and runs: the same. */
void task_facts_look(struct dump_task *t);

/* Do threads `a` and `b` have the same attributes of those that the look stage asks each thread for? false: it is not known. */
bool task_facts_same_namespaces(const struct dump_task *t, pid_t a, pid_t b); /* but for that of users */
bool task_facts_same_status(const struct dump_task *t, pid_t a, pid_t b); /* seccomp, features of the CPU */

/* Frozen, facts have been read: do threads `a` and `b` share a descriptor table and a working directory? false: it is not known. */
bool task_facts_same_tables(const struct dump_task *t, pid_t a, pid_t b);

/* The task is frozen, and nobody has visited it yet: t->facts, what BPF tells of its threads, if it has many. */
void task_facts_read(struct dump_task *t);

/* Threads that have been visited, by one who visits threads. Zeroed: none. */
struct facts_known {
        const struct dump_thread *v[16];
        size_t n;
};

/*
 * t->status without reading it: from one among them that has the same rights, and what is its own by BPF. What it then
 * does not tell is how often the thread has slept, and its shadow stack (proc_status_has()). false: it has to be read.
 */
bool task_facts_infer_status(const struct facts_known *known, struct dump_thread *t);

/* It has been read: as task_facts_visited() of what was. */
int task_facts_status_read(struct facts_known *known, const struct dump_thread *t, struct ckpt_error *err);

/* Frozen, facts have been read: has no memory area got other flags since before the areas were looked at? */
static inline bool task_facts_same_areas(const struct dump_task *t) {
        return t->facts.n > 0 && t->seen_areas != 0 && t->facts.v[0].areas == t->seen_areas;
}

/* The one among them that answers for `t`, too. NULL: none, it has to be visited. */
const struct dump_thread *task_facts_like(const struct facts_known *known, const struct dump_thread *t);

/*
 * It has been visited: does that agree with what BPF tells of it? -EAGAIN: no, and the next attempt does without. If so,
 * it is one of `known`.
 */
int task_facts_visited(struct facts_known *known, const struct dump_thread *t, struct ckpt_error *err);

/* What BPF tells of it. NULL: nothing. */
const struct thread_fact *task_fact_of(const struct dump_thread *t);
