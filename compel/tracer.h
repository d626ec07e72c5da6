/* SPDX-License-Identifier: GPL-2.0-only */
/* The process that traces threads in ckpt's place: what the files of compel need of it. */
#pragma once

#include <sys/types.h>

#include "compel/compel.h"

/*
 * Carry out a system call of a tracer (ptrace, waitid, waitpid), in ckpt or in the process that traces `t`. `buf`, of
 * `size` bytes, takes the place of argument number `index` and is copied both ways; NULL: no such argument.
 * Returns what the system call does, errors as negative errno; -EPIPE: the tracer is dead.
 */
long compel_traced(const struct compel_thread *t, long nr, const uint64_t arg[6], unsigned int index,
                   void *buf, size_t size);

/* Where the threads of a visit are when they are not in code of their own. */
struct compel_region {
        raddr_t stub, stub_end;
        raddr_t map, map_end;
};

/* Tell the tracer of `t`, if it has one, before a thread is there. Zeroes: nobody is. */
void compel_tracer_note(const struct compel_thread *t, const struct compel_region *inside);
