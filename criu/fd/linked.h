/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Files that were deleted under the name they were opened by and have other links (--link-remap). The dump makes one
 * more link beside the old name, which keeps the file whatever becomes of the others; the restore opens
 * the file by it and removes it.
 */
#pragma once

#include "fd/kind.h"

/* ---- dump ---- */

/* Is it such a file? */
bool linked_is(const struct fd_probe *p);

/* Can a link be made? Adds a blocker if not, also without the option. */
bool linked_look(const struct fd_probe *p, struct blockers *b);

/* If it is one: the RegFile with this id is it. `files` is locked. */
void linked_note(struct dump_files *files, const struct fd_probe *p, uint32_t id);

/* Are there any? */
bool linked_any(const struct dump_files *files);

/* Make the links, register them, and write who is whose to remap-fpath.img. */
int linked_save(struct dump *d, struct image_file *image, struct ckpt_error *err);

/* Remove what was made, unless the checkpoint is complete. */
void linked_undo(struct dump_files *files);

/* ---- restore ---- */

/* An entry of remap-fpath.img: file `file_id` is to be opened by the path of file `link_id`. */
void linked_add(struct restore_files *files, uint32_t file_id, uint32_t link_id);

/* When all files are known. */
int linked_load(struct restore *r, struct ckpt_error *err);

/* Is this file one? Known before the files are. */
bool linked_has(const struct restore_files *files, uint32_t file_id);

/* As fd_open_exactly(), under its old name if nobody has that name now. */
int linked_open(const struct restore_file *file, uint32_t flags);
void linked_free(struct restore_files *files);
