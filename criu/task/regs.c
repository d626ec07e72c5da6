/* SPDX-License-Identifier: GPL-2.0-only */
/* General and extended registers, signal mask. */
#include "task/regs.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "task/internal.h"
#include "task/self.h"
#include "task/syscall.h"

enum {
        USER_CS = 0x33,     /* 64-bit code */
        SYSCALL_SIZE = 2,   /* of the instruction */
        RSEQ_CS_OFFSET = 8, /* of rseq_cs in struct rseq */
};

/* ptrace's names and those of the format. */
/* clang-format off */
#define EACH_REGISTER(R)                                                                                     \
        R(r15, r15) R(r14, r14) R(r13, r13) R(r12, r12) R(rbp, bp) R(rbx, bx) R(r11, r11) R(r10, r10)        \
        R(r9, r9) R(r8, r8) R(rax, ax) R(rcx, cx) R(rdx, dx) R(rsi, si) R(rdi, di) R(orig_rax, orig_ax)      \
        R(rip, ip) R(cs, cs) R(eflags, flags) R(rsp, sp) R(ss, ss) R(fs_base, fs_base) R(gs_base, gs_base)   \
        R(ds, ds) R(es, es) R(fs, fs) R(gs, gs)
/* clang-format on */

static void gpregs_to_image(const struct user_regs_struct *regs, const Img__SyscallState *call,
                            Img__UserX86Regs *ret) {
#define R(kernel, wire) ret->wire = regs->kernel;
        EACH_REGISTER(R)
#undef R
        ret->has_mode = true;
        ret->mode = IMG__USER_X86_REGS_MODE__NATIVE;
        /* For readers that do not know of thread_core.syscall: make the call again, or have it fail with EINTR. */
        if (call && call->result == -516)
                ret->ax = (uint64_t)-EINTR;
        else if (call) {
                ret->ax = call->nr;
                ret->ip -= SYSCALL_SIZE;
        }
}

static void gpregs_from_image(const Img__UserX86Regs *image, struct user_regs_struct *ret) {
        *ret = (struct user_regs_struct){ 0 };
#define R(kernel, wire) ret->kernel = image->wire;
        EACH_REGISTER(R)
#undef R
}

static void mask_to_image(struct dump_thread *t) {
        Img__ThreadCore *core = dump_thread_core(t);

        core->has_blk_sigset = true;
        core->blk_sigset = t->stop.sigmask;
        if (t->tid == t->task->pid)
                dump_task_core(t)->blk_sigset = t->stop.sigmask;
}

static int regs_read(struct dump_thread *t, struct ckpt_error *err) {
        Img__ThreadInfoX86 *info = t->core->thread_info;
        _Alignas(16) char area[XSTATE_SIZE_MAX];
        size_t size = sizeof(area);
        int r;

        if (t->stop.regs.cs != USER_CS)
                return ckpt_error(err, -ENOTSUP, "%s runs 32-bit code, which is not supported yet",
                                  dump_thread_name(t));
        gpregs_to_image(&t->stop.regs, dump_thread_core(t)->syscall, info->gpregs);
        mask_to_image(t);
        r = compel_get_xstate(&t->stop, area, &size);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its extended registers",
                                        dump_thread_name(t));
        r = xstate_to_image(&task_self_of_dump(t->task->dump)->xstate, area, size, t->arena, info->fpregs,
                            err);
        return r < 0 ? ckpt_error_prefix(err, "%s", dump_thread_name(t)) : 0;
}

static int regs_check(struct restore_thread *t, struct ckpt_error *err) {
        const struct xstate_layout *layout = &task_self_of_restore(t->task->restore)->xstate;
        const Img__UserX86Regs *regs = t->core->thread_info->gpregs;
        _Alignas(16) char area[XSTATE_SIZE_MAX];
        int r;

        if ((regs->has_mode && regs->mode != IMG__USER_X86_REGS_MODE__NATIVE) || regs->cs != USER_CS)
                return ckpt_error(err, -ENOTSUP, "%s runs 32-bit code, which is not supported yet",
                                  restore_thread_name(t));
        r = xstate_from_image(layout, t->core->thread_info->fpregs, area, sizeof(area), err);
        return r < 0 ? ckpt_error_prefix(err, "%s", restore_thread_name(t)) : 0;
}

static int set_xstate(struct restore_thread *t, struct ckpt_error *err) {
        const struct xstate_layout *layout = &task_self_of_restore(t->task->restore)->xstate;
        size_t *ours = &t->task->restore->xstate_size;
        _Alignas(16) char area[XSTATE_SIZE_MAX];
        size_t size = sizeof(area);
        int r;

        /* The kernel takes nothing but the size that it gives, which is the same for all. */
        if (__atomic_load_n(ours, __ATOMIC_RELAXED) == 0) {
                r = compel_get_xstate(&t->stop, area, &size);
                if (r < 0)
                        return ckpt_error_errno(err, r, "%s: cannot read its extended registers",
                                                restore_thread_name(t));
                __atomic_store_n(ours, size, __ATOMIC_RELAXED);
        }
        size = __atomic_load_n(ours, __ATOMIC_RELAXED);
        r = xstate_from_image(layout, t->core->thread_info->fpregs, area, size, err);
        if (r < 0)
                return ckpt_error_prefix(err, "%s", restore_thread_name(t));
        r = compel_set_xstate(&t->stop, area, size);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot set its extended registers",
                                        restore_thread_name(t));
        return 0;
}

/*
 * Images of other tools may hold a thread inside a restartable sequence. Registering the area has cleared this
 * pointer (Linux 6.14), or the kernel has, having seen the thread outside of the sequence.
 */
static int set_rseq_cs(const struct restore_thread *t, struct ckpt_error *err) {
        const Img__Rseq *rseq = restore_thread_core(t)->rseq_entry;
        struct iovec local, remote;
        uint64_t value;

        if (!rseq || !rseq->has_rseq_cs_pointer || rseq->rseq_cs_pointer == 0 || rseq->rseq_abi_pointer == 0)
                return 0;
        value = rseq->rseq_cs_pointer;
        local = (struct iovec){ &value, sizeof(value) };
        remote = (struct iovec){ (void *)(uintptr_t)(rseq->rseq_abi_pointer + RSEQ_CS_OFFSET),
                                 sizeof(value) };
        if (process_vm_writev(t->tid, &local, 1, &remote, 1, 0) != sizeof(value))
                return ckpt_error(err, -EFAULT, "%s: cannot write to its area for restartable sequences",
                                  restore_thread_name(t));
        return 0;
}

int regs_restore_thread(struct restore_thread *t, struct ckpt_error *err) {
        const Img__ThreadCore *core = restore_thread_core(t);
        uint64_t mask = core->has_blk_sigset ? core->blk_sigset : restore_task_core(t)->blk_sigset;
        struct user_regs_struct regs;
        int r;

        ckpt_assert(t->stop.stopped);
        r = set_xstate(t, err);
        if (r == 0)
                r = tls_restore_thread(t, err);
        if (r == 0)
                r = set_rseq_cs(t, err);
        if (r < 0)
                return r;
        gpregs_from_image(t->core->thread_info->gpregs, &regs);
        syscall_apply(t, &regs);
        r = compel_set_sigmask(&t->stop, mask);
        if (r == 0)
                r = compel_set_regs(&t->stop, &regs);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot set its registers", restore_thread_name(t));
        t->stop.regs = regs;
        t->stop.sigmask = mask;
        return 0;
}

const struct task_kind kind_registers = {
        .name = "registers",
        .per_thread = true,
        .phase = TASK_PHASE_THREAD,
        .read = regs_read,
        .check = regs_check,
};
