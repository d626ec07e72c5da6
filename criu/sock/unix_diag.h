/* SPDX-License-Identifier: GPL-2.0-only */
/* What sock_diag(7) tells of the unix sockets of a network namespace, in one answer for all of them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "lib/arena.h"
#include "vec.h"

enum { UNIX_NAME_MAX = 109 }; /* sun_path, and the NUL behind one that fills it */

struct unix_diag {
        uint32_t ino; /* not 0: the kernel leaves out what nobody has accepted yet */
        uint32_t peer;
        uint8_t type, state, shutdown;
        uint8_t name_len;            /* 0: it has none; of a path: with its NUL */
        bool has_peer;               /* `peer` is 0 if that is closed, or not accepted yet */
        bool has_file;               /* bound to a path: file_dev, file_ino */
        uint32_t rqueue;             /* unread bytes; of a datagram socket: of the first message */
        uint32_t wqueue;             /* bytes of memory of what it has sent; of a listener: its backlog */
        uint32_t file_ino, file_dev; /* the lower 32 bits; major << 20 | minor */
        uint32_t nr_waiting;         /* of a listener: clients that it has not accepted ... */
        const uint32_t *waiting;     /* ... their inodes in order; 0: closed already */
        char name[UNIX_NAME_MAX];
};
DEFINE_VEC(unix_diag_vec, struct unix_diag);

/* All zero: not asked. */
struct unix_table {
        struct unix_diag_vec all; /* by inode */
        struct arena arena;
};

/* Ask for all unix sockets of ckpt's network namespace; what the table had is forgotten. */
int unix_diag_query(struct unix_table *t, struct ckpt_error *err);

/* The socket with this inode, or NULL. Valid until the next query. */
const struct unix_diag *unix_diag_find(const struct unix_table *t, uint32_t ino);

void unix_table_done(struct unix_table *t);

/*
 * Take one message of unix_diag: `len` bytes behind the netlink header. Its list of waiting clients goes to the arena.
 * -EBADMSG if it makes no sense. For tests too.
 */
int unix_diag_parse(const void *payload, size_t len, struct arena *arena, struct unix_diag *ret);
