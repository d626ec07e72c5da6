/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Places in a thread's memory that the kernel knows of: what it clears when the thread exits, the list of robust
 * futexes, the area for restartable sequences. And the segments of 32-bit thread pointers.
 */
#include <asm/ldt.h>
#include <errno.h>
#include <linux/prctl.h>
#include <linux/ptrace.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "task/internal.h"

/* ---- addresses ---- */

static int read_rseq(struct dump_thread *t, struct ckpt_error *err) {
        struct ptrace_rseq_configuration conf = { 0 };
        Img__Rseq *rseq;
        long r;

        r = compel_ptrace(&t->stop, PTRACE_GET_RSEQ_CONFIGURATION, sizeof(conf), &conf, sizeof(conf));
        if (r < 0) {
                /* A kernel without restartable sequences. */
                if (r == -EIO)
                        return 0;
                return ckpt_error_errno(err, (int)r, "%s: cannot read its area for restartable sequences",
                                        dump_thread_name(t));
        }
        if (conf.rseq_abi_pointer == 0)
                return 0;
        /* compel has moved the thread out of any sequence, so that there is no rseq_cs to remember. */
        rseq = arena_message(t->arena, Img__Rseq, img__rseq__init);
        rseq->rseq_abi_pointer = conf.rseq_abi_pointer;
        rseq->rseq_abi_size = conf.rseq_abi_size;
        rseq->signature = conf.signature;
        dump_thread_core(t)->rseq_entry = rseq;
        return 0;
}

static int addresses_read(struct dump_thread *t, struct ckpt_error *err) {
        uint64_t head = 0, len = 0;

        if (syscall(SYS_get_robust_list, t->tid, &head, &len) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot read its list of robust futexes",
                                        dump_thread_name(t));
        dump_thread_core(t)->futex_rla = head;
        dump_thread_core(t)->futex_rla_len = (uint32_t)len;
        return read_rseq(t, err);
}

static void *addresses_ask(struct dump_thread *t __attribute__((unused)), struct compel_batch *b) {
        raddr_t at;
        uint64_t *address = compel_data(b, sizeof(*address), &at);

        compel_call(b, "read the address cleared at its exit", SYS_prctl, PR_GET_TID_ADDRESS, at, 0, 0, 0);
        return address;
}

static int addresses_answer(struct dump_thread *t, struct compel_batch *b __attribute__((unused)),
                            void *asked, struct ckpt_error *err __attribute__((unused))) {
        t->core->thread_info->clear_tid_addr = *(const uint64_t *)asked;
        return 0;
}

static void addresses_infer(struct dump_thread *t, const struct dump_thread *like __attribute__((unused)),
                            const struct thread_fact *fact) {
        t->core->thread_info->clear_tid_addr = fact->tid_address;
}

/* Late: until here a restore that fails must not run through lists in memory that others may share. */
static int addresses_restore(struct restore_thread *t, struct compel_batch *b,
                             struct ckpt_error *err __attribute__((unused))) {
        const Img__ThreadCore *core = restore_thread_core(t);
        const Img__Rseq *rseq = core->rseq_entry;
        struct compel_op *op;

        op = compel_call(b, "set the address cleared at its exit", SYS_set_tid_address,
                         t->core->thread_info->clear_tid_addr);
        op->check = COMPEL_CHECK_EQUAL;
        op->want = t->tid;
        if (core->futex_rla != 0)
                compel_call(b, "set its list of robust futexes", SYS_set_robust_list, core->futex_rla,
                            core->futex_rla_len);
        if (rseq && rseq->rseq_abi_pointer != 0)
                compel_call(b, "register its area for restartable sequences", SYS_rseq,
                            rseq->rseq_abi_pointer, rseq->rseq_abi_size, 0, rseq->signature);
        return 0;
}

const struct task_kind kind_addresses = {
        .name = "addresses known to the kernel",
        .per_thread = true,
        .phase = TASK_PHASE_LAST,
        .read = addresses_read,
        .ask = addresses_ask,
        .answer = addresses_answer,
        .infer = addresses_infer,
        .restore = addresses_restore,
};

/* ---- segments ---- */

/* set_thread_area(2) is for 32-bit code only, so ptrace sets what ptrace has read: asm/ptrace-abi.h. */
enum { FIRST_TLS = 12, NR_TLS = 3, PTRACE_GET_THREAD_AREA_ = 25, PTRACE_SET_THREAD_AREA_ = 26 };

static bool is_empty(const struct user_desc *d) {
        return d->base_addr == 0 && d->limit == 0 && d->read_exec_only && d->seg_not_present;
}

static Img__UserDescT *desc_to_image(struct arena *a, const struct user_desc *d) {
        Img__UserDescT *image = arena_message(a, Img__UserDescT, img__user_desc_t__init);

        image->entry_number = d->entry_number;
        image->base_addr = d->base_addr;
        image->limit = d->limit;
        image->seg_32bit = d->seg_32bit;
        image->contents_h = d->contents & 2;
        image->contents_l = d->contents & 1;
        image->read_exec_only = d->read_exec_only;
        image->limit_in_pages = d->limit_in_pages;
        image->seg_not_present = d->seg_not_present;
        image->usable = d->useable;
        return image;
}

static int tls_read(struct dump_thread *t, struct ckpt_error *err) {
        Img__ThreadInfoX86 *info = t->core->thread_info;

        for (unsigned int i = FIRST_TLS; i < FIRST_TLS + NR_TLS; i++) {
                struct user_desc desc = { 0 };
                long r = compel_ptrace(&t->stop, PTRACE_GET_THREAD_AREA_, i, &desc, sizeof(desc));

                if (r < 0) {
                        /* A kernel without 32-bit programs. */
                        if (r == -EIO)
                                return 0;
                        return ckpt_error_errno(err, (int)r, "%s: cannot read its segments",
                                                dump_thread_name(t));
                }
                if (is_empty(&desc))
                        continue;
                if (!info->tls)
                        info->tls = arena_new_array(t->arena, Img__UserDescT *, NR_TLS);
                info->tls[info->n_tls++] = desc_to_image(t->arena, &desc);
        }
        return 0;
}

static int tls_check(struct restore_thread *t, struct ckpt_error *err) {
        const Img__ThreadInfoX86 *info = t->core->thread_info;

        for (size_t i = 0; i < info->n_tls; i++)
                if (info->tls[i]->entry_number - FIRST_TLS >= NR_TLS)
                        return ckpt_error(err, -EBADMSG, "%s: its segments make no sense",
                                          restore_thread_name(t));
        return 0;
}

int tls_restore_thread(const struct restore_thread *t, struct ckpt_error *err) {
        const Img__ThreadInfoX86 *info = t->core->thread_info;

        for (size_t i = 0; i < info->n_tls; i++) {
                const Img__UserDescT *image = info->tls[i];
                struct user_desc desc = {
                        .entry_number = image->entry_number,
                        .base_addr = image->base_addr,
                        .limit = image->limit,
                        .seg_32bit = image->seg_32bit,
                        .contents = (image->contents_h ? 2U : 0) | (image->contents_l ? 1U : 0),
                        .read_exec_only = image->read_exec_only,
                        .limit_in_pages = image->limit_in_pages,
                        .seg_not_present = image->seg_not_present,
                        .useable = image->usable,
                };

                if (is_empty(&desc))
                        continue;
                if (syscall(SYS_ptrace, PTRACE_SET_THREAD_AREA_, t->tid, desc.entry_number, &desc) < 0)
                        return ckpt_error_errno(err, -errno, "%s: cannot set its segments",
                                                restore_thread_name(t));
        }
        return 0;
}

const struct task_kind kind_tls = {
        .name = "segments",
        .per_thread = true,
        .phase = TASK_PHASE_THREAD,
        .read = tls_read,
        .check = tls_check,
};
