/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Clients that wait to be accepted: what they have sent lies in a socket that nobody has a descriptor of, and of those that have
 * closed their end nothing else is left. It is read from the kernel's memory.
 */
#pragma once

#include "images/sk-unix.pb-c.h"
#include "lib/arena.h"
#include "sock/unix_memory.h"

/* One of them. All of it is in the arena. */
struct unix_early {
        uint32_t ino;        /* of the client's socket; 0: it has closed that */
        Img__UnixCred *cred; /* who has connected it */
        const char *name;    /* that it is bound to */
        size_t name_len;
        struct unix_peeked *first; /* what it has sent */
};
DEFINE_VEC(unix_early_vec, struct unix_early);

/*
 * All that wait in a listening socket, in order; `fd` is a copy in ckpt, and nothing comes or goes there. -ENODATA: they cannot be
 * read; -EOPNOTSUPP: there are descriptors or urgent data in what they sent, and these are not seen here. Of descriptors there is
 * what they refer to: see unix_rights.h.
 */
int unix_early_read(const struct unix_memory *m, int fd, struct arena *arena, struct unix_early_vec *ret);

/* Does it work on clients that are known, ckpt's own? For dump_peek_for(); `arg` is the struct unix_memory to be filled. */
bool unix_early_prove(struct peek *peek, void *arg);
