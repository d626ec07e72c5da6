/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a task or thread has besides memory and files: one file per kind, with both halves, and one row
 * in the table of kinds.c. Every function may be NULL.
 *
 * Dump, for each thread (per_thread) or once per process with its first living thread:
 *   look     before the freeze, once per task: add blockers
 *   read     frozen, from outside (/proc, ptrace, system calls that take a tid): fill t->core
 *   aside    the same in a worker, where there is no ptrace, after all other functions of the task
 *   ask      frozen: add system calls that only the thread itself can make. Whatever answer() needs to find the
 *            results again is returned (in the task's arena)
 *   answer   after the batch has run: results into t->core. The memory is shared with the
 *            target: copy, check, trust nothing. enum task_answer: all is asked again. A kind that asks nothing
 *            has it for what must wait for the others; the batch is NULL where the thread was not visited
 *   infer    instead of both, where there are many threads (task/facts.h): what is known of it by BPF, and all else from `like`, a
 *            thread of the process that has answered and has the same attributes. Each that is per_thread and asks has it
 * Restore, in the order of the table, which is the order of `phase` first:
 *   check    load stage, for every thread (or process): is what the image says possible here? Nothing exists yet
 *   restore  add the system calls to the thread's batch; `b` is the lane of t
 *            (or done by ckpt itself, where it does not matter what of the batch has been carried out)
 *   outside  what ckpt does itself once the batches of all phases have run (setpriority ...)
 *
 * Threads of one process may be read, asked and answered for by several tracers at a time, after the first one has been
 * asked: what a kind that is per_thread makes is in t->arena, and it changes nothing of the task's.
 *
 * For kinds that are not per_thread, `t` is the first living thread (dump) or the first thread
 * that will live (restore), and the process-wide part of the leader's core is
 * t->task->leader_core (dump) or t->task->threads[0].core (restore).
 */
#pragma once

#include "dump/blockers.h"
#include "dump/model.h"
#include "restore/model.h"

enum task_phase {
        TASK_PHASE_PROCESS,     /* once per process, with ckpt's credentials, before its threads' own */
        TASK_PHASE_THREAD,      /* each thread, with ckpt's credentials */
        TASK_PHASE_CREDENTIALS, /* each thread: from here on it is who it was */
        TASK_PHASE_LAST,        /* each thread or process: what credentials would reset, timers, limits */
        TASK_PHASE_MAX,
        TASK_PHASE_INVALID = -1,
};

/* What answer() may return beside 0 and errors: the next pass is to ask again ... */
enum task_answer {
        TASK_ANSWER_CHANGED = 1, /* because something has changed in between; not for ever */
        TASK_ANSWER_MORE = 2,    /* for what there was no room for; each pass gets further */
};

struct task_kind {
        const char *name;
        bool per_thread;
        enum task_phase phase;

        void (*look)(struct dump_task *t);
        int (*read)(struct dump_thread *t, struct ckpt_error *err);
        int (*aside)(struct dump_thread *t, struct ckpt_error *err);
        void *(*ask)(struct dump_thread *t, struct compel_batch *b);
        int (*answer)(struct dump_thread *t, struct compel_batch *b, void *asked, struct ckpt_error *err);
        void (*infer)(struct dump_thread *t, const struct dump_thread *like, const struct thread_fact *fact);

        int (*check)(struct restore_thread *t, struct ckpt_error *err);
        int (*restore)(struct restore_thread *t, struct compel_batch *b, struct ckpt_error *err);
        int (*outside)(struct restore_thread *t, struct ckpt_error *err);
};

/* The table, in order. Zombies have none of this but comm and exit code, which collect and tree care for. */
extern const struct task_kind *const task_kinds[];
extern const size_t nr_task_kinds;

/* ---- for the stages (task/stage.c, task/collect.c) ---- */

/* All kinds' look(). */
void task_look(struct dump_task *t);

/*
 * read, ask, visit, answer for all threads of 1 to TASK_GROUP_MAX frozen live tasks, which are visited side by side.
 * -EAGAIN: the next attempt of the dump may succeed. By the tracer of these tasks, while others do the same with theirs.
 * Those that may share memory with one that is under a visit get visit_later: task_visit_alone() does what is left, when
 * nobody else is visited.
 */
enum { TASK_GROUP_MAX = 16 };
int task_collect(struct dump_task **tasks, size_t n, struct ckpt_error *err);
int task_visit_alone(struct dump_task *t, struct ckpt_error *err);

/* The same for a process whose threads several tracers have, by all of them: in the main thread. */
int task_collect_spread(struct dump_task *t, struct ckpt_error *err);

/* What of a task that has been collected needs no ptrace, in any one thread. */
int task_collect_aside(struct dump_task *t, struct ckpt_error *err);

/* Must this one be a group of its own? What traces filtered tasks lets out of one visit only. */
bool task_collects_alone(const struct dump_task *t);

/* The same for a zombie, of which there is not much to know: t->leader_core. (zombie.c) */
int task_collect_zombie(struct dump_task *t, struct ckpt_error *err);
int task_check_zombie(struct restore_task *t, struct ckpt_error *err);

/* Before it dies: add to its batch what makes it the user's that it was. */
int task_restore_zombie(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err);

/* All checks for a live task. */
int task_check(struct restore_task *t, struct ckpt_error *err);

/*
 * What must be there before: all threads (also a leader that is to be dead, which may exit only after the last
 * phase), memory with its final protections, descriptors, zombies that have died; helpers that have been reaped.
 *
 * Restore all phases of all live tasks: fills the batches of all tasks and threads, as many phases at once as their
 * threads allow, and waits for all; then does what is done from outside.
 */
int task_restore(struct restore *r, struct ckpt_error *err);

/*
 * What is a thread's own can be in its lane before it is cloned, so that it needs no waking: task_fill_unborn() for
 * threads other than the leader of which task_fills_unborn() is true, once everything else that task_restore() wants
 * is there; and after the clone, task_wait_born().
 */
bool task_fills_unborn(const struct restore_thread *t);
int task_fill_unborn(struct restore_thread *t, struct ckpt_error *err);
int task_wait_born(struct restore_thread *t, struct ckpt_error *err);
