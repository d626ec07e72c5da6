/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A program that reads a ring of packets (packet_mmap) as such programs do: it knows which frame or block comes next, waits for that
 * one with poll(2), and gives back what it has read. Each packet has a number; none may be missing and none come twice.
 */
#pragma once

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "e2e.h"

enum {
        HEAD = 14,
        SMALL = 64,
        PATIENCE = 10000,     /* ms */
        NOBODYS = 0x7fffffff, /* the number of packets that are to be lost */
};

struct ring {
        int fd, version;
        uint16_t protocol;
        uint32_t block_size, blocks, frame_size, frames, priv, timeout;
        uint64_t size; /* of all that is mapped */
        char *map, *tx;
        uint32_t next, tx_next; /* frame, or block */
        uint32_t sent, got;     /* numbers */
        uint64_t seq;           /* of the last block */
        void (*take)(
                const char *frame); /* what is done with each packet; NULL: it has to have the next number */
};

static inline void ring_up(void) {
        int control = SYS(socket(AF_INET, SOCK_DGRAM, 0));
        struct ifreq req = { .ifr_name = "lo" };

        SYS(ioctl(control, SIOCGIFFLAGS, &req));
        req.ifr_flags |= IFF_UP;
        SYS(ioctl(control, SIOCSIFFLAGS, &req));
        close(control);
}

static inline void ring_bind(int fd, uint16_t protocol) {
        struct sockaddr_ll a = { .sll_family = AF_PACKET,
                                 .sll_protocol = htons(protocol),
                                 .sll_ifindex = (int)if_nametoindex("lo") };

        SYS(bind(fd, (struct sockaddr *)&a, sizeof(a)));
}

/* With the measures in *r; what: 1 receiving, 2 sending, 3 both. */
static inline void ring_make(struct ring *r, int what) {
        struct tpacket_req3 req = { .tp_block_size = r->block_size,
                                    .tp_block_nr = r->blocks,
                                    .tp_frame_size = r->frame_size };
        socklen_t len = r->version == TPACKET_V3 ? sizeof(req) : sizeof(struct tpacket_req);

        r->frames = req.tp_frame_nr = r->block_size / r->frame_size * r->blocks;
        r->fd = SYS(socket(AF_PACKET, SOCK_RAW, 0));
        SYS(setsockopt(r->fd, SOL_PACKET, PACKET_VERSION, &r->version, sizeof(r->version)));
        if (what & 2)
                SYS(setsockopt(r->fd, SOL_PACKET, PACKET_TX_RING, &req, len));
        req.tp_sizeof_priv = r->priv;
        req.tp_retire_blk_tov = r->timeout;
        if (what & 1)
                SYS(setsockopt(r->fd, SOL_PACKET, PACKET_RX_RING, &req, len));
        r->size = (uint64_t)r->block_size * r->blocks * (what == 3 ? 2 : 1);
        r->map = SYS(mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0));
        r->tx = r->map + (what == 3 ? r->size / 2 : 0);
        if (what & 1)
                ring_bind(r->fd, r->protocol);
}

static inline void ring_fill_frame(char *frame, uint16_t protocol, uint32_t number) {
        memset(frame, 0, SMALL);
        frame[12] = (char)(protocol >> 8);
        frame[13] = (char)protocol;
        memcpy(frame + HEAD, &number, sizeof(number));
}

/* `size` bytes of a packet for the ring `r`. */
static inline void ring_send_as(struct ring *r, uint32_t number, size_t size) {
        static char frame[9000];
        struct sockaddr_ll a = { .sll_family = AF_PACKET,
                                 .sll_ifindex = (int)if_nametoindex("lo"),
                                 .sll_halen = 6 };
        static int fd;

        if (fd == 0)
                fd = SYS(socket(AF_PACKET, SOCK_RAW, 0));
        ring_fill_frame(frame, r->protocol, number);
        CHECK(sendto(fd, frame, size, 0, (struct sockaddr *)&a, sizeof(a)) == (ssize_t)size, "send: %m");
}

static inline void ring_send(struct ring *r, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                ring_send_as(r, r->sent++, SMALL);
}

static inline bool ring_poll(struct ring *r, int ms) {
        struct pollfd p = { .fd = r->fd, .events = POLLIN };
        int n = SYS(poll(&p, 1, ms));

        CHECK(!(p.revents & (POLLERR | POLLHUP)), "poll says %#x", p.revents);
        return n == 1;
}

static inline void ring_take(struct ring *r, const char *frame) {
        uint32_t number = r->got;

        if (r->take)
                r->take(frame);
        else
                memcpy(&number, frame + HEAD, sizeof(number));
        CHECK(number == r->got, "protocol %#x, version %d: packet %u instead of %u", r->protocol,
              r->version + 1, number, r->got);
        r->got++;
}

static inline char *ring_frame(const struct ring *r, char *base, uint32_t i) {
        uint32_t in_block = r->block_size / r->frame_size;

        return base + (uint64_t)r->block_size * (i / in_block) + (uint64_t)r->frame_size * (i % in_block);
}

static inline volatile uint32_t *ring_word(const struct ring *r, char *frame) {
        return r->version == TPACKET_V3 ? &((struct tpacket3_hdr *)frame)->tp_status : (uint32_t *)frame;
}

/* The next frame of TPACKET_V1 and V2, given back unless it is to be kept; false: there is none yet. */
static inline bool ring_read_frame(struct ring *r, bool keep) {
        char *frame = ring_frame(r, r->map, r->next);

        if (!(*ring_word(r, frame) & TP_STATUS_USER))
                return false;
        ring_take(r, frame + (r->version == TPACKET_V1 ? ((struct tpacket_hdr *)frame)->tp_mac
                                                       : ((struct tpacket2_hdr *)frame)->tp_mac));
        r->next = (r->next + 1) % r->frames;
        __sync_synchronize();
        if (!keep && r->version == TPACKET_V1)
                ((struct tpacket_hdr *)frame)->tp_status = 0;
        else if (!keep)
                *ring_word(r, frame) = 0;
        return true;
}

static inline struct tpacket_block_desc *ring_block(const struct ring *r, uint32_t i) {
        return (struct tpacket_block_desc *)(r->map + (uint64_t)r->block_size * i);
}

static inline bool ring_read_block(struct ring *r) {
        struct tpacket_block_desc *b = ring_block(r, r->next);
        struct tpacket_hdr_v1 *h = &b->hdr.bh1;
        char *at = (char *)b + h->offset_to_first_pkt;

        if (!(*(volatile uint32_t *)&h->block_status & TP_STATUS_USER))
                return false;
        CHECK_EQ(h->seq_num, r->seq + 1);
        r->seq++;
        CHECK_EQ(b->offset_to_priv, sizeof(*b));
        for (uint32_t i = 0; i < h->num_pkts; i++) {
                struct tpacket3_hdr *p = (struct tpacket3_hdr *)at;

                ring_take(r, at + p->tp_mac);
                CHECK((i + 1 == h->num_pkts) == (p->tp_next_offset == 0), "the chain ends wrongly");
                at += p->tp_next_offset;
        }
        r->next = (r->next + 1) % r->blocks;
        __sync_synchronize();
        h->block_status = TP_STATUS_KERNEL;
        return true;
}

static inline bool ring_read(struct ring *r) {
        return r->version == TPACKET_V3 ? ring_read_block(r) : ring_read_frame(r, false);
}

/* All up to number `n`, woken by poll(2). */
static inline void ring_read_to(struct ring *r, uint32_t n) {
        while (r->got < n) {
                CHECK(ring_poll(r, PATIENCE), "protocol %#x, version %d: stalled at %u of %u", r->protocol,
                      r->version + 1, r->got, n);
                while (ring_read(r))
                        ;
        }
}

static inline void ring_pass(struct ring *r, uint32_t n) {
        for (uint32_t i = 0; i < n; i++) {
                ring_send(r, 1);
                ring_read_to(r, r->sent);
        }
}

/* Fill in a frame to be sent. */
static inline void ring_put(struct ring *r) {
        char *frame = ring_frame(r, r->tx, r->tx_next), *data;

        CHECK(*ring_word(r, frame) == TP_STATUS_AVAILABLE, "frame %u to be sent has the status %#x",
              r->tx_next, *ring_word(r, frame));
        if (r->version == TPACKET_V1) {
                ((struct tpacket_hdr *)frame)->tp_len = SMALL;
                data = frame + TPACKET_HDRLEN - sizeof(struct sockaddr_ll);
        } else if (r->version == TPACKET_V2) {
                ((struct tpacket2_hdr *)frame)->tp_len = SMALL;
                data = frame + TPACKET2_HDRLEN - sizeof(struct sockaddr_ll);
        } else {
                ((struct tpacket3_hdr *)frame)->tp_len = SMALL;
                data = frame + TPACKET3_HDRLEN - sizeof(struct sockaddr_ll);
        }
        ring_fill_frame(data, r->protocol, r->sent++);
        __sync_synchronize();
        if (r->version == TPACKET_V1)
                ((struct tpacket_hdr *)frame)->tp_status = TP_STATUS_SEND_REQUEST;
        else
                *ring_word(r, frame) = TP_STATUS_SEND_REQUEST;
        r->tx_next = (r->tx_next + 1) % r->frames;
}

/* Send what was put; `n` packets. */
static inline void ring_flush(struct ring *r, uint32_t n) {
        struct sockaddr_ll a = { .sll_family = AF_PACKET,
                                 .sll_ifindex = (int)if_nametoindex("lo"),
                                 .sll_halen = 6 };
        ssize_t sent = sendto(r->fd, "", 0, 0, (struct sockaddr *)&a, sizeof(a));

        CHECK(sent == (ssize_t)n * SMALL, "sent %zd bytes instead of %u packets: %m", sent, n);
}
