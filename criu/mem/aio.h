/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Contexts of io_setup(2). The context is named by the address of its ring, a mapping that program and kernel share. The
 * ring is saved whole; on restore a context is set up anew, brought to the same place in its ring by requests that do
 * nothing, given the unread events, and moved to the old address.
 */
#pragma once

#include "mem/dump.h"
#include "mem/restore.h"

/* ---- dump ---- */

/* Is this area such a ring, by its name? */
bool aio_is_ring(const struct proc_vma *vma);

/* When all tasks have been looked at: rings that were inherited, whose contexts are others'. Adds blockers. */
void aio_look_tree(struct dump *d);

/*
 * Frozen: wait until requests in flight have ended, see that every ring is whole and can be used, and describe
 * them in t->mem->mm. Errors name what cannot be carried over; -EAGAIN: the next attempt may find it otherwise.
 */
int aio_collect(struct dump_task *t, struct ckpt_error *err);

/* ---- restore ---- */

/* When areas and runs are known: do the contexts and their rings fit together, and this machine? */
int aio_load(struct restore_task *t, struct ckpt_error *err);

/* Before there are tasks: what the requests are for. */
int aio_prepare(struct restore *r, struct ckpt_error *err);

/* Set the contexts up; the rings' places hold what is to be in them. Runs the batch. */
int aio_restore(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err);
