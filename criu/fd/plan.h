/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How descriptors get their numbers with few operations. A task that receives descriptors gets the lowest free
 * numbers in order, so a table without holes is right at once. Small holes are filled for a moment by
 * something that is closed again; what lies far out is received behind the dense part and moved.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/arena.h"

/* A descriptor as it is to be; `file` is the caller's number of the file, the same for duplicates. */
struct plan_slot {
        int fd;
        bool cloexec;
        uint32_t file; /* below nr_files */
};

enum plan_kind {
        PLAN_DUP,     /* dup3(from, to, cloexec) */
        PLAN_CLOSE,   /* close from..to */
        PLAN_CLOEXEC, /* set FD_CLOEXEC on from..to, as far as they are open */
};

struct plan_op {
        enum plan_kind kind;
        int from, to;
        bool cloexec;
};

struct fd_plan {
        uint32_t *send; /* the file that becomes descriptor i when it is received */
        size_t nr_send;
        struct plan_op *ops;
        size_t nr_ops;
};

/*
 * Plan a table. `slots` are sorted by fd, each fd once; the table is empty before. At most two descriptors are
 * sent for each slot. What *ret points to is in `arena`.
 */
void fd_plan_make(const struct plan_slot *slots, size_t n, uint32_t nr_files, struct arena *arena,
                  struct fd_plan *ret);
