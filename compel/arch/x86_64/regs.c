/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <sys/syscall.h>

#include "compel/arch.h"
#include "macro.h"

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

static bool in_syscall(const struct user_regs_struct *regs) {
        return (int64_t)regs->orig_rax >= 0;
}

enum compel_intr arch_intr(const struct user_regs_struct *regs) {
        if (!in_syscall(regs))
                return COMPEL_INTR_NONE;
        switch (-(int64_t)regs->rax) {
        case ERESTARTSYS_:
                return COMPEL_INTR_NO_RESTART;
        case ERESTARTNOHAND_:
        case ERESTART_RESTARTBLOCK_:
                return COMPEL_INTR_ANY;
        default:
                return COMPEL_INTR_NONE;
        }
}

/*
 * Nothing of these has been done yet. A connect(2) with SO_SNDTIMEO has been begun, but made again it goes on waiting for
 * the same connection: without a limit of time the kernel itself makes it again.
 */
static const uint16_t ends_at_stop[] = {
        SYS_epoll_wait,
        SYS_epoll_pwait,
        SYS_epoll_pwait2,
        SYS_semop,
        SYS_semtimedop,
        SYS_rt_sigtimedwait,
        SYS_io_getevents,
        SYS_io_pgetevents,
        SYS_io_uring_enter,
        /* Sockets with SO_RCVTIMEO or SO_SNDTIMEO; -EINTR means that nothing has been transferred. */
        SYS_connect,
        SYS_accept,
        SYS_accept4,
        SYS_recvfrom,
        SYS_recvmsg,
        SYS_recvmmsg,
        SYS_sendto,
        SYS_sendmsg,
        SYS_sendmmsg,
        SYS_read,
        SYS_readv,
        SYS_write,
        SYS_writev,
};

bool arch_restart_interrupted(struct user_regs_struct *regs) {
        if (!in_syscall(regs) || (int64_t)regs->rax != -EINTR)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(ends_at_stop); i++)
                if (regs->orig_rax == ends_at_stop[i]) {
                        regs->rax = (uint64_t)-ERESTARTNOHAND_;
                        return true;
                }
        return false;
}

void arch_stub_regs(const struct user_regs_struct *regs, uint64_t sigmask, struct stub_regs *ret) {
        *ret = (struct stub_regs){
                .r15 = regs->r15,
                .r14 = regs->r14,
                .r13 = regs->r13,
                .r12 = regs->r12,
                .rbp = regs->rbp,
                .rbx = regs->rbx,
                .r11 = regs->r11,
                .r10 = regs->r10,
                .r9 = regs->r9,
                .r8 = regs->r8,
                .rax = regs->rax,
                .rcx = regs->rcx,
                .rdx = regs->rdx,
                .rsi = regs->rsi,
                .rdi = regs->rdi,
                .rip = regs->rip,
                .rsp = regs->rsp,
                .rflags = regs->eflags,
                .sigmask = sigmask,
                .intr_rip = regs->rip,
        };
        if (!in_syscall(regs))
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
