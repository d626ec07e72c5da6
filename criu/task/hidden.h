/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What threads have that only the kernel's structures show (kernel/hidden_state.h), and that is not carried over: refused by
 * name. Where BPF cannot be had, nothing of it is seen.
 */
#pragma once

#include "dump/model.h"

/* Begin to load what it takes, in the worker `aside`, which is there: once. */
void hidden_prepare(struct dump *d);

/* Blockers of all tasks: in the look stage, when the workers are done, and again when the tree is frozen. */
void hidden_look_tree(struct dump *d);

void hidden_free(struct dump *d);
