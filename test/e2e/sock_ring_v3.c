/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=90 */
/*
 * Rings for receiving with TPACKET_V3: fresh, with packets in the block that is being filled, idle after many blocks, with
 * blocks to be read, full, one block only. Numbers of blocks go on, what the program keeps in them stays.
 */
#include "e2e_ring.h"

enum { BLOCKS = 4, FIRST = 0x9200, PRIV = 21, LARGE = 3000 };

enum state { FRESH, OPEN, ROUND, SOME, FULL, GIVEN_BACK, SINGLE, STATES };

/* So many that a block is full. */
static void send_block(struct ring *r) {
        for (int i = 0; i < 2; i++)
                ring_send_as(r, r->sent++, LARGE);
}

static void set_up(struct ring *r, enum state state) {
        switch (state) {
        case FRESH:
                break;
        case OPEN: /* nothing closes it for a minute */
                ring_send(r, 3);
                break;
        case ROUND:
                for (int i = 0; i < 9; i++) {
                        ring_send(r, 2);
                        ring_read_to(r, r->sent);
                }
                break;
        case SOME:
                for (int i = 0; i < 5; i++) {
                        send_block(r);
                        ring_read_to(r, r->sent > 4 ? r->sent - 4 : 0);
                }
                break;
        case FULL:
        case GIVEN_BACK:
        case SINGLE:
                while (!(ring_block(r, r->blocks - 1)->hdr.bh1.block_status & TP_STATUS_USER))
                        ring_send_as(r, r->sent++, LARGE);
                r->sent--; /* the last did not go in */
                for (int i = 0; i < 3; i++)
                        ring_send_as(r, NOBODYS, SMALL);
                break;
        default:
                break;
        }
        /* The kernel stands before this block, and has not looked since. */
        if (state == GIVEN_BACK)
                CHECK(ring_read(r), "nothing to be read");
}

static void write_private(struct ring *r) {
        for (uint32_t i = 0; i < r->blocks; i++)
                memset((char *)ring_block(r, i) + sizeof(struct tpacket_block_desc), 'a' + (int)i, PRIV);
}

static void check_private(struct ring *r) {
        for (uint32_t i = 0; i < r->blocks; i++)
                for (int j = 0; j < PRIV; j++)
                        CHECK_EQ(((char *)ring_block(r, i) + sizeof(struct tpacket_block_desc))[j],
                                 'a' + (int)i);
}

static bool is_there(struct ring *r) {
        return *(volatile uint32_t *)&ring_block(r, r->next)->hdr.bh1.block_status & TP_STATUS_USER;
}

/* Whatever the kernel still holds comes once there is more. Of one block, a packet that closes it is lost. */
static void go_on(struct ring *r, uint32_t want) {
        while (r->got < want) {
                while (is_there(r)) {
                        CHECK(ring_poll(r, 0), "poll does not tell of a block");
                        CHECK(ring_read(r), "nothing to be read");
                }
                ring_send_as(r, r->sent++, LARGE);
                if (r->blocks == 1 && is_there(r))
                        r->sent--;
        }
        if (r->timeout < 1000)
                ring_read_to(r, r->sent);
}

int main(int argc, char **argv) {
        static struct ring rings[STATES];

        test_init(argc, argv);
        ring_up();
        for (int s = 0; s < STATES; s++) {
                struct ring *r = &rings[s];

                *r = (struct ring){ .version = TPACKET_V3,
                                    .protocol = (uint16_t)(FIRST + s),
                                    .block_size = 8192,
                                    .blocks = s == SINGLE ? 1 : BLOCKS,
                                    .frame_size = 2048,
                                    .priv = PRIV,
                                    .timeout = s == ROUND ? 20 : 60000 };
                ring_make(r, 1);
                write_private(r);
                set_up(r, (enum state)s);
        }
        test_ready();
        test_wait();
        /* break: rings[ROUND].next = 0; */
        /* break: rings[OPEN].seq++; */
        for (int s = 0; s < STATES; s++) {
                check_private(&rings[s]);
                go_on(&rings[s], rings[s].sent + 50);
                CHECK(rings[s].seq >= BLOCKS, "only %llu blocks", (unsigned long long)rings[s].seq);
                check_private(&rings[s]);
        }
        test_pass();
}
