/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Descriptors in messages that nobody can receive for ckpt: those that clients have sent before they were accepted. The kernel's memory
 * tells which files they refer to; a file that the tree has open as well, or that is in a queue that can be read, is found by that.
 */
#pragma once

#include <stdint.h>

#include "sock/unix_peek.h"
#include "vec.h"

struct arena;
struct dump;
struct dump_task;
struct peek;

/* Who has a file open. */
struct unix_holder {
        uint64_t file; /* its address in the kernel */
        struct dump_task *task;
        int number; /* of the descriptor */
};
DEFINE_VEC(unix_holder_vec, struct unix_holder);

/* All files of the tree, sorted. Unless it is frozen, they come and go. */
void unix_holders_read(struct dump *d, struct peek *p, struct unix_holder_vec *ret);

/* Has anyone all the files of these messages open? */
bool unix_holders_have(const struct unix_holder_vec *holders, const struct unix_peeked *first);

/*
 * Frozen: give each of these messages descriptors of ckpt's for its files; `more` are some of ckpt's that may be those, too. -ENOENT: of
 * one nobody has any; what is there by then stays.
 */
int unix_rights_find(struct peek *p, const struct unix_holder_vec *holders, const int *more, size_t nr_more,
                     struct unix_peeked *first, struct arena *arena);

/* Close those that no message needs any more. */
void unix_rights_close(struct unix_peeked *first);
