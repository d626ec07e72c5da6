/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Descriptor tables and open files. A kind of file is one file of this room (or of sock/) with both halves
 * and a row in the table of kinds.c.
 */
#pragma once

#include <sys/stat.h>

#include "dump/blockers.h"
#include "dump/model.h"
#include "images/fdinfo.pb-c.h"
#include "proc/fdinfo.h"
#include "restore/model.h"

/* ---- dump ---- */

/* Before the freeze: walk /proc/PID/fd, cwd, root, exe; a blocker for each descriptor no kind can carry over. */
void fd_look(struct dump_task *t);

/*
 * Frozen, while the task is visited: what only it can be asked about its descriptors, as much as fits into an empty batch.
 * False: nothing, or nothing more. fd_answer() takes what the batch has brought.
 */
struct compel_batch;
bool fd_ask(struct dump_task *t, struct compel_batch *b);
void fd_answer(struct dump_task *t, const struct compel_batch *b);

/* Frozen: the table, its files (identity by kcmp within groups that could be equal), cwd, root, umask. */
int fd_collect(struct dump_task *t, struct ckpt_error *err);

/* files.img, data of pipes, remaps: once for the tree. fdinfo-N and fs-PID: per task. */
int fd_save_task(struct dump_task *t, struct ckpt_error *err);
int fd_save_files(struct dump *d, struct ckpt_error *err);

/*
 * Register a file that is mapped or executed rather than open: an entry of files.img, shared by equal (dev, ino, path,
 * flags). `map_files` is the path below /proc/PID that opens it ("map_files/START-END", "exe"). A file that is
 * deleted becomes a ghost file.
 */
int files_add_path(struct dump_task *t, const char *map_files, uint32_t open_flags, uint32_t *ret_id,
                   struct ckpt_error *err);

/* Add what stands against that. */
void files_look_path(struct dump_task *t, const char *map_files, struct blockers *b);

/* The checkpoint is complete: what it needs outside of the images stays (links of --link-remap). */
void fd_dump_committed(struct dump *d);

/* Before the first fd_look(). From then on tasks may be looked at and collected by several threads. */
void fd_look_init(struct dump *d);
void fd_dump_free(struct dump *d);

/* ---- restore ---- */

/* Load files.img (or the older separate files) and check each: it exists, is what it was, has the size it had. */
int fd_load_files(struct restore *r, struct ckpt_error *err);

/* Load fdinfo and fs of a task and check them against the files. */
int fd_load_task(struct restore_task *t, struct ckpt_error *err);

/* Highest descriptor number in any table. */
int fd_highest(const struct restore *r);

/* Open a regular file of files.img for mapping with these flags; the descriptor is the caller's. */
int files_open(struct restore *r, uint32_t id, uint32_t flags, int *ret_fd, struct ckpt_error *err);

/* A socket of files.img, for mapping: there is only the one that the tasks will have. The descriptor stays the registry's. */
int files_open_socket(struct restore *r, uint32_t id, int *ret_fd, struct ckpt_error *err);

/* Before the root is cloned: open some of the files that several tasks have, for all tasks to inherit. */
void fd_prepare(struct restore *r);

/*
 * Whole tree: open every file once, fill every task's table (sends, runs batches), cwd, root, umask; closes what was
 * inherited; takes file locks, so nothing may close a descriptor of a task afterwards.
 */
int fd_restore(struct restore *r, struct ckpt_error *err);

/* When all threads exist: the owners of SIGIO (F_SETOWN_EX) that are threads. */
int fd_restore_owners(struct restore *r, struct ckpt_error *err);

/* The tree runs: links that the dump made are not needed any more. */
void fd_restore_remove_links(struct restore *r);

void fd_restore_free(struct restore *r);
