/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Datagrams that a UDP or UDP-Lite socket has received and its program has not read. They are read without being
 * taken (MSG_PEEK), and put back as packets on the loopback device with their old source addresses.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "images/sk-inet.pb-c.h"
#include "lib/arena.h"
#include "sock/tcp.h"

struct datagram {
        struct datagram *next;
        struct sockaddr_in6 from; /* or a sockaddr_in */
        uint32_t to[4];           /* network byte order; has_to words are known, 1 with IPv4 */
        uint32_t has_to;
        int ttl, tos;     /* -1: not told */
        uint32_t segment; /* several of this size were put together (UDP_GRO); 0: not */
        uint32_t len;     /* of what follows */
};

struct datagrams {
        struct datagram *first;
        size_t n;
        int peek_off; /* the socket's SO_PEEK_OFF, which reading changes and puts back */
};

/*
 * Read all into `room`. System calls only. -ENOBUFS: there is not enough room. Afterwards the kernel passes over datagrams
 * without data when they are read like this a second time.
 */
int datagrams_read(int fd, struct datagrams *ret, struct tcp_room *room);

/* Put SO_PEEK_OFF back, where a reader has died in the middle. */
void datagrams_end(int fd, const struct datagrams *d);

/* Add them to the message. Those that nobody can put back are counted in a warning. */
void datagrams_dump(const struct datagrams *d, struct arena *arena, Img__InetSk *isk, const char *name);

/* Does what is in the message make sense? NULL, or what is wrong with it. */
const char *datagrams_check(const Img__InetSk *isk);

/* How large the receive buffer has to be for them. */
size_t datagrams_room(const Img__InetSk *isk);

/*
 * `fd` is bound and not connected. `index`: how many sockets came before it to its SO_REUSEPORT group. What does not arrive,
 * because a firewall of this machine does not want it, is lost with a warning.
 */
int datagrams_restore(int fd, const Img__InetSk *isk, int index, const char *what, struct ckpt_error *err);
