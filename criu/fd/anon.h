/* SPDX-License-Identifier: GPL-2.0-only */
/* Files without a path that are all state in the kernel (anon_inode): what their kinds have in common. */
#pragma once

#include "fd/kind.h"

/*
 * Have p->info read and see that it is of this kind. False: the descriptor is gone, or another one has its number;
 * who looks has nothing to say then. Adds a blocker for an owner outside of the tree.
 */
bool anon_look(struct fd_probe *p, enum proc_fdinfo_kind kind, struct blockers *b);

/*
 * Read flags and owner. *ret_fd is a copy of the descriptor, the caller's. -EAGAIN with a message: it is no
 * descriptor of this kind.
 */
int anon_dump(struct dump *d, struct fd_probe *p, enum proc_fdinfo_kind kind, Img__Fown **ret,
              uint32_t *ret_flags, int *ret_fd, struct ckpt_error *err);

/* Flags as F_GETFL gives them for such files; `more` are those that only this kind has. */
int anon_check_flags(const struct restore_file *file, const struct image_file *image, uint32_t flags,
                     uint32_t more, struct ckpt_error *err);

/*
 * The result of the system call that makes the file, with errno of it, becomes file->fd and gets the flags that
 * F_SETFL sets.
 */
int anon_opened(struct restore_file *file, int made, uint32_t flags, struct ckpt_error *err);

/* Of the messages of these kinds; NULL and 0 for others. For owner.c. */
const Img__Fown *anon_fown(const Img__File *msg);
uint32_t anon_flags(const Img__File *msg);

/* Who outside of the tree has this eventfd too (foreign.c); 0: nobody, or it cannot be told (before Linux 5.2). */
pid_t eventfd_foreign_holder(const struct fd_probe *p);

/* The same of a timerfd. */
pid_t timerfd_foreign_holder(const struct fd_probe *p);

/* ---- descriptors of a file (holder.c) ---- */

/* A descriptor of a living task. */
struct fd_holder {
        const struct restore_file *file;
        struct restore_task *task;
        size_t order; /* of the task: parents before children */
        int fd;
};
DEFINE_VEC(fd_holder_vec, struct fd_holder);

/* All descriptors of a file, parents before children; when the tables are loaded. *ret is valid until fd_holders_free(). */
size_t fd_holders(struct restore *r, const struct restore_file *file, const struct fd_holder **ret);
void fd_holders_free(struct restore_files *files);
