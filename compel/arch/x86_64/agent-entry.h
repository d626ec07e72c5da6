/* SPDX-License-Identifier: GPL-2.0-only */
/* The agent's part that is written in machine language: entry, system calls, leaving. */
#pragma once

#include <stdint.h>

struct compel_lane;

void compel_agent_main(struct compel_lane *lane) __attribute__((noreturn, visibility("hidden")));

/* rdi is the lane, rsp the top of its stack; it stands at offset 0 of the blob. */
__asm__(".pushsection .agent.entry, \"ax\", @progbits\n"
        ".globl compel_agent_entry\n"
        ".hidden compel_agent_entry\n"
        "compel_agent_entry:\n"
        "        xor %ebp, %ebp\n"
        "        cld\n"
        "        and $-16, %rsp\n"
        "        call compel_agent_main\n"
        "        ud2\n"
        ".popsection\n");

static inline int64_t agent_syscall(uint64_t nr, const uint64_t arg[6]) {
        register uint64_t r10 __asm__("r10") = arg[3];
        register uint64_t r8 __asm__("r8") = arg[4];
        register uint64_t r9 __asm__("r9") = arg[5];
        int64_t ret;

        __asm__ volatile("syscall"
                         : "=a"(ret)
                         : "a"(nr), "D"(arg[0]), "S"(arg[1]), "d"(arg[2]), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
        return ret;
}

/*
 * clone3(2): the new thread starts with nothing but the registers, on the stack that
 * clone_args names, so it must not return through this frame: it calls the agent with its
 * own lane at once.
 */
static inline int64_t agent_clone3(uint64_t args, uint64_t size, struct compel_lane *child) {
        register struct compel_lane *child_reg __asm__("r12") = child;
        int64_t ret;

        __asm__ volatile("syscall\n"
                         "        test %%rax, %%rax\n"
                         "        jnz 1f\n"
                         "        mov %%r12, %%rdi\n"
                         "        xor %%ebp, %%ebp\n"
                         "        and $-16, %%rsp\n"
                         "        call compel_agent_main\n"
                         "        ud2\n"
                         "1:\n"
                         : "=a"(ret)
                         : "a"(435), "D"(args), "S"(size), "r"(child_reg)
                         : "rcx", "r11", "memory");
        return ret;
}

/* Jump to `where` with `value` in rax and `flag` in rbp; see stub.S for what stands there. */
static inline void __attribute__((noreturn)) agent_leave(uint64_t where, uint64_t value, uint64_t flag) {
        __asm__ volatile("mov %1, %%rbp\n\tjmp *%0" : : "D"(where), "S"(flag), "a"(value) : "memory");
        __builtin_unreachable();
}

static inline void agent_relax(void) {
        __asm__ volatile("pause" : : : "memory");
}
