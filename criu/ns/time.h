/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * CLOCK_MONOTONIC and CLOCK_BOOTTIME of the tree. Programs keep absolute deadlines of these clocks in their memory,
 * so the clocks must not run backwards for them: not after a reboot, not on another machine. Where
 * they would, the tree is restored into a time namespace (Linux 5.6) in which they go on from where they were.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "dump/blockers.h"
#include "dump/model.h"
#include "restore/model.h"

/* The whole tree has to be in one time namespace, ckpt's or another. Adds a blocker otherwise. t->ns is filled. */
void time_look(struct dump_task *t);

/* Write what the clocks say to the tree: timens-ID.img. */
int time_save(struct dump *d, struct ckpt_error *err);

/*
 * How many nanoseconds the tree's clock is ahead of ckpt's, 0 for those that namespaces do not change. False if the
 * restored tree's will not go on from there: it is behind ckpt's, so that the restore would have it jump.
 */
bool time_ahead(const struct dump *d, clockid_t clock, int64_t *ret);

/*
 * Load stage: what did they say? Before the root is cloned: if they would jump back, have everything that is
 * cloned from now on enter a time namespace with the right offsets, and log it.
 */
int time_load(struct restore *r, struct ckpt_error *err);
int time_enter(struct restore *r, struct ckpt_error *err);

/* After time_enter(): how many nanoseconds the restored tree's clock is ahead of ckpt's. More than 0: it goes on from where it was. */
int64_t time_put_ahead(const struct restore *r, clockid_t clock);
