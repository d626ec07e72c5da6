/* SPDX-License-Identifier: GPL-2.0-only */
/* File locks: /proc/locks, and the lock: lines of /proc/PID/fdinfo/N */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "proc/proc.h"

enum proc_lock_type {
        PROC_LOCK_POSIX,  /* fcntl F_SETLK: belongs to a process (fd table) */
        PROC_LOCK_OFD,    /* F_OFD_SETLK: belongs to a file description; pid is -1 */
        PROC_LOCK_FLOCK,  /* flock(2): belongs to a file description */
        PROC_LOCK_LEASE,  /* F_SETLEASE */
        PROC_LOCK_DELEG,  /* delegation of a file server */
        PROC_LOCK_ACCESS, /* POSIX test lock of a file server */
        PROC_LOCK_UNKNOWN,
        PROC_LOCK_TYPE_MAX,
        PROC_LOCK_TYPE_INVALID = -1,
};

enum proc_lock_mode {
        PROC_LOCK_READ,
        PROC_LOCK_WRITE,
        PROC_LOCK_UNLOCK, /* a lease about to be given up */
        PROC_LOCK_RW,     /* share-mode locks, before 5.18 */
        PROC_LOCK_NONE,
        PROC_LOCK_MODE_MAX,
        PROC_LOCK_MODE_INVALID = -1,
};

struct proc_lock {
        uint64_t id;    /* equal for a lock and those that wait for it */
        bool blocked;   /* waits for the lock with the same id */
        bool mandatory; /* before 5.15 */
        bool breaking;  /* a lease that somebody else is waiting for */
        bool no_inode;  /* dev and ino are not known */
        enum proc_lock_type type;
        enum proc_lock_mode mode;
        pid_t pid; /* who took it, in the pid namespace of our /proc; need not hold it now */
        /* Of the superblock: not always what stat(2) says (btrfs, overlayfs). */
        uint32_t dev_major, dev_minor;
        uint64_t ino;
        int64_t start, end; /* bytes, inclusive; end is INT64_MAX for "to the end of file" */
};

DEFINE_VEC(proc_lock_vec, struct proc_lock);

struct scan;

/* Parse one line, from the id on and without newline; all of *s must be used up. -EBADMSG. */
int proc_lock_parse_line(struct scan *s, struct proc_lock *ret);

/* Parse the text of /proc/locks. *ret is replaced on success. */
int proc_locks_parse(const char *text, size_t len, struct proc_lock_vec *ret);

/* Read and parse /proc/locks: the locks of all processes in the pid namespace of our /proc. */
int proc_locks_read(struct proc_buf *buf, struct proc_lock_vec *ret);
