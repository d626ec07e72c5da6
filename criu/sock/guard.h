/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a dump does to live connections sits in the kernel and survives ckpt: a socket that is being read is in
 * repair mode, where it neither sends nor hangs up, and the network lock holds its packets back. The guard is
 * a process that undoes both when ckpt dies. It shares ckpt's descriptor table (CLONE_FILES), so that one
 * guard serves any number of sockets and knows those opened after it was started.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "error.h"

struct guard_page;

struct sock_guard {
        pid_t pid; /* 0: not armed */
        struct guard_page *page;
        int self, root, nl; /* kept open for it */
};

#define SOCK_GUARD_INIT ((struct sock_guard){ .self = -EBADF, .root = -EBADF, .nl = -EBADF })

/*
 * Arm it. From now on ckpt's death removes the network lock `lock` (a table's name; NULL: none) and ends the repair
 * mode of the socket of sock_guard_repairing(). `root` is the root of the tree.
 */
int sock_guard_arm(pid_t root, const char *lock, struct sock_guard *ret, struct ckpt_error *err);

/* From now until the next call `fd` may be in repair mode; afterwards its SO_REUSEADDR is `reuse`. -1: none is. */
void sock_guard_repairing(struct sock_guard *g, int fd, bool reuse);

/*
 * The tree is about to be killed, with another guard to complete that should ckpt die: the lock now goes only if the
 * tree lives on.
 */
void sock_guard_killing(struct sock_guard *g);

/* From here on ckpt's death is its own affair. Safe on one that is not armed. */
void sock_guard_disarm(struct sock_guard *g);
