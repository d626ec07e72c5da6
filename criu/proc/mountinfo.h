/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/mountinfo: the mounts that a task can reach */
#pragma once

#include <stdint.h>

#include "proc/proc.h"

/* Texts are in the text buffer, NUL-terminated, escapes (\040 and the like) resolved. */
struct proc_mount {
        int id;                        /* as fdinfo's mnt_id */
        int parent_id;                 /* of the root mount: an id that is not in the list, or its own */
        uint32_t dev_major, dev_minor; /* st_dev of files on it */
        /* Which directory of the filesystem is mounted; "//deleted" at its end if removed. */
        const char *root;
        const char *mountpoint; /* relative to the task's root directory */
        const char *options;    /* of the mount: rw,nosuid,... */
        int shared;             /* peer group of a shared mount, 0: not shared */
        int master;             /* peer group it receives from, 0: no slave */
        int propagate_from;     /* nearest group under the task's root that it receives from, 0: none */
        bool unbindable;
        const char *fstype; /* also with subtype, as in fuse.sshfs */
        const char *source; /* may be empty */
        const char *super_options;
};

DEFINE_VEC(proc_mount_vec, struct proc_mount);

/*
 * Parse the text of a mountinfo file. `text` is written to and must live as long as the
 * mounts are used. *ret is replaced on success. Optional fields that we do not know are
 * passed over, as proc(5) asks. -EBADMSG: nonsense.
 */
int proc_mountinfo_parse(char *text, size_t len, struct proc_mount_vec *ret);

/* Read and parse `mountinfo` of a process or thread. */
int proc_mountinfo_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_mount_vec *ret);

/* The mount with this id, or NULL. */
const struct proc_mount *proc_mount_by_id(const struct proc_mount_vec *vec, int id);

/*
 * The mount that an absolute path (no symlinks, no "..", relative to the task's root)
 * leads to, or NULL (only after a chroot, for what lies on the mount of the root directory,
 * which the list does not show then). Follows the mounts from the root down as the kernel does, so that a
 * mount hidden below a later one is not taken for the answer, as it would be if only the
 * longest mountpoint were looked for.
 */
const struct proc_mount *proc_mount_by_path(const struct proc_mount_vec *vec, const char *path);

/* Is `option` ("ro", "noexec") one of the comma-separated options? */
bool proc_mount_has_option(const char *options, const char *option);
