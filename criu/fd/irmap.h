/* SPDX-License-Identifier: GPL-2.0-only */
/* Paths of inodes that are known by their number only, as fdinfo tells of inotify watches. */
#pragma once

#include <limits.h>

#include "lib/arena.h"
#include "proc/fdinfo.h"

struct irmap_inode {
        uint32_t sdev; /* s_dev: major << 20 | minor */
        uint64_t ino;
        const struct proc_fhandle *handle; /* known or not */
};

/* What has been found so far, and the mounts of ckpt. */
struct irmap;

/* In the arena, with all it will hold. Reads mountinfo. */
int irmap_new(struct arena *arena, struct irmap **ret);

/*
 * A path that leads to the inode now, and the id of the mount that it is on; *ret lives as long as the arena. From
 * what was found before, or by the file handle unless `scan_only` (open_by_handle_at(2), CAP_DAC_READ_SEARCH).
 * -ENOENT: the file is deleted, or cannot be reached by a path; -EOPNOTSUPP: the filesystem has no handles; -ENODEV:
 * no mount of that filesystem.
 */
int irmap_find(struct irmap *map, const struct irmap_inode *inode, bool scan_only, const char **ret,
               int *ret_mnt_id);

/*
 * Look for the inode in a directory and everything below it on the same mount. What irmap_find() finds afterwards.
 * Opens directories, which others may be told of. -ENOENT: it is not there.
 */
int irmap_scan(struct irmap *map, const struct irmap_inode *inode, const char *directory);
