/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Everything that stands against a dump, collected so that one run names all of it. Each blocker has an
 * object, a reason, and what the user can do.
 */
#pragma once

#include <stddef.h>

#include "error.h"

struct blockers;

struct blockers *blockers_new(void);
void blockers_free(struct blockers **blockers);

/*
 * Add one; `hint` may be NULL. The message is a sentence without a full stop that begins with the object:
 * "pid 812 (redis): fd 7 is an io_uring instance, which cannot be checkpointed". The same message
 * is kept only once. Callable from any thread.
 */
void blocker_add(struct blockers *b, const char *hint, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* Callable from any thread. */
size_t blockers_count(struct blockers *b);

/* The i-th message and its hint (NULL: none). */
const char *blocker_message(const struct blockers *b, size_t i, const char **ret_hint);

/*
 * 0 if there are none, else -ENOTSUP with all of them in *err, separated by newlines, and the hints of all
 * in the hint. `state` says what is true of the tree now, e.g. "nothing was stopped or changed".
 */
int blockers_to_error(const struct blockers *b, const char *state, struct ckpt_error *err);

/* Likewise, of a frozen tree, and -EAGAIN: when it was looked at, they were not there. The next attempt will tell. */
int blockers_to_retry(const struct blockers *b, struct ckpt_error *err);
