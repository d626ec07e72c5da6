/* SPDX-License-Identifier: GPL-2.0-only */
#include "compel/arch.h"

void arch_stub_regs(const struct user_regs_struct *regs, uint64_t sigmask, struct stub_regs *ret) {
        *ret = (struct stub_regs){
                .r15 = regs->r15, .r14 = regs->r14, .r13 = regs->r13, .r12 = regs->r12,
                .rbp = regs->rbp, .rbx = regs->rbx, .r11 = regs->r11, .r10 = regs->r10,
                .r9 = regs->r9,   .r8 = regs->r8,   .rax = regs->rax, .rcx = regs->rcx,
                .rdx = regs->rdx, .rsi = regs->rsi, .rdi = regs->rdi, .rip = regs->rip,
                .rsp = regs->rsp, .rflags = regs->eflags, .sigmask = sigmask,
        };
        if ((int64_t)regs->orig_rax < 0)
                return;
        switch (-(int64_t)regs->rax) {
        case ERESTARTSYS_:
        case ERESTARTNOINTR_:
        case ERESTARTNOHAND_:
                ret->rax = regs->orig_rax;
                ret->rip -= SYSCALL_INSN_SIZE;
                break;
        case ERESTART_RESTARTBLOCK_:
                ret->rax = NR_RESTART_SYSCALL;
                ret->rip -= SYSCALL_INSN_SIZE;
                break;
        default:
                break;
        }
}
