/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/syscall: the system call that a task is in */
#pragma once

#include <stdint.h>

#include "proc/proc.h"

enum proc_syscall_state {
        PROC_SYSCALL_RUNNING, /* on a CPU or about to be; nothing else is known */
        PROC_SYSCALL_NONE,    /* not running and in no call (a page fault, a signal stop): sp and pc */
        PROC_SYSCALL_INSIDE,  /* in a call: all fields */
        PROC_SYSCALL_STATE_MAX,
        PROC_SYSCALL_STATE_INVALID = -1,
};

struct proc_syscall {
        enum proc_syscall_state state;
        int nr;
        uint64_t args[6];
        uint64_t sp, pc;
};

/* Parse the text of a syscall file. -EBADMSG: nonsense. */
int proc_syscall_parse(const char *text, size_t len, struct proc_syscall *ret);

/* Read and parse `syscall` of a thread. -ENOENT without CONFIG_HAVE_ARCH_TRACEHOOK. */
int proc_syscall_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_syscall *ret);
