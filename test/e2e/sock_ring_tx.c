/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=90 */
/*
 * Rings for sending, of all versions, alone and in one mapping with a ring for receiving: fresh, after they went round, with frames
 * that are still to be sent, with data at places of the program's choice (PACKET_TX_HAS_OFF), without a queue of the
 * device (PACKET_QDISC_BYPASS). What is sent afterwards comes in order.
 */
#include <sched.h>

#include "e2e_ring.h"

enum { FRAMES = 8, FIRST = 0x9300 };

enum state { FRESH, ROUND, WAITING, BOTH, BYPASS, STATES };

struct pair {
        struct ring ring;
        int in; /* what is sent arrives here ... */
        bool both;
        struct ring back; /* ... and in the ring beside it */
};

static void receive(struct pair *p) {
        struct ring *r = &p->ring;

        while (r->got < r->sent) {
                struct pollfd poll_in = { .fd = p->in, .events = POLLIN };
                char buf[256];

                CHECK(poll(&poll_in, 1, PATIENCE) == 1, "version %d: packet %u of %u was not sent",
                      r->version + 1, r->got, r->sent);
                CHECK(recv(p->in, buf, sizeof(buf), 0) > 0, "recv: %m");
                ring_take(r, buf);
        }
        if (p->both)
                ring_read_to(&p->back, r->sent);
}

/* The kernel may still be at it when sendto(2) is back. */
static void wait_free(struct ring *r) {
        struct pollfd p = { .fd = r->fd, .events = POLLOUT };

        CHECK(poll(&p, 1, PATIENCE) == 1 && p.revents == POLLOUT, "no frame is free: %#x", p.revents);
        while (*ring_word(r, ring_frame(r, r->tx, r->tx_next)) & TP_STATUS_SENDING)
                sched_yield();
}

static void pass(struct pair *p, uint32_t n) {
        for (uint32_t i = 0; i < n; i++) {
                wait_free(&p->ring);
                ring_put(&p->ring);
                if (i % 3 == 2 || i + 1 == n) {
                        ring_flush(&p->ring, i % 3 + 1);
                        receive(p); /* until then the data lies in the ring */
                }
        }
}

static void set_up(struct pair *p, enum state state) {
        int on = 1;

        if (state == BYPASS)
                SYS(setsockopt(p->ring.fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)));
        if (state != FRESH)
                pass(p, 2 * FRAMES + 3);
        if (state == WAITING) {
                ring_put(&p->ring);
                ring_put(&p->ring);
        }
}

static void check(struct pair *p, enum state state) {
        if (state == WAITING) {
                ring_flush(&p->ring, 2);
                receive(p);
        }
        pass(p, 2 * FRAMES + 1);
}

int main(int argc, char **argv) {
        static struct pair pairs[TPACKET_V3 + 1][STATES];

        test_init(argc, argv);
        ring_up();
        for (int v = TPACKET_V1; v <= TPACKET_V3; v++)
                for (int s = 0; s < STATES; s++) {
                        struct pair *p = &pairs[v][s];

                        p->ring = (struct ring){ .version = v,
                                                 .protocol = (uint16_t)(FIRST + v * STATES + s),
                                                 .block_size = 8192,
                                                 .blocks = FRAMES * 2048 / 8192,
                                                 .frame_size = 2048 };
                        p->both = s == BOTH && v != TPACKET_V3;
                        ring_make(&p->ring, p->both ? 3 : 2);
                        p->back = p->ring;
                        p->in = SYS(socket(AF_PACKET, SOCK_RAW, 0));
                        ring_bind(p->in, p->ring.protocol);
                        set_up(p, (enum state)s);
                }
        test_ready();
        test_wait();
        /* break: pairs[1][ROUND].ring.tx_next++; */
        for (int v = TPACKET_V1; v <= TPACKET_V3; v++)
                for (int s = 0; s < STATES; s++)
                        check(&pairs[v][s], (enum state)s);
        test_pass();
}
