/* SPDX-License-Identifier: GPL-2.0-only */
/* What inet.c, inet_restore.c and conn_restore.c have for each other. */
#pragma once

#include "sock/inet.h"

/* One end of a socket, for bind(2) and connect(2). */
void inet_address(const Img__InetSk *isk, bool peer, union sock_address *ret, socklen_t *ret_len);

/* Is the address of a socket there, and the port of what listens free? */
void inet_check_address(const Img__InetSk *isk, struct blockers *b);

/* All internet sockets of the images; reads the streams of connections. */
int inet_load(struct restore *r, struct ckpt_error *err);
void inet_free(struct restore_files *files);

struct inet_file *inet_find(struct restore *r, uint32_t id);

/* For messages. The file is in the hands of one thread. */
const char *inet_file_name(struct inet_file *f);

/*
 * SO_REUSEPORT (reuseport.c): sort those that are in groups; open what comes before this one in its group; and at the very
 * end, attach the program of the group.
 */
int reuseport_load(struct inet_state *s, struct ckpt_error *err);
int reuseport_open_earlier(struct restore *r, struct inet_file *f, struct ckpt_error *err);
int reuseport_restore(const struct inet_file *f, const char *what, struct ckpt_error *err);

/*
 * Errors (error.c). Has it ended a connect(2)? Then the socket, bound and in repair mode, is brought to that. Of a datagram socket,
 * at the very end: have the network tell it.
 */
bool pending_error_connecting(const Img__InetSk *isk);
int pending_error_connect(struct inet_file *f, const char *what, struct ckpt_error *err);
void pending_error_tell(const struct inet_file *f, const char *what);

/* check(), open() and ahead() of the kind. */
int inet_check(struct restore *r, struct restore_file *file, struct image_file *image,
               struct ckpt_error *err);
int inet_open(struct restore *r, struct restore_file *file, struct ckpt_error *err);
bool inet_open_ahead(struct restore *r, struct restore_file *file, struct near_dir *near);

/* What is done with one of the sockets of the images. */
typedef int (*inet_job)(struct restore *r, struct inet_file *f, struct ckpt_error *err);

/*
 * Do it with all: with many, by all threads, but for those that `alone` names, whose turn comes afterwards, in order, in
 * this one. Returns the first failure that was seen.
 */
int inet_each(struct restore *r, inet_job job, bool (*alone)(const struct inet_file *f),
              struct ckpt_error *err);

/* f->fd is bound and connected again without a packet, and stays in repair mode; its queues come later. */
int inet_conn_open(struct restore *r, struct inet_file *f, const char *what, struct ckpt_error *err);
