/* SPDX-License-Identifier: GPL-2.0-only */
/* The stages of a restore, in order. Each returns 0 or a negative errno with *err filled. */
#pragma once

#include "restore/model.h"

/* ---- load.c ---- */

/* Read and check all images; nothing is created yet. */
int load(struct restore *r, struct ckpt_error *err);
void load_free(struct restore *r);

/* ---- pids.c ---- */

/* Are all the pids and tids of the tree, and of the helpers that it takes, free? */
int check_pids(struct restore *r, struct ckpt_error *err);

/* For a helper: a number that nothing in the images has, and nobody else now. */
pid_t spare_pid(const struct restore *r);

/* ---- inherit.c ---- */

/* Choose the numbers for what is inherited, above those of the images and of ckpt; make the transport. */
int inherit_init(struct restore *r, struct ckpt_error *err);
void inherit_done(struct restore *r);

/* In the root, first of all: close what it inherited from ckpt beyond that. */
void inherit_add_close_others(struct restore *r, struct compel_batch *b);

/* ---- lanes.c ---- */

/* The host, with a lane for every thread to be made. */
int lanes_create(struct restore *r, struct ckpt_error *err);

/* ---- plan.c ---- */

enum tree_step {
        TREE_STEP_AFTER,  /* cloned by the parent, after its setsid if it makes one */
        TREE_STEP_BEFORE, /* cloned by the parent, before its setsid */
        TREE_STEP_VIA,    /* cloned below the leader of its session, and left by a helper to the subreaper */
        TREE_STEP_BESIDE, /* cloned by a helper with the number of a dead session leader, as its sibling */
};

/* How each task gets into its session: t->step, t->via; adds helpers for leaders that have died. */
int plan_tree(struct restore *r, struct ckpt_error *err);

/* ---- sharing.c ---- */

/*
 * After plan_tree(): t->share and t->clone_rank. -ENOTSUP: the tasks share in a way that no order of clones makes.
 */
int plan_sharing(struct restore *r, struct ckpt_error *err);

/* ---- tree.c ---- */

/*
 * Start the batch of every task's leader that is filled and does not run yet, then wait for all. Every batch is waited
 * for, also after an error; the first error counts. Those that passed are empty again.
 */
int run_lanes(struct restore *r, struct ckpt_error *err);

/* Clone all tasks, each with its memory; sessions, process groups, zombies. */
int build_tree(struct restore *r, struct ckpt_error *err);

/* ---- groups.c ---- */

/* Process groups, once all tasks and sessions are there. */
int join_groups(struct restore *r, struct ckpt_error *err);

/* ---- threads.c ---- */

/*
 * The threads of all tasks that do not have them yet, most of them with their attributes; of one, without, if other
 * threads than the leader have children.
 */
int build_threads(struct restore *r, struct ckpt_error *err);
int build_threads_of(struct restore_task *t, struct ckpt_error *err);

/* ---- finish.c ---- */

/* Registers; everything of ckpt goes. Afterwards the tasks are complete, stopped, and die with ckpt. */
int finish(struct restore *r, struct ckpt_error *err);

/* Let them run, all or none. */
int resume(struct restore *r, struct ckpt_error *err);

/* ---- undo.c ---- */

/* Kill whatever has been created. */
void undo(struct restore *r);
