/* SPDX-License-Identifier: GPL-2.0-only */
/* What inet.c and conn_restore.c have for each other. */
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

/* f->fd is bound and connected again without a packet, and stays in repair mode; its queues come later. */
int inet_conn_open(struct restore *r, struct inet_file *f, const char *what, struct ckpt_error *err);
