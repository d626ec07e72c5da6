/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Ghost files: deleted, and kept alive by who has them open, mapped, or works in them. Their contents go into
 * ghost-file-ID.img, remap-fpath.img says which files of files.img are meant.
 */
#pragma once

#include "fd/kind.h"
#include "images/ghost-file.pb-c.h"

/* ---- dump ---- */

/* Is it a deleted file with no other name? */
bool ghost_is(const struct fd_probe *p);

/* A process outside of the tree that has it open or mapped, where one of them can change it; 0: none. (foreign.c) */
pid_t ghost_foreign_holder(const struct fd_probe *p);

/* Can it be carried over? Adds a blocker if not. */
bool ghost_look(const struct fd_probe *p, struct blockers *b);

/* The path of a probe, without the " (deleted)" of what is; in the arena. */
char *ghost_path(struct arena *a, const struct fd_probe *p);

/* If it is a ghost: the RegFile with this id is it. `files` is locked. */
void ghost_note(struct dump_files *files, const struct fd_probe *p, uint32_t id);

/* All contents, and who is whose. */
int ghost_save(struct dump *d, struct ckpt_error *err);

/* ---- restore ---- */

struct restore_ghost;

/* Before the files: read who is whose, and what the ghosts are. */
int ghost_load(struct restore *r, struct ckpt_error *err);

/* The ghost that the file with this id is, or NULL. */
struct restore_ghost *ghost_of(const struct restore_files *files, uint32_t id);

/* The message of a file that is one. */
int ghost_check(const struct restore_file *file, struct image_file *image, struct ckpt_error *err);

/*
 * Make it, if it is not yet: the file is created under its name, all descriptions of it are opened (file->fd), and
 * it is deleted. *ret is a descriptor to open it by (O_PATH), the ghost's. A name that is another file's by
 * now stays that file's; the ghost then shows another one.
 */
int ghost_open(struct restore *r, struct restore_ghost *ghost, int *ret, struct ckpt_error *err);

void ghost_free(struct restore_files *files);
