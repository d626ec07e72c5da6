/* SPDX-License-Identifier: GPL-2.0-only */
/* What af_packet.c shows of itself, for its tests. */
#pragma once

#include <linux/packet_diag.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "images/packet-sock.pb-c.h"
#include "lib/arena.h"

/* What packet_diag tells of a socket; it points into an arena. */
struct packet_diag {
        uint32_t ino;
        struct packet_diag_info info;
        const struct packet_diag_mclist *mclist;
        size_t nr_mclist;
        const struct packet_diag_ring *rx, *tx; /* NULL: none */
        bool has_fanout;
        uint32_t fanout; /* id, type << 16 */
};

/* `len` bytes behind the netlink header. -EBADMSG if it makes no sense. */
int packet_parse_diag(const void *payload, size_t len, struct arena *arena, struct packet_diag *ret);

/* Does the message make sense? NULL, or what is wrong with it. */
const char *packet_check(const Img__PacketSock *psk);
