/* SPDX-License-Identifier: GPL-2.0-only */
/* What compel needs to know of x86-64 registers (asm/ptrace.h, the System V ABI). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

#include "compel/lane.h"
#include "stub.h"

/* In-kernel results of interrupted system calls; ptrace shows them, user space never sees them. */
enum {
        ERESTARTSYS_ = 512,
        ERESTARTNOINTR_ = 513,
        ERESTARTNOHAND_ = 514,
        ERESTART_RESTARTBLOCK_ = 516,
        NR_RESTART_SYSCALL = 219,
        SYSCALL_INSN_SIZE = 2,
        USER64_CS = 0x33,    /* code segment of 64-bit user space */
        EFLAGS_TRAP = 0x100, /* a SIGTRAP after each instruction */
};

/* orig_rax -1: "not in a system call", so that the kernel restarts nothing. */
static inline void arch_set_syscall(struct user_regs_struct *regs, uint64_t insn, uint64_t nr,
                                    const uint64_t arg[6]) {
        regs->rip = insn;
        regs->rbp = 0; /* for the stub that follows */
        regs->rax = nr;
        regs->orig_rax = (uint64_t)-1;
        regs->rdi = arg[0];
        regs->rsi = arg[1];
        regs->rdx = arg[2];
        regs->r10 = arg[3];
        regs->r8 = arg[4];
        regs->r9 = arg[5];
}

static inline int64_t arch_result(const struct user_regs_struct *regs) {
        return (int64_t)regs->rax;
}

/* Call of a function with one argument that never returns. */
static inline void arch_set_call(struct user_regs_struct *regs, uint64_t entry, uint64_t arg,
                                 uint64_t stack) {
        regs->rip = entry;
        regs->rdi = arg;
        regs->rsp = stack;
        regs->orig_rax = (uint64_t)-1;
}

/* In the calling thread: call `entry` with one argument on another stack, for good. */
static inline void __attribute__((noreturn)) compel_enter(uint64_t entry, uint64_t arg, uint64_t stack) {
        __asm__ volatile("mov %2, %%rsp\n\tjmp *%0" : : "r"(entry), "D"(arg), "r"(stack) : "memory");
        __builtin_unreachable();
}

/* Jump into the stub with a value for it. */
static inline void arch_set_stub(struct user_regs_struct *regs, uint64_t entry, uint64_t value) {
        regs->rip = entry;
        regs->rax = value;
        regs->rbp = 0;
        regs->orig_rax = (uint64_t)-1;
}

/* Which signal handlers make an interrupted system call end with -EINTR instead of being started again. */
enum compel_intr arch_intr(const struct user_regs_struct *regs);

/*
 * Some system calls return -EINTR for any stop, also one that no signal caused (signal(7), "Interruption of
 * system calls and library functions by stop signals"). Turn that into the result with which the kernel
 * starts them again unless a signal handler runs. Returns whether there was something to turn.
 */
bool arch_restart_interrupted(struct user_regs_struct *regs);

/*
 * The registers with which a thread goes on without help: an interrupted system call is started
 * again, as the kernel does it for a thread that no signal handler awaits.
 */
void arch_stub_regs(const struct user_regs_struct *regs, uint64_t sigmask, struct stub_regs *ret);
