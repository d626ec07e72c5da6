/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A process that sees to it that a set of processes is killed as a whole if ckpt dies in the middle:
 * of killing a dumped tree, or of letting go of a restored one. While it is armed, the
 * death of ckpt, SIGKILL included, is the death of them all. Its own death changes nothing.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "error.h"

struct kill_guard {
        pid_t pid; /* 0: there is none */
        int fd;
        int *killed; /* shared with it: 1 when it has sent all of them their SIGKILL */
        bool armed;
};

#define KILL_GUARD_INIT ((struct kill_guard){ .fd = -EBADF })

/*
 * Start one that has nothing to watch over yet. Best while ckpt has little memory: each page that it writes to after the
 * fork is copied.
 */
int kill_guard_start(struct kill_guard *ret, struct ckpt_error *err);

/*
 * Arm it: returns once the guard holds a pidfd of each process (pidfd_open(2), Linux 5.3), so that no number that
 * is used again can be hit. Processes that are gone are left out. Once for each guard.
 */
int kill_guard_arm(struct kill_guard *g, const pid_t *pids, size_t n, struct ckpt_error *err);

/* From here on the death of ckpt is its own affair again, and the guard goes. Safe to call whatever state it is in. */
void kill_guard_disarm(struct kill_guard *g);

/* Wait until it has gone. Disarms it if need be. */
void kill_guard_end(struct kill_guard *g);
