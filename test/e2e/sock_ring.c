/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=90 */
/*
 * Rings for receiving with TPACKET_V1 and V2: fresh, partly read, idle after they went round, full, and given back out of
 * order. Each reader goes on at its frame, and so does the kernel.
 */
#include "e2e_ring.h"

enum { FRAMES = 16, FIRST = 0x9100 };

enum state { FRESH, PARTLY, ROUND, FULL, DISORDER, LAST_FRAME, STATES };

static void set_up(struct ring *r, enum state state) {
        switch (state) {
        case FRESH:
                break;
        case PARTLY:
                ring_send(r, 10);
                ring_read_to(r, 1);
                break;
        case ROUND:
                ring_pass(r, 2 * FRAMES + 5);
                break;
        case FULL:
                ring_pass(r, 3);
                ring_send(r, FRAMES);
                for (int i = 0; i < 5; i++)
                        ring_send_as(r, NOBODYS, SMALL);
                break;
        case DISORDER: /* the first three are still being looked at */
                ring_pass(r, 13);
                ring_send(r, 7);
                CHECK(ring_poll(r, PATIENCE), "nothing comes");
                for (int i = 0; i < 6; i++)
                        CHECK(ring_read_frame(r, i < 3), "frame %d is not there", i);
                break;
        case LAST_FRAME: /* the next is the first frame again */
                ring_pass(r, FRAMES);
                break;
        default:
                break;
        }
}

static void give_back(struct ring *r) {
        for (uint32_t i = 13; i < FRAMES; i++) {
                char *frame = ring_frame(r, r->map, i);

                CHECK(*ring_word(r, frame) & TP_STATUS_USER, "frame %u is not mine any more", i);
                if (r->version == TPACKET_V1)
                        ((struct tpacket_hdr *)frame)->tp_status = 0;
                else
                        *ring_word(r, frame) = 0;
        }
}

int main(int argc, char **argv) {
        static struct ring rings[2][STATES];

        test_init(argc, argv);
        ring_up();
        for (int v = TPACKET_V1; v <= TPACKET_V2; v++)
                for (int s = 0; s < STATES; s++) {
                        struct ring *r = &rings[v][s];

                        *r = (struct ring){ .version = v,
                                            .protocol = (uint16_t)(FIRST + v * STATES + s),
                                            .block_size = 8192,
                                            .blocks = FRAMES * 512 / 8192 * 2,
                                            .frame_size = 1024 };
                        ring_make(r, 1);
                        CHECK_EQ(r->frames, FRAMES);
                        set_up(r, (enum state)s);
                }
        test_ready();
        test_wait();
        /* break: rings[1][ROUND].next++; */
        for (int v = TPACKET_V1; v <= TPACKET_V2; v++)
                for (int s = 0; s < STATES; s++) {
                        struct tpacket_stats stats;
                        socklen_t len = sizeof(stats);
                        struct ring *r = &rings[v][s];

                        SYS(getsockopt(r->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len));
                        CHECK(stats.tp_packets <= 2 * FRAMES + 20, "%u packets", stats.tp_packets);
                        if (s == DISORDER)
                                give_back(r);
                        ring_read_to(r, r->sent);
                        ring_pass(r, 2 * FRAMES + 3);
                }
        test_pass();
}
