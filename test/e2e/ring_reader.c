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

int main(int argc, char **argv) {
        struct ring r = { .version = atoi(argv[1]),
                          .protocol = PROTOCOL,
                          .block_size = 16384,
                          .blocks = 4096, /* not full by the time that a dump looks at it */
                          .frame_size = 2048,
                          .timeout = 5,
                          .take = take };
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
                for (int i = 0; i < 50 && ring_read(&r); i++)
                        ;
        }
        test_pass();
}
