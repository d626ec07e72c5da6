/* SPDX-License-Identifier: GPL-2.0-only */
/* Descriptors on their way into the tasks of a restore. */
#pragma once

#include "restore/model.h"

/*
 * Before the root is cloned: have every task inherit a copy of `fd`, which stays the caller's. Returns
 * the number that it will have in every task until restore_close_inherited(), or a negative errno.
 */
int restore_inherit(struct restore *r, int fd, struct ckpt_error *err);

/*
 * Send descriptors to a task and add what receives them to its batch, which must be run (compel_run) before
 * another task's is sent anything. They get the lowest free numbers, in order, without
 * FD_CLOEXEC. Any `n`; the descriptors stay the caller's.
 */
int restore_send_fds(struct restore_task *t, struct compel_batch *b, const int *fds, size_t n,
                     struct ckpt_error *err);

/* Add the closing of everything inherited to a task's batch. */
void restore_close_inherited(struct restore_task *t, struct compel_batch *b);
