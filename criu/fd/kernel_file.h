/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Files and directories that the kernel generates: /proc, /sys, cgroups. They are RegFiles that are opened again by their
 * path, but what is in them, and how much, is not theirs; and those of a process come and go with it.
 */
#pragma once

#include "fd/kind.h"

/* ---- dump ---- */

/* Is it one that can be opened again, or of a process? */
bool kernel_file_is(const struct fd_probe *p);

/*
 * Is it there, although the kernel calls it " (deleted)"? Below /proc/PID/net every use of a name makes what was open
 * under it look so.
 */
bool kernel_file_is_unhashed(const struct fd_probe *p);

/* Will it be there, and the same, for who opens it again? Adds a blocker if not. */
bool kernel_file_look(struct fd_probe *p, struct blockers *b);

/* ---- restore ---- */

/*
 * Is `name` below /proc/PID of a process of the images, which is not there before the restore is? Others are checked
 * like any file.
 */
bool kernel_file_of_tree(const struct restore *r, const char *name);

/* Is `name` below /proc or /sys, where not every file has an offset that can be set? */
bool kernel_file_name(const char *name);
