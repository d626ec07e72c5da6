/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TCP packets that no socket sends: what a peer has said before the dump and the restored socket has to hear
 * again (its FIN, its ACK of ours, its RST), and an ACK in the name of a restored socket.
 */
#pragma once

#include <stdint.h>

#include "error.h"
#include "sock/lock.h"

enum {
        PACKET_FIN = 0x01,
        PACKET_RST = 0x04,
        PACKET_ACK = 0x10,
        PACKET_URG = 0x20,
};

struct packet_sender;

/* Raw sockets, opened when first needed. */
struct packet_sender *packet_sender_new(void);
void packet_sender_free(struct packet_sender **s);

/*
 * Send one packet without data from tuple->src to tuple->dst. It passes the network lock. Where dst is an address
 * of this machine, it has been received when this returns, or is about to be. libnet(3).
 */
int packet_send(struct packet_sender *s, const struct sock_tuple *tuple, uint32_t seq, uint32_t ack,
                uint16_t window, uint8_t flags, struct ckpt_error *err);

/* The same with an ACK and one byte of data, which is urgent. */
int packet_send_urgent(struct packet_sender *s, const struct sock_tuple *tuple, uint32_t seq, uint32_t ack,
                       uint8_t byte, struct ckpt_error *err);

/*
 * Tell a peer that has been repeating the segment `seq` in vain, at ever longer intervals, that the path works again: RFC 6069
 * takes an ICMP "unreachable" about it as the sign that it is worth trying now. Peers that wait for nothing, or do not
 * do it, ignore it. Best effort.
 */
void packet_hint_retry(const struct sock_tuple *tuple, uint32_t seq);

/*
 * Have the network tell a socket of this machine (tuple->src) that its packet to tuple->dst has not arrived, so that it has
 * this error: ICMP "unreachable". `seq`: of TCP, the first byte that is not acknowledged. It passes the network lock, and has been
 * received when this returns, or is about to be. -EOPNOTSUPP: no ICMP stands for that error, as packet_can_tell() says.
 */
bool packet_can_tell(bool v6, int error);
int packet_tell(const struct sock_tuple *tuple, uint8_t protocol, uint32_t seq, int error);
