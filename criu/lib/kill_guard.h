/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A process that sees to it that a set of processes is killed as a whole if ckpt dies in the middle:
 * of killing a dumped tree, or of letting go of a restored one. While it is armed, the
 * death of ckpt, SIGKILL included, is the death of them all. Its own death changes nothing.
 */
#pragma once

#include <sys/types.h>

#include "error.h"

struct kill_guard {
        pid_t pid; /* 0: not armed */
        int fd;
};

#define KILL_GUARD_INIT ((struct kill_guard){ .fd = -EBADF })

/*
 * Arm it: returns once the guard holds a pidfd of each process (pidfd_open(2), Linux 5.3), so that no number that
 * is used again can be hit. Processes that are gone are left out.
 */
int kill_guard_arm(const pid_t *pids, size_t n, struct kill_guard *ret, struct ckpt_error *err);

/* From here on the death of ckpt is its own affair again. Safe to call on one that is not armed. */
void kill_guard_disarm(struct kill_guard *g);
