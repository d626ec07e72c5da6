/* SPDX-License-Identifier: GPL-2.0-only */
/* What is in the receive queues of unix sockets, read without taking it out. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "error.h"
#include "sock/unix_diag.h"

/* What a part of a stream is, as to urgent data (MSG_OOB, Linux 5.15). */
enum unix_urgent {
        UNIX_URGENT_NONE,
        UNIX_URGENT_UNREAD, /* one byte, the last urgent one: the mark is in front of it */
        UNIX_URGENT_READ, /* its byte was taken with MSG_OOB: a place at which reads end, and what came with it */
        UNIX_URGENT_MAX,
        _UNIX_URGENT_INVALID = -EINVAL,
};

/* A message, or a part of a stream. */
struct unix_peeked {
        struct unix_peeked *next;
        const char *data;
        size_t len;
        enum unix_urgent urgent;
        int *fds; /* that came with it; in ckpt, with FD_CLOEXEC */
        size_t nr_fds;
        uint64_t *
                files; /* what they refer to, by its address in the kernel, where nobody has given the descriptors (yet) */
        size_t nr_files;
        bool has_cred;
        struct ucred cred;
        char sender[UNIX_NAME_MAX]; /* name of the socket that sent it */
        size_t sender_len;
};

/* What a queue consists of, as the kernel has it. */
struct unix_part {
        size_t len; /* bytes that are unread */
        enum unix_urgent urgent;
        bool has_fds;
        /* All of it, its descriptors as `files`, where a reader does not come to it: empty, or the mark at the head. */
        const struct unix_peeked *known;
};

struct unix_peek {
        int fd; /* of the socket */
        int type;
        size_t total;  /* bytes, unless it is a datagram socket: there those of the first message */
        bool eof;      /* a reader of packets that is done sees the end */
        bool no_marks; /* of a stream: it is known that there is no urgent data in it, nor was */
        const struct unix_part
                *parts; /* NULL: not known; needed for what has urgent data or empty packets */
        size_t nr_parts;
        /* Out: */
        int result; /* 0 or a negative errno; -EBADE: a part ends where none can without urgent data */
        struct unix_peeked *first, *last;
        struct unix_peeked
                *stray; /* descriptors that came with empty packets, which `parts` have as `files` */
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
