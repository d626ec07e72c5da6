/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The receive queue of a TCP connection with the mark of urgent data in it (MSG_OOB): reads stop at the mark, and the byte
 * there is kept apart, unless SO_OOBINLINE is set.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "images/tcp.pb-c.h"
#include "sock/lock.h"
#include "sock/packet.h"
#include "sock/tcp.h"

/* Can this kernel look behind the mark (SO_PEEK_OFF of TCP, Linux 6.9)? */
bool urgent_is_readable(void);

struct urgent {
        bool marked, read; /* read: the program has read the byte, the mark is still there */
        uint32_t at;       /* of the byte in what was read */
};

/*
 * Look at all that was received, the urgent byte included: `size` bytes (SIOCINQ), and what is behind the mark.
 * The socket's SO_PEEK_OFF is -1, and is that again afterwards. The number of bytes at room->at, or negative errno. System
 * calls only.
 */
ssize_t urgent_peek(int fd, int size, const struct tcp_room *room, struct urgent *ret);

/*
 * Receive the urgent byte `byte`, the next in sequence at `seq`, on a connected socket in repair mode; `acked` is what its peer
 * has acknowledged. `tuple` is the connection seen from the socket. The queue TCP_RECV_QUEUE is chosen.
 */
int urgent_receive(int fd, uint8_t byte, bool read, uint32_t seq, uint32_t acked,
                   const struct sock_tuple *tuple, struct packet_sender *sender, const char *what,
                   struct ckpt_error *err);
