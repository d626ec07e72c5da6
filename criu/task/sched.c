/* SPDX-License-Identifier: GPL-2.0-only */
/* Policy, priority, nice value, I/O priority and CPUs of a thread. All of it is read and set from outside. */
#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/thread.h"
#include "log.h"
#include "task/internal.h"
#include "task/self.h"

enum {
        IOPRIO_WHO_PROCESS = 1,
        IOPRIO_CLASS_RT = 1,
        IOPRIO_CLASS_SHIFT = 13,
        FLAGS_KEPT = SCHED_FLAG_RESET_ON_FORK | SCHED_FLAG_RECLAIM | SCHED_FLAG_DL_OVERRUN,
};

/* Of other policies sched_setattr(2) does not set it, nor sched_getattr(2) tell it of all. */
static bool has_nice(uint32_t policy) {
        return policy == SCHED_NORMAL || policy == SCHED_BATCH;
}

/* ---- dump ---- */

static void ioprio_to_image(struct dump_thread *t) {
        long value = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, t->tid);

        if (value > 0 && value >> IOPRIO_CLASS_SHIFT != 0) {
                dump_thread_core(t)->has_ioprio = true;
                dump_thread_core(t)->ioprio = (uint32_t)value;
        }
}

static void cpus_to_image(struct dump_thread *t) {
        const struct task_self *self = task_self_of_dump(t->task->dump);
        Img__ThreadCore *core = dump_thread_core(t);
        struct task_cpus cpus;

        task_read_cpus(t->tid, &cpus);
        if (cpus.size == 0 || self->machine.size == 0 || task_cpus_equal(&cpus, &self->machine))
                return;
        core->has_cpu_affinity = true;
        core->cpu_affinity.len = cpus.size;
        core->cpu_affinity.data = arena_copy(t->arena, cpus.bits, cpus.size);
}

static int sched_read(struct dump_thread *t, struct ckpt_error *err) {
        Img__ThreadCore *core = dump_thread_core(t);
        struct sched_attributes attr = { .size = sizeof(attr) };
        int nice;

        if (syscall(SYS_sched_getattr, t->tid, &attr, sizeof(attr), 0) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot read its scheduling policy",
                                        dump_thread_name(t));
        nice = attr.nice;
        if (!has_nice(attr.policy)) {
                errno = 0;
                nice = getpriority(PRIO_PROCESS, (id_t)t->tid);
                if (errno)
                        return ckpt_error_errno(err, -errno, "%s: cannot read its nice value",
                                                dump_thread_name(t));
        }
        core->has_sched_policy = core->has_sched_nice = core->has_sched_prio = true;
        core->sched_policy = attr.policy;
        core->sched_nice = nice;
        core->sched_prio = attr.priority;
        if (attr.flags & FLAGS_KEPT) {
                core->has_sched_flags = true;
                core->sched_flags = attr.flags & FLAGS_KEPT;
        }
        /* Since Linux 6.12 ordinary policies have a runtime, too: their time slice. */
        if (has_nice(attr.policy) && attr.runtime != task_self_of_dump(t->task->dump)->slice_ns) {
                core->has_sched_runtime = true;
                core->sched_runtime = attr.runtime;
        }
        if (attr.policy == SCHED_DEADLINE) {
                core->has_sched_runtime = core->has_sched_deadline = core->has_sched_period = true;
                core->sched_runtime = attr.runtime;
                core->sched_deadline = attr.deadline;
                core->sched_period = attr.period;
        }
        ioprio_to_image(t);
        cpus_to_image(t);
        return 0;
}

/* ---- restore ---- */

static int set_failed(struct restore_thread *t, uint32_t policy, int e, struct ckpt_error *err) {
        ckpt_error_errno(err, -e, "%s: cannot set its scheduling policy %u", restore_thread_name(t), policy);
        if (e == EPERM)
                return ckpt_error_hint(
                        err, "Real-time policies and negative nice values take CAP_SYS_NICE, and real-time "
                             "policies a cgroup that may use them (cpu.rt_runtime_us)");
        return err->code;
}

/* `tid`: the thread, or one of ckpt's. */
static int set_policy(struct restore_thread *t, pid_t tid, struct ckpt_error *err) {
        const Img__ThreadCore *core = restore_thread_core(t);
        struct sched_attributes attr = {
                .size = sizeof(attr),
                .policy = core->has_sched_policy ? core->sched_policy : SCHED_NORMAL,
                .nice = core->sched_nice,
                .priority = core->sched_prio,
                .flags = core->sched_flags & FLAGS_KEPT,
                .runtime = core->sched_runtime,
                .deadline = core->sched_deadline,
                .period = core->sched_period,
        };

        /* Kept below a policy without it, and in force again when the thread gives that up. */
        if (!has_nice(attr.policy) && setpriority(PRIO_PROCESS, (id_t)tid, core->sched_nice) < 0)
                return set_failed(t, attr.policy, errno, err);
        if (syscall(SYS_sched_setattr, tid, &attr, 0) < 0)
                return set_failed(t, attr.policy, errno, err);
        return 0;
}

static int set_ioprio(struct restore_thread *t, pid_t tid, struct ckpt_error *err) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__ThreadCore *core = restore_thread_core(t);
        int want = core->has_ioprio ? (int)core->ioprio : 0;
        int have = self->ioprio > 0 && self->ioprio >> IOPRIO_CLASS_SHIFT != 0 ? self->ioprio : 0;

        if (want == have)
                return 0;
        if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, want) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot set its I/O priority",
                                        restore_thread_name(t));
        return 0;
}

static bool takes_privilege(const Img__ThreadCore *core, const struct task_self *self) {
        return core->sched_policy == SCHED_FIFO || core->sched_policy == SCHED_RR ||
               core->sched_nice < self->nice || core->ioprio >> IOPRIO_CLASS_SHIFT == IOPRIO_CLASS_RT;
}

struct trial {
        struct restore_thread *t;
        struct ckpt_error *err;
        int result;
};

static void *try_here(void *arg) {
        struct trial *trial = arg;
        pid_t tid = (pid_t)syscall(SYS_gettid);

        trial->result = set_ioprio(trial->t, tid, trial->err);
        if (trial->result == 0)
                trial->result = set_policy(trial->t, tid, trial->err);
        return NULL;
}

/*
 * May ckpt, in its cgroup, give that? A thread of ours that ends tells. Not by deadlines: the CPU time that they claim
 * would stay claimed for a while. Neighbours mostly have the same.
 */
static int try_it(struct restore_thread *t, struct ckpt_error *err) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__ThreadCore *core = restore_thread_core(t), *last;
        struct trial trial = { .t = t, .err = err };
        pthread_t thread;
        int r;

        last = t > t->task->threads ? restore_thread_core(t - 1) : NULL;
        if (core->sched_policy == SCHED_DEADLINE || !takes_privilege(core, self) ||
            (last && last->sched_policy == core->sched_policy && last->sched_nice == core->sched_nice &&
             last->sched_prio == core->sched_prio && last->ioprio == core->ioprio))
                return 0;
        r = thread_start(&thread, try_here, &trial);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot make a thread");
        pthread_join(thread, NULL);
        return trial.result;
}

static int sched_check(struct restore_thread *t, struct ckpt_error *err) {
        const Img__ThreadCore *core = restore_thread_core(t);

        if ((core->has_sched_nice && (core->sched_nice < -20 || core->sched_nice > 19)) ||
            (core->has_cpu_affinity && core->cpu_affinity.len > sizeof(((struct task_cpus *)0)->bits)) ||
            (core->has_sched_prio && core->sched_prio > 99))
                return ckpt_error(err, -EBADMSG, "%s: its scheduling attributes make no sense",
                                  restore_thread_name(t));
        return try_it(t, err);
}

static void set_cpus(struct restore_thread *t, const struct task_self *self) {
        const Img__ThreadCore *core = restore_thread_core(t);
        struct task_cpus want = self->machine;

        if (core->has_cpu_affinity) {
                want = (struct task_cpus){ .size = (uint32_t)core->cpu_affinity.len };
                memcpy(want.bits, core->cpu_affinity.data, core->cpu_affinity.len);
        }
        if (want.size == 0 || task_cpus_equal(&want, &self->affinity))
                return;
        if (syscall(SYS_sched_setaffinity, t->tid, want.size, want.bits) < 0)
                log_warn("%s: it ran on chosen CPUs only, none of which it may use here; it runs on any",
                         restore_thread_name(t));
}

static bool has_policy(const Img__ThreadCore *core, const struct task_self *self) {
        return self->plain_policy && (!core->has_sched_policy || core->sched_policy == SCHED_NORMAL) &&
               core->sched_nice == self->nice && core->sched_prio == 0 &&
               !(core->sched_flags & FLAGS_KEPT) && !core->has_sched_runtime;
}

static int sched_outside(struct restore_thread *t, struct ckpt_error *err) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        int r;

        set_cpus(t, self);
        r = set_ioprio(t, t->tid, err);
        return r < 0 || has_policy(restore_thread_core(t), self) ? r : set_policy(t, t->tid, err);
}

const struct task_kind kind_sched = {
        .name = "scheduling",
        .per_thread = true,
        .phase = TASK_PHASE_LAST,
        .aside = sched_read,
        .check = sched_check,
        .outside = sched_outside,
};
