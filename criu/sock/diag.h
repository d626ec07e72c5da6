/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What sock_diag(7) tells of the sockets of a network namespace: one query for each family and protocol,
 * whatever the number of sockets asked for.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "vec.h"

/* Options that it tells, of TCP; each only since some version, or to some. */
enum sock_told {
        SOCK_TOLD_NOT,
        SOCK_TOLD_TOS,
        SOCK_TOLD_TCLASS,
        SOCK_TOLD_MARK,
        SOCK_TOLD_RECVERR,
        SOCK_TOLD_RECVERR_RFC4884,
        SOCK_TOLD_FREEBIND,
        SOCK_TOLD_TRANSPARENT,
        SOCK_TOLD_BIND_NO_PORT,
        SOCK_TOLD_SNDBUF,
        SOCK_TOLD_RCVBUF,
        SOCK_TOLD_NO_ULP,     /* it has none */
        SOCK_TOLD_CONGESTION, /* in a field of its own */
        SOCK_TOLD_PACING,     /* likewise */
        SOCK_TOLD_MAX,
        SOCK_TOLD_INVALID = -1,
};

struct sock_diag {
        uint32_t ino; /* 0: nobody has a descriptor of it (not accepted yet, or closed) */
        uint8_t family, protocol;
        uint8_t state; /* TCP_*, of every protocol */
        uint8_t shutdown;
        bool has_shutdown; /* 1: for reading, 2: for writing, 3: both; told since 3.19 */
        bool md5;
        uint16_t src_port, dst_port; /* host byte order */
        uint32_t src[4], dst[4];     /* network byte order; IPv4 uses the first */
        uint32_t ifindex;
        uint32_t rqueue, wqueue; /* of a listener: connections that wait, backlog */
        bool has_segments;
        uint32_t segments_in, segments_out; /* of TCP: that have come and gone so far; told since 4.2 */
        uint32_t cookie[2];
        uint32_t told; /* bits: 1 << enum sock_told */
        int numbers[SOCK_TOLD_CONGESTION];
        char congestion[16]; /* padded with zeros */
        uint64_t pacing;     /* SO_MAX_PACING_RATE */
};
DEFINE_VEC(sock_diag_vec, struct sock_diag);

/* All sockets of the families and protocols asked for so far. All zero: none. */
struct sock_diag_table {
        struct sock_diag_vec all;
        uint32_t *buckets; /* 1 + index in `all` */
        size_t nr_buckets;
        uint32_t asked; /* bit for each query that was made */
};

/*
 * Ask for all sockets of a family (AF_INET, AF_INET6) and protocol (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE)
 * in ckpt's network namespace, unless that was done before. -EOPNOTSUPP: a protocol that the kernel has
 * no sock_diag for.
 */
int sock_diag_query(struct sock_diag_table *t, int family, int protocol, struct ckpt_error *err);

/* After something was appended to t->all: let it be found. */
int sock_diag_index(struct sock_diag_table *t);

static inline bool sock_diag_tells(const struct sock_diag *s, enum sock_told what) {
        return s && s->told & 1U << what;
}

/* The socket with this inode, or NULL. Valid until the next query. */
const struct sock_diag *sock_diag_find(const struct sock_diag_table *t, uint64_t ino);

/*
 * The TCP connections that no program has any more, and that the kernel brings to their end (TIME_WAIT and the other
 * closing states): appended to *ret.
 */
int sock_diag_dying(struct sock_diag_vec *ret, struct ckpt_error *err);

/* Have the kernel forget one of them. -EOPNOTSUPP: it cannot (CONFIG_INET_DIAG_DESTROY). */
int sock_diag_destroy(const struct sock_diag *s);

void sock_diag_done(struct sock_diag_table *t);

/*
 * Take one message of inet_diag: `len` bytes behind the netlink header. -EBADMSG if it is too short. For
 * tests too.
 */
int sock_diag_parse(const void *payload, size_t len, uint8_t protocol, struct sock_diag *ret);
