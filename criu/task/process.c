/* SPDX-License-Identifier: GPL-2.0-only */
/* What a process has once: values of prctl(2) and its like, and files of /proc/PID. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/process_facts.h"
#include "kernel/uapi.h"
#include "log.h"
#include "proc/attr.h"
#include "task/internal.h"
#include "task/self.h"

/* Newer than the headers of Debian 12. */
enum {
        PR_SET_MEMORY_MERGE_ = 67, /* 6.4 */
        PR_GET_MEMORY_MERGE_ = 68,
        ARCH_GET_XCOMP_PERM_ = 0x1022, /* 5.16 */
        ARCH_REQ_XCOMP_PERM_ = 0x1023,
        XTILE_DATA = 18, /* the one component of xstate that a process has to ask for */
};

static const uint32_t membarrier_registrations =
        MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED |
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ;

/* ---- values that the process itself reads ---- */

struct asked_process {
        uint32_t dumpable, thp, merge, membarrier, xcomp; /* operations */
        const int32_t *subreaper;                         /* in the batch */
        const uint64_t *xcomp_value;
};

static void *process_ask(struct dump_thread *t, struct compel_batch *b) {
        struct asked_process *asked = arena_new(&t->task->arena, struct asked_process);
        raddr_t at;

        asked->subreaper = compel_data(b, sizeof(int32_t), &at);
        compel_call(b, "read its subreaper flag", SYS_prctl, PR_GET_CHILD_SUBREAPER, at, 0, 0, 0);
        asked->xcomp_value = compel_data(b, sizeof(uint64_t), &at);
        asked->xcomp = task_ask(b, "read its xstate permissions", SYS_arch_prctl, ARCH_GET_XCOMP_PERM_, at);
        asked->dumpable = task_ask(b, "read its dumpable flag", SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0);
        asked->thp = task_ask(b, "read its huge page flag", SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0);
        asked->merge = task_ask(b, "read its merging flag", SYS_prctl, PR_GET_MEMORY_MERGE_, 0, 0, 0, 0);
        asked->membarrier =
                task_ask(b, "read its registrations", SYS_membarrier, MEMBARRIER_GET_REGISTRATIONS, 0, 0);
        return asked;
}

static int process_answer(struct dump_thread *t, struct compel_batch *b, void *asked_,
                          struct ckpt_error *err) {
        const struct asked_process *asked = asked_;
        int64_t dumpable = task_asked(b, asked->dumpable), thp = task_asked(b, asked->thp);
        int64_t membarrier = task_asked(b, asked->membarrier);
        Img__TaskCore *tc = dump_task_core(t);

        if (dumpable < 0 || dumpable > 2 || thp > UINT16_MAX)
                return ckpt_error(err, -EIO, "%s: the answer of its agent makes no sense",
                                  dump_task_name(t->task));
        t->task->dumpable = (int)dumpable;
        t->task->thp_disabled = thp > 0;
        if (thp > 1) {
                tc->has_thp_disable = true;
                tc->thp_disable = (uint32_t)thp;
        }
        if (*asked->subreaper)
                tc->has_child_subreaper = tc->child_subreaper = true;
        if (task_asked(b, asked->merge) == 1)
                tc->has_memory_merge = tc->memory_merge = true;
        /* Before Linux 6.3 nobody can tell: ckpt check says so. */
        if (membarrier > 0) {
                tc->has_membarrier_registration_mask = true;
                tc->membarrier_registration_mask = (uint32_t)membarrier & membarrier_registrations;
        }
        if (task_asked(b, asked->xcomp) == 0 && *asked->xcomp_value & 1ULL << XTILE_DATA) {
                tc->has_xcomp_perm = true;
                tc->xcomp_perm = *asked->xcomp_value;
        }
        return 0;
}

static int process_check(struct restore_thread *t, struct ckpt_error *err) {
        const Img__TaskCore *tc = restore_task_core(t);
        const struct task_self *self = task_self_of_restore(t->task->restore);

        if (tc->has_membarrier_registration_mask &&
            (tc->membarrier_registration_mask & ~membarrier_registrations))
                return ckpt_error(err, -ENOTSUP,
                                  "%s has registered for a kind of membarrier(2) that ckpt does not know "
                                  "(%#x)",
                                  restore_task_name(t->task), tc->membarrier_registration_mask);
        if (tc->has_xcomp_perm && tc->xcomp_perm & 1ULL << XTILE_DATA &&
            !(self->xstate.xcr0 & 1ULL << XTILE_DATA))
                return ckpt_error(err, -ENOTSUP,
                                  "%s uses the tile registers (AMX), which this CPU or kernel does not have",
                                  restore_task_name(t->task));
        return 0;
}

static void add_membarrier(const Img__TaskCore *tc, struct compel_batch *b) {
        uint32_t mask = tc->has_membarrier_registration_mask ? tc->membarrier_registration_mask : 0;

        for (; mask; mask &= mask - 1)
                compel_call(b, "register for membarrier", SYS_membarrier, mask & -mask, 0, 0);
}

static int process_restore_early(struct restore_thread *t, struct compel_batch *b,
                                 struct ckpt_error *err __attribute__((unused))) {
        const Img__TaskCore *tc = restore_task_core(t);
        struct compel_op *op;

        if (tc->has_child_subreaper && tc->child_subreaper)
                compel_call(b, "make it a child subreaper", SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        add_membarrier(tc, b);
        if (tc->has_xcomp_perm && tc->xcomp_perm & 1ULL << XTILE_DATA)
                compel_call(b, "allow it the tile registers", SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_,
                            XTILE_DATA);
        if (tc->has_memory_merge && tc->memory_merge) {
                /* A wish for less memory; it takes CAP_SYS_RESOURCE. */
                op = compel_call(b, "have its pages merged", SYS_prctl, PR_SET_MEMORY_MERGE_, 1, 0, 0, 0);
                op->check = COMPEL_CHECK_NOTHING;
        }
        return 0;
}

/* Changing credentials resets dumpable; memory is filled with huge pages whether it may have them later or not. */
static int process_restore_late(struct restore_thread *t, struct compel_batch *b,
                                struct ckpt_error *err __attribute__((unused))) {
        const Img__TaskCore *tc = restore_task_core(t);
        const Img__Mm *mm = t->task->mm;
        uint64_t thp = mm->has_thp_disabled && mm->thp_disabled ? 1 : 0;

        if (tc->has_thp_disable)
                thp = tc->thp_disable;
        compel_call(b, "set its huge page flag", SYS_prctl, PR_SET_THP_DISABLE, thp & 1, thp & ~1ULL, 0, 0);
        if (!mm->has_dumpable)
                return 0;
        if (mm->dumpable != 0 && mm->dumpable != 1)
                log_warn("%s: only root could read core dumps of it; now there are none",
                         restore_task_name(t->task));
        compel_call(b, "set its dumpable flag", SYS_prctl, PR_SET_DUMPABLE, mm->dumpable == 1 ? 1 : 0, 0, 0,
                    0);
        return 0;
}

const struct task_kind kind_process_early = {
        .name = "attributes of the process",
        .phase = TASK_PHASE_PROCESS,
        .ask = process_ask,
        .answer = process_answer,
        .check = process_check,
        .restore = process_restore_early,
};

const struct task_kind kind_process_late = {
        .name = "attributes of the process that change with its credentials",
        .phase = TASK_PHASE_LAST,
        .restore = process_restore_late,
};

/* ---- files of /proc/PID ---- */

static int read_oom_score_adj(struct dump_task *t, struct proc_buf *buf, int *ret) {
        return process_fact_value(t->fact, PROCESS_OOM_SCORE_ADJ, ret)
                       ? 0
                       : proc_oom_score_adj_read(&t->proc, buf, ret);
}

static int read_coredump_filter(struct dump_thread *t, struct proc_buf *buf, uint32_t *ret) {
        _cleanup_proc_dir_ struct proc_dir other = PROC_DIR_INIT;
        const struct proc_dir *living = &t->task->proc;
        int r = 0, value;

        if (process_fact_value(t->task->fact, PROCESS_COREDUMP_FILTER, &value)) {
                *ret = (uint32_t)value;
                return 0;
        }
        /* That of a leader that has exited is empty; /proc has every thread under its own number, too. */
        if (living->pid != t->tid) {
                living = &other;
                r = proc_open(t->tid, &other);
        }
        return r < 0 ? r : proc_coredump_filter_read(living, buf, ret);
}

static int read_loginuid(struct dump_task *t, struct proc_buf *buf, uid_t *ret) {
        int value;

        if (!process_fact_value(t->fact, PROCESS_LOGINUID, &value))
                return proc_loginuid_read(&t->proc, buf, ret);
        *ret = (uid_t)value;
        return 0;
}

static int files_read(struct dump_thread *t, struct ckpt_error *err) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        Img__TaskCore *tc = dump_task_core(t);
        uint32_t filter;
        uid_t loginuid;
        int r, oom;

        r = read_oom_score_adj(t->task, &buf, &oom);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its oom_score_adj",
                                        dump_task_name(t->task));
        tc->has_oom_score_adj = true;
        tc->oom_score_adj = oom;
        r = read_coredump_filter(t, &buf, &filter);
        if (r < 0 && r != -ENOENT)
                return ckpt_error_errno(err, r, "%s: cannot read its coredump_filter",
                                        dump_task_name(t->task));
        if (r == 0) {
                tc->has_coredump_filter = true;
                tc->coredump_filter = filter;
        }
        r = read_loginuid(t->task, &buf, &loginuid);
        if (r < 0 && r != -ENOENT)
                return ckpt_error_errno(err, r, "%s: cannot read its audit login id",
                                        dump_task_name(t->task));
        if (r == 0) {
                tc->has_loginuid = true;
                tc->loginuid = loginuid;
        }
        return 0;
}

static int set_oom_score_adj(struct restore_thread *t, int value, struct ckpt_error *err) {
        char text[16];
        int r;

        snprintf(text, sizeof(text), "%d", value);
        r = task_write_proc(t->task->pid, "oom_score_adj", text);
        if (r == -EACCES || r == -EPERM) {
                log_warn(
                        "%s: its oom_score_adj was %d, and only CAP_SYS_RESOURCE may lower it to that; it keeps that of "
                        "ckpt",
                        restore_task_name(t->task), value);
                return 0;
        }
        return r < 0 ? ckpt_error_errno(err, r, "%s: cannot set its oom_score_adj",
                                        restore_task_name(t->task))
                     : 0;
}

static int files_check(struct restore_thread *t, struct ckpt_error *err) {
        const Img__TaskCore *tc = restore_task_core(t);

        if (tc->has_oom_score_adj && (tc->oom_score_adj < -1000 || tc->oom_score_adj > 1000))
                return ckpt_error(err, -EBADMSG, "%s: %d is no oom_score_adj", restore_task_name(t->task),
                                  tc->oom_score_adj);
        return 0;
}

/* Written by ckpt, while the task is as privileged as ckpt is. */
static int files_restore(struct restore_thread *t, struct compel_batch *b __attribute__((unused)),
                         struct ckpt_error *err) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__TaskCore *tc = restore_task_core(t);
        char text[16];
        int r = 0;

        if (tc->has_oom_score_adj && tc->oom_score_adj != self->oom_score_adj)
                r = set_oom_score_adj(t, tc->oom_score_adj, err);
        if (r < 0 || !tc->has_coredump_filter || !self->has_coredump_filter ||
            tc->coredump_filter == self->coredump_filter)
                return r;
        snprintf(text, sizeof(text), "0x%" PRIx32, tc->coredump_filter);
        r = task_write_proc(t->task->pid, "coredump_filter", text);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot set its coredump_filter",
                                        restore_task_name(t->task));
        return 0;
}

const struct task_kind kind_proc_files = {
        .name = "attributes in /proc",
        .phase = TASK_PHASE_PROCESS,
        .aside = files_read,
        .check = files_check,
        .restore = files_restore,
};

/* ---- audit login id: a thread may only write its own ---- */

static int loginuid_restore(struct restore_thread *t, struct compel_batch *b,
                            struct ckpt_error *err __attribute__((unused))) {
        static const char path[] = "/proc/thread-self/loginuid";
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__TaskCore *tc = restore_task_core(t);
        raddr_t at_path, at_text;
        struct compel_op *op;
        char text[16];
        uint32_t fd;

        if (!tc->has_loginuid || !self->has_loginuid || tc->loginuid == self->loginuid)
                return 0;
        snprintf(text, sizeof(text), "%" PRIu32, tc->loginuid);
        compel_room(b, 3, sizeof(path) + sizeof(text));
        at_path = compel_copy(b, path, sizeof(path));
        at_text = compel_copy(b, text, sizeof(text));
        op = compel_call(b, "open its audit login id", SYS_openat, (uint64_t)AT_FDCWD, at_path,
                         O_WRONLY | O_CLOEXEC, 0);
        fd = compel_index(b, op);
        op = compel_call(b, "set its audit login id", SYS_write, fd, at_text, strlen(text));
        op->refs = 1;
        op = compel_call(b, "close its audit login id", SYS_close, fd);
        op->refs = 1;
        return 0;
}

const struct task_kind kind_loginuid = {
        .name = "audit login id",
        .per_thread = true,
        .phase = TASK_PHASE_THREAD,
        .restore = loginuid_restore,
};
