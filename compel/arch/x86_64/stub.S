/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The way out of a target that was entered; stub.h describes it. It runs in the target, at
 * any address, and only after the death of ckpt all the way through: otherwise ptrace stops
 * the thread before the registers are loaded and writes them itself.
 */
#include "stub.h"

#define SAVED(what) compel_stub_data + STUB_REGS_##what(%rip)

        .section .rodata
        .balign 8
        .globl compel_stub, compel_stub_leave, compel_stub_guest, compel_stub_resume
        .globl compel_stub_data, compel_stub_end

compel_stub:
        syscall

compel_stub_leave:
        /* An error of the mmap before is no address: munmap refuses it, which does no harm. */
        movq %rax, %rdi
        movq SAVED(MAPLEN), %rsi
        movl $11, %eax /* munmap */
        syscall
        jmp compel_stub_resume

compel_stub_guest:
        /* From the decrement on, the driver may unmap the memory, so nothing there is used after it. */
        movq %rax, %rdi
        lock decl (%rdi)
        movl $1, %esi /* FUTEX_WAKE */
        movl $0x7fffffff, %edx
        movl $202, %eax
        syscall

compel_stub_resume:
        /*
         * The flags are popped off the slot itself, while signals are still blocked.
         * From here on only mov, which keeps them; syscall keeps them, too.
         */
        leaq compel_stub_data + STUB_REGS_RFLAGS(%rip), %rsp
        popfq
        movq SAVED(RSP), %rsp
        movl $2, %edi /* SIG_SETMASK */
        leaq SAVED(SIGMASK), %rsi
        movl $0, %edx
        movl $8, %r10d
        movl $14, %eax /* rt_sigprocmask */
        syscall
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
        movq SAVED(RCX), %rcx
        movq SAVED(RDX), %rdx
        movq SAVED(RSI), %rsi
        movq SAVED(RDI), %rdi
        jmp *SAVED(RIP)

        .balign 8
compel_stub_data:
        .fill STUB_REGS_SIZE, 1, 0
compel_stub_end:

        .section .note.GNU-stack, "", @progbits
