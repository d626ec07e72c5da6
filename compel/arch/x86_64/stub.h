/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The foothold's layout: what stub.S assembles and ckpt copies into the unused tail of an
 * executable page of the target. Offsets are shared with the assembler, so plain #defines.
 *
 * A slot is code followed by the data it needs. Everything that a thread has to know in
 * order to get back to its own work without ckpt stands in its slot: nothing of the target's
 * stack or text is used, because neither is ours.
 */
#pragma once

#define STUB_REGS_R15     0
#define STUB_REGS_R14     8
#define STUB_REGS_R13     16
#define STUB_REGS_R12     24
#define STUB_REGS_RBP     32
#define STUB_REGS_RBX     40
#define STUB_REGS_R11     48
#define STUB_REGS_R10     56
#define STUB_REGS_R9      64
#define STUB_REGS_R8      72
#define STUB_REGS_RAX     80
#define STUB_REGS_RCX     88
#define STUB_REGS_RDX     96
#define STUB_REGS_RSI     104
#define STUB_REGS_RDI     112
#define STUB_REGS_RIP     120
#define STUB_REGS_RSP     128
#define STUB_REGS_RFLAGS  136
#define STUB_REGS_SIGMASK 144
#define STUB_REGS_MAPLEN  152
#define STUB_REGS_MAPADDR 160
#define STUB_REGS_INTRRIP 168
#define STUB_REGS_SIZE    176

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

struct stub_regs {
        uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
        uint64_t rip, rsp, rflags;
        uint64_t sigmask;  /* blocked signals, as rt_sigprocmask takes them */
        uint64_t map_len;  /* length of the mapping that compel_stub_leave removes */
        uint64_t map_addr; /* where it is, for a later ckpt that finds this slot; 0 while not known */
        uint64_t intr_rip; /* where to go on with -EINTR instead of starting the system call again */
};

_Static_assert(offsetof(struct stub_regs, map_len) == STUB_REGS_MAPLEN,
               "stub.S and struct stub_regs differ");
_Static_assert(sizeof(struct stub_regs) == STUB_REGS_SIZE, "stub.S and struct stub_regs differ");

/*
 * One slot as assembled; its labels are offsets from compel_stub. At all of them, rbp says whether the
 * interrupted system call ends with -EINTR (1), because a signal handler will run, or goes on (0).
 */
extern const char compel_stub[];           /* a system call (mmap), then as compel_stub_unmap */
extern const char compel_stub_protect[];   /* a system call, then as compel_stub_unmap with map_addr */
extern const char compel_stub_leave[];     /* rflags, then as compel_stub_unmap */
extern const char compel_stub_unmap[];     /* unmap the memory at rax, then as compel_stub_resume */
extern const char compel_stub_guest[];     /* rflags, then as compel_stub_guest_out */
extern const char compel_stub_guest_out[]; /* store 0 to the word at rax, then as compel_stub_resume */
extern const char compel_stub_resume[];    /* signal mask, registers, and on */
extern const char compel_stub_data[];      /* struct stub_regs */
extern const char compel_stub_end[];
#endif
