/* SPDX-License-Identifier: GPL-2.0-only */
/* Alternate signal stacks: sigaltstack(2). The agent's own stack is never within one, so that it may be changed. */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>

#include "task/internal.h"

static void *ask(struct dump_thread *t __attribute__((unused)), struct compel_batch *b) {
        raddr_t at;
        stack_t *ss = compel_data(b, sizeof(*ss), &at);

        compel_call(b, "read its alternate signal stack", SYS_sigaltstack, 0, at);
        return ss;
}

static void to_image(struct dump_thread *t, uint64_t sp, uint64_t size, uint32_t flags) {
        Img__ThreadSas *sas = arena_message(t->arena, Img__ThreadSas, img__thread_sas__init);

        sas->ss_sp = sp;
        sas->ss_size = size;
        sas->ss_flags = flags;
        dump_thread_core(t)->sas = sas;
}

static int answer(struct dump_thread *t, struct compel_batch *b __attribute__((unused)), void *asked,
                  struct ckpt_error *err __attribute__((unused))) {
        const stack_t ss = *(const stack_t *)asked;

        to_image(t, compel_arg(ss.ss_sp), ss.ss_size, (uint32_t)ss.ss_flags);
        return 0;
}

static void infer(struct dump_thread *t, const struct dump_thread *like __attribute__((unused)),
                  const struct thread_fact *fact) {
        to_image(t, fact->ss_sp, fact->ss_size, fact->ss_flags);
}

/* A task begins with what ckpt has: something only where a library or a sanitizer gave it one. */
static bool has_none(void) {
        stack_t own;

        return sigaltstack(NULL, &own) == 0 && (own.ss_flags & SS_DISABLE);
}

static int restore(struct restore_thread *t, struct compel_batch *b,
                   struct ckpt_error *err __attribute__((unused))) {
        const Img__ThreadSas *sas = restore_thread_core(t)->sas;
        stack_t ss = { 0 };

        if (!sas || (sas->ss_sp == 0 && sas->ss_size == 0 && sas->ss_flags == SS_DISABLE && has_none()))
                return 0;
        ss.ss_sp = (void *)(uintptr_t)sas->ss_sp;
        ss.ss_size = sas->ss_size;
        /* Other tools may have asked while it stood on that stack. */
        ss.ss_flags = (int)(sas->ss_flags & ~(uint32_t)SS_ONSTACK);
        compel_call(b, "set its alternate signal stack", SYS_sigaltstack, compel_copy(b, &ss, sizeof(ss)),
                    0);
        return 0;
}

const struct task_kind kind_sigaltstack = {
        .name = "alternate signal stack",
        .per_thread = true,
        .phase = TASK_PHASE_LAST,
        .ask = ask,
        .answer = answer,
        .infer = infer,
        .restore = restore,
};
