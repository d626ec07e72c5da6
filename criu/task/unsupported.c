/* SPDX-License-Identifier: GPL-2.0-only */
/* What a task can have that nothing here carries over: refused by name. */
#include <elf.h>
#include <errno.h>
#include <linux/ptrace.h>
#include <string.h>
#include <sys/syscall.h>

#include "kernel/uapi.h"
#include "task/facts.h"
#include "task/internal.h"
#include "task/self.h"
#include "task/waits.h"

enum {
        LOOK_THREADS_MAX = 256, /* of more, the others are looked at once they are stopped */
        NT_386_IOPERM_ = 0x201,
        NT_X86_SHSTK_ = 0x204,
};

static const char *unsupported_shadow_stack(const char **ret_hint) {
        *ret_hint = "Start it with GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK";
        return "uses a shadow stack, which is not supported yet";
}

/* The first thing about a thread's status that cannot be carried over, or NULL. */
static const char *unsupported_status(const struct proc_status *st, const char **ret_hint) {
        *ret_hint = NULL;
        if (st->thread_features & PROC_X86_SHSTK)
                return unsupported_shadow_stack(ret_hint);
        if (proc_status_has(st, PROC_STATUS_UNTAG_MASK) && st->untag_mask != UINT64_MAX)
                return "uses linear address masking, which is not supported yet";
        if (st->core_dumping) {
                *ret_hint = "Wait until the core dump is written";
                return "is about to die and writes a core dump";
        }
        return NULL;
}

/* `call`: where to note how often it has slept; may be NULL. */
static void look_status(struct dump_task *t, const struct proc_status *status, struct task_call *call) {
        const char *what, *hint;

        if (call) {
                call->has_sleeps = proc_status_has(status, PROC_STATUS_SLEEPS);
                call->sleeps = status->sleeps;
        }

        t->filtered |= status->seccomp != 0;
        what = unsupported_status(status, &hint);
        if (what)
                blocker_add(t->dump->blockers, hint, "%s %s", dump_task_name(t), what);
}

static void look_thread(struct dump_task *t, pid_t tid, struct task_call *call, struct proc_buf *buf) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_status_ struct proc_status status = { 0 };

        if (proc_open_thread(&t->proc, tid, &dir) == 0 && proc_status_read(&dir, buf, &status) == 0)
                look_status(t, &status, call);
}

/* The same message of several threads is kept once. */
static void look_threads(struct dump_task *t) {
        const struct pid_vec *tids = dump_tids(t);
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        size_t read = 0;

        for (size_t i = 0; i < tids->n && read < LOOK_THREADS_MAX; i++) {
                struct task_call *call = i < t->nr_calls ? &t->calls[i] : NULL;

                if (tids->v[i] == t->pid && t->seen_status) {
                        look_status(t, t->seen_status, call);
                } else if (i == 0 || !task_facts_same_status(t, tids->v[i], tids->v[0])) {
                        look_thread(t, tids->v[i], call, &buf);
                        read++;
                }
        }
}

static void look_label(struct dump_task *t) {
        const struct task_self *self = task_self_of_dump(t->dump);
        char label[256];

        if (self->no_labels)
                return;
        (void)task_read_label(&t->proc, label, sizeof(label));
        if (strcmp(label, self->label) != 0)
                blocker_add(t->dump->blockers,
                            "Run it without a profile of its own, or ckpt under the same one",
                            "%s is confined by the security module as '%s', which is not supported yet",
                            dump_task_name(t), label);
}

static void look(struct dump_task *t) {
        waits_prepare(t);
        look_threads(t);
        look_label(t);
        waits_look(t);
}

/* What only ptrace can see, of one thread. */
static const char *unsupported_stopped(const struct compel_thread *t, const struct proc_status *status,
                                       const char **ret_hint) {
        struct ptrace_sud_config sud = { 0 };
        uint64_t shadow_stack;
        char bits[64];
        size_t size = sizeof(shadow_stack);

        if (!proc_status_has(status, PROC_STATUS_THREAD_FEATURES) &&
            compel_regset(t, PTRACE_GETREGSET, NT_X86_SHSTK_, &shadow_stack, &size) == 0)
                return unsupported_shadow_stack(ret_hint);
        size = sizeof(bits);
        if (compel_ptrace(t, PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, sizeof(sud), &sud, sizeof(sud)) == 0 &&
            sud.mode != 0)
                return "uses syscall user dispatch, which is not supported yet";
        if (compel_regset(t, PTRACE_GETREGSET, NT_386_IOPERM_, bits, &size) == 0)
                return "has access to I/O ports (ioperm), which is not supported";
        return NULL;
}

static int read_unsupported(struct dump_thread *t, struct ckpt_error *err) {
        const char *hint, *what = unsupported_status(&t->status, &hint);

        if (!what)
                what = unsupported_stopped(&t->stop, &t->status, &hint);
        if (!what) {
                t->stop.plain = true;
                return 0;
        }
        ckpt_error(err, -ENOTSUP, "%s %s; the tree runs on", dump_thread_name(t), what);
        return hint ? ckpt_error_hint(err, "%s", hint) : -ENOTSUP;
}

const struct task_kind kind_unsupported = {
        .name = "unsupported attributes",
        .per_thread = true,
        .phase = TASK_PHASE_THREAD,
        .look = look,
        .read = read_unsupported,
};

/* ---- local descriptor table: only the process itself can read it ---- */

static void *ask_ldt(struct dump_thread *t, struct compel_batch *b) {
        uint32_t *index = arena_new(&t->task->arena, uint32_t);
        raddr_t at;

        compel_data(b, 64, &at);
        *index = task_ask(b, "read its local descriptor table", SYS_modify_ldt, 0, at, 64);
        return index;
}

static int answer_ldt(struct dump_thread *t, struct compel_batch *b, void *asked, struct ckpt_error *err) {
        /* The kernel answers with 32 bits. */
        if ((int32_t)task_asked(b, *(const uint32_t *)asked) > 0)
                return ckpt_error(
                        err, -ENOTSUP,
                        "%s has a local descriptor table (modify_ldt), which is not supported; the "
                        "tree runs on",
                        dump_task_name(t->task));
        return 0;
}

const struct task_kind kind_ldt = {
        .name = "local descriptor table",
        .phase = TASK_PHASE_PROCESS,
        .ask = ask_ldt,
        .answer = answer_ldt,
};
