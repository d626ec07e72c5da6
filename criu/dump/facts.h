/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a tree of many processes has in common, from one reading for all (kernel/process_facts.h). Where there is none,
 * /proc and kcmp(2) tell it of each.
 */
#pragma once

#include "dump/model.h"
#include "kernel/process_facts.h"

/*
 * While the tree is looked at: begin with the reading, in the worker, if there are enough processes. What comes of it is there
 * some milliseconds later, and not before it is whole.
 */
void dump_facts_look(struct dump *d);

/* The tree is frozen: once more. From now on only this counts. */
void dump_facts_freeze(struct dump *d);

void dump_facts_free(struct dump *d);

/* Not frozen yet, so it may be old. NULL: nothing is known. Callable from any thread. */
const struct process_fact *dump_fact_seen(const struct dump_task *t);

/* Frozen: is it sure that no other process of the tree shares this with it? */
static inline bool dump_fact_is_alone(const struct dump_task *t, enum process_part part) {
        return t->alone >> part & 1;
}
