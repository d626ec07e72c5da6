/* SPDX-License-Identifier: GPL-2.0-only */
/* Which file a member of an epoll instance is. */
#pragma once

#include "fd/kind.h"

/* Flags in the events of a member that stay when a one-shot member has fired. */
#define EPOLL_PRIVATE_BITS ((uint32_t)(EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE))

/*
 * A member as seen from outside: descriptor `fd` of task `tid` is the instance, in which `nr_same` members before
 * it are registered under the same number.
 */
struct epoll_member {
        pid_t tid;
        int fd;
        const struct proc_epoll_item *item;
        unsigned int nr_same;
};

/* Numbers of those before each item that have the same descriptor number; the caller frees them. */
unsigned int *epoll_count_same(const struct proc_epoll_item *items, size_t n);

/*
 * Is descriptor `fd` of task `tid` the file of this member? 0: it is; otherwise 1 or 2, the order of kcmp(2) (as if
 * the descriptor were less, or greater); or a negative errno.
 */
int epoll_compare(const struct epoll_member *m, pid_t tid, int fd);

/* Is the file that a task has under this number registered under it? */
struct epoll_question {
        int fd;
};

/*
 * Ask about many: `epfd` is the instance, `pidfd` that of a task whose descriptors are meant. ret[i] becomes true
 * where it is, and stays as it is otherwise. Only while nobody uses the instance.
 */
int epoll_ask_all(int epfd, int pidfd, const struct epoll_question *questions, size_t n, bool *ret);

/* Before the freeze: add what stands against the members of an instance. */
void epoll_look_members(struct fd_probe *p, struct blockers *b);

/* Fill file_id of every member of every instance. */
int epoll_save_members(struct dump *d, struct ckpt_error *err);

/* Restore: register all members of an instance, those of instances among its members first. */
int epoll_restore_members(struct restore *r, struct restore_file *file, struct ckpt_error *err);
