/* SPDX-License-Identifier: GPL-2.0-only */
/* What each thread has for itself and reads and sets by prctl(2), arch_prctl(2) and personality(2). */
#include <asm/prctl.h>
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "log.h"
#include "task/internal.h"
#include "task/self.h"

enum { COMM_SIZE = 16, NR_SPECULATION = 3, NR_SIGNALS = 64 };

static const uint32_t spec_settable = PR_SPEC_DISABLE | PR_SPEC_FORCE_DISABLE | PR_SPEC_DISABLE_NOEXEC;

struct asked_thread {
        uint32_t slack, personality, mce, cpuid, speculation[NR_SPECULATION]; /* operations */
        const struct thread_data *data;                                       /* in the batch */
};

struct thread_data {
        char comm[COMM_SIZE];
        int32_t pdeath_sig, tsc;
};

/* ---- dump ---- */

static void *ask(struct dump_thread *t, struct compel_batch *b) {
        struct asked_thread *asked = arena_new(t->arena, struct asked_thread);
        raddr_t at;

        compel_room(b, 7 + NR_SPECULATION, sizeof(struct thread_data));
        asked->data = compel_data(b, sizeof(struct thread_data), &at);
        compel_call(b, "read its name", SYS_prctl, PR_GET_NAME, at, 0, 0, 0);
        compel_call(b, "read its parent-death signal", SYS_prctl, PR_GET_PDEATHSIG,
                    at + offsetof(struct thread_data, pdeath_sig), 0, 0, 0);
        compel_call(b, "read its TSC mode", SYS_prctl, PR_GET_TSC, at + offsetof(struct thread_data, tsc), 0,
                    0, 0);
        asked->slack = task_ask(b, "read its timer slack", SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0);
        asked->personality = task_ask(b, "read its personality", SYS_personality, 0xffffffff);
        asked->mce = task_ask(b, "read its machine check policy", SYS_prctl, PR_MCE_KILL_GET, 0, 0, 0, 0);
        asked->cpuid = task_ask(b, "read its CPUID mode", SYS_arch_prctl, ARCH_GET_CPUID, 0);
        for (uint32_t i = 0; i < NR_SPECULATION; i++)
                asked->speculation[i] =
                        task_ask(b, "read its speculation", SYS_prctl, PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
        return asked;
}

static void speculation_to_image(struct dump_thread *t, const struct compel_batch *b, const uint32_t *ops) {
        Img__ThreadCore *core = dump_thread_core(t);
        struct arena *a = t->arena;

        core->n_speculation = 0; /* it may be asked more than once */
        for (uint32_t i = 0; i < NR_SPECULATION; i++) {
                int64_t value = task_asked(b, ops[i]);
                Img__SpeculationControl *image;

                if (value < 0 || !(value & PR_SPEC_PRCTL) || !(value & spec_settable))
                        continue;
                image = arena_message(a, Img__SpeculationControl, img__speculation_control__init);
                image->which = i;
                image->value = (uint32_t)value & spec_settable;
                if (!core->speculation)
                        core->speculation = arena_new_array(a, Img__SpeculationControl *, NR_SPECULATION);
                core->speculation[core->n_speculation++] = image;
        }
}

/* The process has that of its leader, or of its first living thread. */
static void personality_to_image(struct dump_thread *t, uint32_t value) {
        if (t == &t->task->threads[0])
                dump_task_core(t)->personality = value;
        else if (dump_task_core(t)->personality != value) {
                dump_thread_core(t)->has_personality = true;
                dump_thread_core(t)->personality = value;
        }
}

static void comm_to_image(struct dump_thread *t, const char comm[COMM_SIZE]) {
        dump_thread_core(t)->comm = arena_printf(t->arena, "%.*s", COMM_SIZE - 1, comm);
        if (t->tid == t->task->pid)
                dump_task_core(t)->comm = dump_thread_core(t)->comm;
}

static int answer(struct dump_thread *t, struct compel_batch *b, void *asked_, struct ckpt_error *err) {
        const struct asked_thread *asked = asked_;
        const struct thread_data data = *asked->data;
        int64_t slack = task_asked(b, asked->slack), mce = task_asked(b, asked->mce);
        Img__ThreadCore *core = dump_thread_core(t);

        if (slack < 0 || data.pdeath_sig < 0 || data.pdeath_sig > NR_SIGNALS)
                return ckpt_error(err, -EIO, "%s: the answer of its agent makes no sense",
                                  dump_thread_name(t));
        comm_to_image(t, data.comm);
        core->has_pdeath_sig = true;
        core->pdeath_sig = (uint32_t)data.pdeath_sig;
        core->has_timerslack_ns = true;
        core->timerslack_ns = (uint64_t)slack;
        personality_to_image(t, (uint32_t)task_asked(b, asked->personality));
        if (mce >= 0 && mce != PR_MCE_KILL_DEFAULT) {
                core->has_mce_kill = true;
                core->mce_kill = (uint32_t)mce;
        }
        if (data.tsc != PR_TSC_ENABLE) {
                core->has_tsc_mode = true;
                core->tsc_mode = (uint32_t)data.tsc;
        }
        if (task_asked(b, asked->cpuid) == 0)
                core->has_cpuid_faulting = core->cpuid_faulting = true;
        speculation_to_image(t, b, asked->speculation);
        return 0;
}

/* `like` may be the first thread, whose personality is that of the process. */
static void infer(struct dump_thread *t, const struct dump_thread *like, const struct thread_fact *fact) {
        const Img__ThreadCore *from = dump_thread_core(like);
        Img__ThreadCore *core = dump_thread_core(t);

        comm_to_image(t, fact->comm);
        core->has_pdeath_sig = from->has_pdeath_sig;
        core->pdeath_sig = from->pdeath_sig;
        core->has_timerslack_ns = from->has_timerslack_ns;
        core->timerslack_ns = from->timerslack_ns;
        core->has_personality = from->has_personality;
        core->personality = from->personality;
        core->has_mce_kill = from->has_mce_kill;
        core->mce_kill = from->mce_kill;
        core->has_tsc_mode = from->has_tsc_mode;
        core->tsc_mode = from->tsc_mode;
        core->has_cpuid_faulting = from->has_cpuid_faulting;
        core->cpuid_faulting = from->cpuid_faulting;
        core->n_speculation = from->n_speculation;
        core->speculation = from->speculation;
}

/* ---- restore ---- */

static int check(struct restore_thread *t, struct ckpt_error *err) {
        const Img__ThreadCore *core = restore_thread_core(t);

        if (core->has_pdeath_sig && core->pdeath_sig > NR_SIGNALS)
                return ckpt_error(err, -EBADMSG, "%s: %u is no signal", restore_thread_name(t),
                                  core->pdeath_sig);
        return 0;
}

/* A core of another tool may have the name in its process-wide part only. */
static const char *comm_of(const struct restore_thread *t) {
        const char *comm = restore_thread_core(t)->comm;

        return comm ? comm : restore_task_core(t)->comm;
}

static int restore_early(struct restore_thread *t, struct compel_batch *b,
                         struct ckpt_error *err __attribute__((unused))) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__ThreadCore *core = restore_thread_core(t);
        char comm[COMM_SIZE] = { 0 };

        strncpy(comm, comm_of(t), sizeof(comm) - 1);
        compel_call(b, "set its name", SYS_prctl, PR_SET_NAME, compel_copy(b, comm, sizeof(comm)), 0, 0, 0);
        if (core->has_timerslack_ns && core->timerslack_ns != self->timerslack_ns)
                compel_call(b, "set its timer slack", SYS_prctl, PR_SET_TIMERSLACK, core->timerslack_ns, 0,
                            0, 0);
        return 0;
}

/* A CPU that need not, or cannot, be told says so; then there is nothing that could be kept. */
static void add_speculation(const struct restore_thread *t, const Img__SpeculationControl *s,
                            struct compel_batch *b) {
        int now = s->which < NR_SPECULATION ? prctl(PR_GET_SPECULATION_CTRL, s->which, 0, 0, 0) : -1;

        if (now < 0 || !(now & PR_SPEC_PRCTL)) {
                log_info("%s: speculation of kind %u cannot be controlled on this CPU",
                         restore_thread_name(t), s->which);
                return;
        }
        compel_call(b, "restrict speculation", SYS_prctl, PR_SET_SPECULATION_CTRL, s->which,
                    s->value & spec_settable, 0, 0);
}

/*
 * The parent-death signal is reset by a change of credentials; the personality changes what mmap(2) and mprotect(2)
 * do, so the memory must be final.
 */
static int restore_late(struct restore_thread *t, struct compel_batch *b,
                        struct ckpt_error *err __attribute__((unused))) {
        const struct task_self *self = task_self_of_restore(t->task->restore);
        const Img__ThreadCore *core = restore_thread_core(t);
        uint32_t personality = core->has_personality ? core->personality : restore_task_core(t)->personality;

        if (core->has_pdeath_sig && core->pdeath_sig)
                compel_call(b, "set its parent-death signal", SYS_prctl, PR_SET_PDEATHSIG, core->pdeath_sig,
                            0, 0, 0);
        if (personality != self->personality)
                compel_call(b, "set its personality", SYS_personality, personality);
        if (core->has_mce_kill)
                compel_call(b, "set its machine check policy", SYS_prctl, PR_MCE_KILL, PR_MCE_KILL_SET,
                            core->mce_kill, 0, 0);
        if (core->has_tsc_mode)
                compel_call(b, "set its TSC mode", SYS_prctl, PR_SET_TSC, core->tsc_mode, 0, 0, 0);
        if (core->has_cpuid_faulting && core->cpuid_faulting)
                compel_call(b, "set its CPUID mode", SYS_arch_prctl, ARCH_SET_CPUID, 0);
        for (size_t i = 0; i < core->n_speculation; i++)
                add_speculation(t, core->speculation[i], b);
        return 0;
}

const struct task_kind kind_thread_early = {
        .name = "name and timer slack",
        .per_thread = true,
        .phase = TASK_PHASE_THREAD,
        .ask = ask,
        .answer = answer,
        .infer = infer,
        .check = check,
        .restore = restore_early,
};

const struct task_kind kind_thread_late = {
        .name = "attributes that change with credentials or memory",
        .per_thread = true,
        .phase = TASK_PHASE_LAST,
        .restore = restore_late,
};
