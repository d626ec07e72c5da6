/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/*
 * Reads the ring of version argv[1] as long as it is let, and says in the file argv[2] how many packets it has had. Packets may be
 * lost, but none comes twice, none later than the next, and what is in them is whole.
 */
#include <stdlib.h>

#include "e2e_ring.h"

enum { PROTOCOL = 0x9500, SIZE = 900 };

struct content {
        char head[HEAD];
        uint32_t number;
        uint32_t copies[(SIZE - HEAD - 4) / 4];
} __attribute__((packed));

static uint32_t last;

static void take(const char *frame) {
        const struct content *c = (const struct content *)frame;

        CHECK(c->number > last, "packet %u after %u", c->number, last);
        for (size_t i = 0; i < ELEMENTS(c->copies); i++)
                CHECK_EQ(c->copies[i], c->number);
        last = c->number;
}

static bool read_frame(struct ring *r) {
        char *frame = ring_frame(r, r->map, r->next);

        if (!(*ring_word(r, frame) & TP_STATUS_USER))
                return false;
        take(frame + (r->version == TPACKET_V1 ? ((struct tpacket_hdr *)frame)->tp_mac
                                               : ((struct tpacket2_hdr *)frame)->tp_mac));
        r->next = (r->next + 1) % r->frames;
        __sync_synchronize();
        if (r->version == TPACKET_V1)
                ((struct tpacket_hdr *)frame)->tp_status = 0;
        else
                *ring_word(r, frame) = 0;
        r->got++;
        return true;
}

static bool read_block(struct ring *r) {
        struct tpacket_block_desc *b = ring_block(r, r->next);
        struct tpacket_hdr_v1 *h = &b->hdr.bh1;
        char *at = (char *)b + h->offset_to_first_pkt;

        if (!(*(volatile uint32_t *)&h->block_status & TP_STATUS_USER))
                return false;
        CHECK_EQ(h->seq_num, r->seq + 1);
        r->seq++;
        for (uint32_t i = 0; i < h->num_pkts; i++) {
                struct tpacket3_hdr *p = (struct tpacket3_hdr *)at;

                take(at + p->tp_mac);
                at += p->tp_next_offset;
        }
        r->got += h->num_pkts;
        r->next = (r->next + 1) % r->blocks;
        __sync_synchronize();
        h->block_status = TP_STATUS_KERNEL;
        return true;
}

int main(int argc, char **argv) {
        struct ring r = { .version = atoi(argv[1]),
                          .protocol = PROTOCOL,
                          .block_size = 16384,
                          .blocks = 4096, /* not full by the time that a dump looks at it */
                          .frame_size = 2048,
                          .timeout = 5 };
        int out = SYS(open(argv[2], O_RDWR | O_CREAT, 0600));

        test_init(argc, argv);
        ring_make(&r, 1);
        test_allow_stop();
        while (!test_stop_requested()) {
                char text[32];
                int n = snprintf(text, sizeof(text), "%012u\n", r.got);
                struct pollfd p = { .fd = r.fd, .events = POLLIN };

                CHECK(pwrite(out, text, (size_t)n, 0) == n, "pwrite: %m");
                (void)poll(&p, 1, 1000);
                for (int i = 0; i < 50 && (r.version == TPACKET_V3 ? read_block(&r) : read_frame(&r)); i++)
                        ;
        }
        test_pass();
}
