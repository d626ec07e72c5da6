/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * MPTCP sockets that have fallen back to TCP. The connection is that of one ordinary TCP socket inside, to which nobody has a
 * descriptor, and of which getsockopt(2) tells as if it were the socket itself; but it cannot be put into repair mode. So
 * it is read from the kernel's memory (kernel/peek.h), which changes nothing. What comes back is a TCP socket: on the wire
 * it is the same, and the kernel itself makes such of what an MPTCP listener accepts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernel/btf.h"
#include "kernel/peek.h"
#include "kernel/peek_page.h"
#include "sock/tcp.h"

/* Members of the kernel's structures. */
enum mptcp_member {
#define MPTCP_MEMBER(name, type, member) MPTCP_##name,
#include "sock/mptcp.def"
#undef MPTCP_MEMBER
        MPTCP_MEMBER_MAX,
};

/* How they are read. */
struct mptcp_reader {
        struct bpf *bpf;
        struct peek *peek;
        struct peek_pages pages;
        struct btf_place places[MPTCP_MEMBER_MAX];
        size_t tcp_size, mptcp_size; /* of the structures */
};

/* With `bpf` and `peek` set: find the rest. -ENODATA, or another negative errno: nothing can be read here. */
int mptcp_reader_open(struct mptcp_reader *r);

/* Numbers of a struct tcp_sock, by member. */
int mptcp_read_tcp(const struct mptcp_reader *r, uint64_t sk, uint64_t ret[static MPTCP_MEMBER_MAX]);

/* Is it an MPTCP socket with a connection that speaks plain TCP? It stays that. */
bool mptcp_fell_back(int fd);

/*
 * Does it work on a connection that is known, ckpt's own in a network of its own? For dump_peek_for(); `arg` is the struct
 * mptcp_reader to be filled, with `bpf`; both stay the caller's. Some milliseconds.
 */
bool mptcp_prove(struct peek *peek, void *arg);

/* The same of an open reader, once more. */
bool mptcp_try(const struct mptcp_reader *r);

/*
 * As tcp_read_sent() and tcp_read_received(), of a socket that has fallen back. -EAGAIN: it changes faster than it can be read;
 * -ENODATA: what there is makes no sense, or does not fit together; -ENOBUFS: `room` is too small.
 */
int mptcp_read_sent(const struct mptcp_reader *r, int fd, struct tcp_queues *q, struct tcp_room *room);
int mptcp_read_received(const struct mptcp_reader *r, int fd, struct tcp_queues *q, struct tcp_room *room);

/*
 * End its connection, so that it can be made again: the RST that is sent must be held back. When its program is dead; all
 * that ckpt has.
 */
int mptcp_end(int fd);
