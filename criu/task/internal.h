/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of task/ share among themselves. */
#pragma once

#include "macro.h"
#include "task/kind.h"

/* ---- rows of the table; see kinds.c ---- */

extern const struct task_kind kind_unsupported, kind_ldt;
extern const struct task_kind kind_seccomp_dump, kind_seccomp_process, kind_seccomp_thread;
extern const struct task_kind kind_syscall, kind_registers;
extern const struct task_kind kind_rlimits_raise, kind_rlimits;
extern const struct task_kind kind_process_early, kind_process_late, kind_proc_files, kind_loginuid;
extern const struct task_kind kind_thread_early, kind_thread_late;
extern const struct task_kind kind_addresses, kind_tls, kind_sigaltstack;
extern const struct task_kind kind_sigactions, kind_sigpending, kind_sigpending_thread;
extern const struct task_kind kind_posix_timers, kind_posix_timers_arm, kind_itimers;
extern const struct task_kind kind_creds, kind_sched, kind_sem_undo, kind_numa, kind_autogroup;

/* ---- small helpers ---- */

static inline Img__ThreadCore *dump_thread_core(const struct dump_thread *t) {
        return t->core->thread_core;
}
static inline Img__TaskCore *dump_task_core(const struct dump_thread *t) {
        return t->task->leader_core->tc;
}
static inline Img__ThreadCore *restore_thread_core(const struct restore_thread *t) {
        return t->core->thread_core;
}
static inline Img__TaskCore *restore_task_core(const struct restore_thread *t) {
        return t->task->threads[0].core->tc;
}

/* Add a system call whose failure answer() judges. Yields its index in the batch. */
#define task_ask(b, what, nr, ...)                                                      \
        ({                                                                              \
                struct compel_op *_op_ = compel_call((b), (what), (nr), ##__VA_ARGS__); \
                                                                                        \
                _op_->check = COMPEL_CHECK_NOTHING;                                     \
                compel_index((b), _op_);                                                \
        })

/* A result of task_ask(). */
static inline int64_t task_asked(const struct compel_batch *b, uint32_t index) {
        return b->ops[index].ret;
}

/* Finish stage: the segments of a stopped thread. */
int tls_restore_thread(const struct restore_thread *t, struct ckpt_error *err);

/* An error of the thread: "pid 812 (redis-server), thread 813" for threads other than the leader. */
const char *dump_thread_name(const struct dump_thread *t);
const char *restore_thread_name(const struct restore_thread *t);

/* Write a value to /proc/PID/`name`. 0 or a negative errno. */
int task_write_proc(pid_t pid, const char *name, const char *value);
