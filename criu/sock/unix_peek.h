/* SPDX-License-Identifier: GPL-2.0-only */
/* What is in the receive queues of unix sockets, read without taking it out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "error.h"
#include "sock/unix_diag.h"

/* A message, or a part of a stream. */
struct unix_peeked {
        struct unix_peeked *next;
        const char *data;
        size_t len;
        int *fds; /* that came with it; in ckpt, with FD_CLOEXEC */
        size_t nr_fds;
        bool has_cred;
        struct ucred cred;
        char sender[UNIX_NAME_MAX]; /* name of the socket that sent it */
        size_t sender_len;
};

struct unix_peek {
        int fd; /* of the socket */
        int type;
        size_t total; /* bytes, unless it is a datagram socket: there those of the first message */
        bool eof;     /* a reader of packets that is done sees the end */
        /* Out: */
        int result; /* 0 or a negative errno */
        struct unix_peeked *first, *last;
};

/* Memory that peeked messages are in. */
struct unix_room {
        char *start, *at, *end;
};

/*
 * Read the queues of `n` sockets. To get beyond the first message takes SO_PEEK_OFF, which is a property of the socket
 * and so of the program: it is set and put back by a process of its own that ckpt's death does not end. The
 * memory is in *ret until unix_room_done(), also when it fails; so are descriptors, which are the caller's to close.
 */
int unix_peek(struct unix_peek *jobs, size_t n, struct unix_room *ret, struct ckpt_error *err);
void unix_room_done(struct unix_room *room);
