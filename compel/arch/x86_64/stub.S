/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The way out of a target that was entered; stub.h describes it. It runs in the target, at
 * any address, and only after the death of ckpt all the way through: otherwise ptrace stops
 * the thread before the registers are loaded and writes them itself.
 *
 * compel_stub_leave and compel_stub_guest come out of the agent, with all signals blocked and
 * rflags changed. Who is put at another label by ptrace has its own rflags and rsp, and they
 * are kept: signals may not be blocked yet, so there must be no moment at which rsp is no stack.
 * mov, jmp and syscall change no flags.
 */
#include "stub.h"

#define SAVED(what) compel_stub_data + STUB_REGS_##what(%rip)

        .section .rodata
        .balign 8
        .globl compel_stub, compel_stub_protect, compel_stub_leave, compel_stub_unmap
        .globl compel_stub_guest, compel_stub_guest_out, compel_stub_resume
        .globl compel_stub_data, compel_stub_end

compel_stub:
        syscall
        /* An error of the mmap is no address: munmap refuses it, which does no harm. */
        jmp compel_stub_unmap

compel_stub_protect:
        syscall
        movq SAVED(MAPADDR), %rax
        jmp compel_stub_unmap

compel_stub_leave:
        leaq SAVED(RFLAGS), %rsp
        popfq
compel_stub_unmap:
        movq %rax, %rdi
        movq SAVED(MAPLEN), %rsi
        movl $11, %eax /* munmap */
        syscall
        jmp compel_stub_resume

compel_stub_guest:
        leaq SAVED(RFLAGS), %rsp
        popfq
compel_stub_guest_out:
        /* From this store on, the driver may unmap the memory, so nothing there is used after it. */
        movl $0, (%rax)

compel_stub_resume:
        movq SAVED(RSP), %rsp
        movl $2, %edi /* SIG_SETMASK */
        leaq SAVED(SIGMASK), %rsi
        movl $0, %edx
        movl $8, %r10d
        movl $14, %eax /* rt_sigprocmask */
        syscall
        movq %rbp, %rcx
        movq SAVED(R15), %r15
        movq SAVED(R14), %r14
        movq SAVED(R13), %r13
        movq SAVED(R12), %r12
        movq SAVED(RBP), %rbp
        movq SAVED(RBX), %rbx
        movq SAVED(R11), %r11
        movq SAVED(R10), %r10
        movq SAVED(R9), %r9
        movq SAVED(R8), %r8
        movq SAVED(RAX), %rax
        movq SAVED(RDX), %rdx
        movq SAVED(RSI), %rsi
        movq SAVED(RDI), %rdi
        jrcxz 1f
        movq $-4, %rax /* -EINTR */
        movq SAVED(RCX), %rcx
        jmp *SAVED(INTRRIP)
1:
        movq SAVED(RCX), %rcx
        jmp *SAVED(RIP)

        .balign 8
compel_stub_data:
        .fill STUB_REGS_SIZE, 1, 0
compel_stub_end:

        .section .note.GNU-stack, "", @progbits
