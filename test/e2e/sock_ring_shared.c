/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=90 */
/*
 * One ring in several processes: a child that has only the mapping reads it; another has unmapped a part of it, protected another,
 * and moved the third. All see the same memory, which the kernel goes on filling.
 */
#include "e2e_ring.h"

enum { BLOCKS = 4, BLOCK = 16384, PROTOCOL = 0x9400, ROUNDS = 40 };

static struct ring *ring; /* shared */

/* It has no descriptor of the socket. */
static int reader(void *arg __attribute__((unused))) {
        close(ring->fd);
        test_child_ready();
        test_wait();
        while (ring->got < ring->sent)
                CHECK(ring_read(ring), "packet %u is not there", ring->got);
        return 0;
}

static int fragments(void *arg __attribute__((unused))) {
        char *moved = SYS(mmap(NULL, 4 * BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

        SYS(munmap(ring->map + BLOCK, 4096));
        SYS(mprotect(ring->map + BLOCK + 8192, 4096, PROT_READ));
        SYS(munmap(moved + BLOCK, BLOCK));
        SYS(mremap(ring->map + 3 * BLOCK, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, moved + BLOCK));
        test_child_ready();
        test_wait();
        CHECK_EQ(*ring_word(ring, moved + BLOCK), 0);
        /* What is written here, the kernel sees. */
        *ring_word(ring, moved + BLOCK) = 77;
        return 0;
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        ring_up();
        ring = test_shared(sizeof(*ring));
        *ring = (struct ring){ .version = TPACKET_V2,
                               .protocol = PROTOCOL,
                               .block_size = BLOCK,
                               .blocks = BLOCKS,
                               .frame_size = BLOCK / 2 };
        ring_make(ring, 1);
        ring_pass(ring, 11);
        ring_send(ring, 2);
        CHECK(test_fork(fragments, NULL) > 0 && test_fork(reader, NULL) > 0, "no child");
        test_wait_children_ready();
        test_ready();
        test_wait();
        test_stop_children();
        CHECK_EQ(*ring_word(ring, ring->map + 3 * BLOCK), 77);
        *ring_word(ring, ring->map + 3 * BLOCK) = 0;
        /* break: ring->next++; */
        CHECK_EQ(ring->got, ring->sent);
        ring_pass(ring, ROUNDS);
        test_pass();
}
