/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The system calls that descriptors cost, of which there may be thousands: they are spread over threads then. What they
 * return is looked at afterwards, in order, by the thread that everything else belongs to.
 */
#pragma once

#include "fd/kind.h"

/*
 * What look asks of a descriptor: of a copy of it if possible, which costs less than /proc does, and says all of one
 * file, whatever the task does meanwhile.
 */
struct look_raw {
        int fd;
        int result;       /* 0, or why link and st could not be read */
        const char *link; /* in the task's arena */
        struct statx st;
        bool has_path_st;
        struct statx path_st;       /* of what has the name `link` now */
        const struct fd_kind *kind; /* whose clear() said yes; NULL: not asked, or none */
        bool is_same;               /* `same` is known of another task (same.h), and the rest is not asked */
        struct seen_fd same;
        bool has_info;
        struct proc_fdinfo info; /* of what has a path; owned */
};

/* What collect asks of it. */
struct collect_raw {
        int fd;
        int result;              /* 0, or why fdinfo could not be read */
        struct proc_fdinfo info; /* owned; without `other` */
        const struct seen_fd *seen;
        bool there; /* it is what look has seen, under the same name; `st` is of that name */
        struct statx st;
        int fown_result; /* 1: not asked */
        Img__Fown fown;
        pid_t outside;
        void *asked; /* by the kind's ask(), in the registry's arena; NULL: nothing */
        int copy;    /* owned; -EBADF: none */
};

/* Below this number of descriptors it is not worth a thread's while. */
enum { PREFETCH_MIN = 256 };

/*
 * The descriptors of a task, read through `proc`, in the order of their numbers: *ret is to be freed. `pidfd` is of that
 * thread, or negative. Errors are those of proc_fds().
 */
int prefetch_look(struct dump_task *t, const struct proc_dir *proc, int pidfd, struct look_raw **ret,
                  size_t *ret_n);

/* An array of `n` for the descriptors `fds`, to be freed by the function below; NULL: ask as they come. */
struct collect_raw *prefetch_collect(struct dump *d, const struct proc_dir *proc, int pidfd,
                                     const struct dump_fds *seen, const int *fds, size_t n);
void collect_raw_free(struct collect_raw *raw, size_t n);

/* What look knows of a descriptor, or NULL. */
const struct seen_fd *find_seen(const struct dump_fds *fds, int fd);

/* Is it still what look saw, under the same path? *ret is the stat of the path then. */
bool is_as_seen(const struct seen_fd *seen, const struct proc_fdinfo *info, struct statx *ret);
