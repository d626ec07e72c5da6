/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Threads that do a piece of work together, each of them its own part of it, always the same one: for what belongs to one
 * thread, as what it traces does. The caller is number 0. Pieces follow each other, and each ends when all have done their
 * part.
 */
#pragma once

#include "error.h"

struct team;

enum { TEAM_MAX = 4, TEAM_ALL = -1 };

/* What member number `member` does of it. 0 or a negative errno with *err filled. */
typedef int (*team_job)(void *arg, unsigned int member, struct ckpt_error *err);

/* Of `n` threads, the caller included, or fewer if there may be no more. Signals are blocked in the others. -ENOMEM. */
int team_create(unsigned int n, struct team **ret);

/* They end, when they have done what they were asked for. NULL is allowed. */
void team_free(struct team **team);

/* At least 1, which is also that of NULL. */
unsigned int team_size(const struct team *team);

/*
 * Have all, or only member number `only`, do their part, and wait for that. By number 0. Returns, and moves to *err, the
 * first failure. NULL: the caller does it.
 */
int team_run(struct team *team, int only, team_job job, void *arg, struct ckpt_error *err);
