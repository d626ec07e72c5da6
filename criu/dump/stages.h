/* SPDX-License-Identifier: GPL-2.0-only */
/* The stages of a dump, in order. Each returns 0 or a negative errno with *err filled. */
#pragma once

#include "dump/model.h"

/* ---- tree.c ---- */

/* Read the tree below `root` from /proc: d->tasks, parents before children. Nothing is stopped. */
int tree_read(struct dump *d, pid_t root, struct ckpt_error *err);

/*
 * The tree is stopped, perhaps not all of it: find what is new. Returns the number of tasks that were
 * added; tasks that are gone are removed.
 */
int tree_refresh(struct dump *d, struct ckpt_error *err);

/* Read the tids of a process that `t->threads` does not have yet; some may be dead. Returns their number. */
int tree_refresh_threads(struct dump_task *t, struct ckpt_error *err);

/* Frozen: which thread of its parent each task is a child of. */
int tree_find_parent_threads(struct dump *d, struct ckpt_error *err);

/* When it is to be looked at: find what dump_living() needs. */
void tree_find_living(struct dump_task *t);

void tree_free(struct dump *d);

/* ---- look.c ---- */

/* Find what stands against dumping the tasks that have not been looked at yet. Fills d->blockers. */
int look_tasks(struct dump *d, struct ckpt_error *err);

/*
 * The tree is frozen, and something stood against a task when it was looked at, which may be gone by now: look at all of
 * them anew.
 */
int look_again(struct dump *d, struct ckpt_error *err);

/* Likewise: adds blockers for processes and threads that changed their namespaces meanwhile. */
int look_namespaces_again(struct dump *d, struct ckpt_error *err);

/* Sessions and process groups of the whole tree. */
void look_sessions(struct dump *d);

/* The root's cgroup is frozen, so that nothing can be carried out in the tree. Adds a blocker. */
void look_frozen(struct dump *d);

/* ---- sharing.c ---- */

/* Memory, handlers, descriptor table, directories shared with the parent: adds blockers, sets d->shares. */
void look_sharing(struct dump_task *t);

/* When all ids are known: -ENOTSUP if the restore knows no way to have tables and directories shared like that. */
int collect_sharing(struct dump *d, struct ckpt_error *err);

/* ---- freeze.c ---- */

/* Stop every thread of the tree, also those that appear meanwhile. */
int freeze(struct dump *d, struct ckpt_error *err);

/* Let everything run on from where it is. */
void thaw(struct dump *d);

/* ---- collect.c ---- */

/* Numbers for the namespaces of ckpt. */
void collect_namespace_ids(Img__TaskKobjIds *ids);

/* Everything but the bytes of memory. */
int collect(struct dump *d, struct ckpt_error *err);

/* ---- save.c ---- */

/* All images but the inventory. */
int save(struct dump *d, struct ckpt_error *err);

/* ---- commit.c ---- */

/* Fault points inside image_set_commit(). */
extern const struct image_hooks dump_image_hooks;

/* Make the images the checkpoint of the directory. */
int commit(struct dump *d, struct ckpt_error *err);

/* Kill the tree, leave it stopped or let it run, as the options say. */
int dispose(struct dump *d, struct ckpt_error *err);

/* ---- kill.c ---- */

/* The checkpoint is complete: end all processes of the tree, and leave no zombies. All of them, or none, also if ckpt dies. */
int kill_tree(struct dump *d, struct ckpt_error *err);
