/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* The heap: what brk gave and what malloc built in it; the break can move on in both directions. */
#include "e2e.h"

#define N_BLOCKS 500

int main(int argc, char **argv) {
        char *start, *end, *blocks[N_BLOCKS];
        size_t sizes[N_BLOCKS];
        struct vma v;

        test_init(argc, argv);
        start = sbrk(1 << 20);
        CHECK(start != (void *)-1, "sbrk: %m");
        fill(start, 1 << 20, 1);
        for (int i = 0; i < N_BLOCKS; i++) {
                sizes[i] = 16 + (size_t)(i * 7919 % 30000) / 8 * 8;
                blocks[i] = malloc(sizes[i]);
                CHECK(blocks[i], "malloc");
                fill(blocks[i], sizes[i], (uint64_t)i);
        }
        for (int i = 0; i < N_BLOCKS; i += 3) {
                free(blocks[i]);
                blocks[i] = NULL;
        }
        end = sbrk(0);
        test_ready();
        test_wait();
        /* break: start[4096 * 5] ^= 1; */
        /* break: sbrk(4096); */
        /* break: blocks[100][8]++; */
        CHECK(sbrk(0) == end, "the break is %p, not %p", sbrk(0), (void *)end);
        CHECK(find_vma(start, &v) && strcmp(v.path, "[heap]") == 0, "the heap is now '%s'", v.path);
        check_filled(start, 1 << 20, 1, "sbrk area");
        for (int i = 0; i < N_BLOCKS; i++) {
                if (blocks[i])
                        check_filled(blocks[i], sizes[i], (uint64_t)i, "malloc block");
                else
                        CHECK((blocks[i] = malloc(sizes[i])), "malloc after a restore");
        }
        for (int i = 0; i < N_BLOCKS; i++)
                free(blocks[i]);
        end = sbrk(0);
        CHECK(sbrk(16 << 20) == end, "grow the break: %m");
        memset(end, 7, 16 << 20);
        CHECK(sbrk(-(16 << 20)) == end + (16 << 20), "shrink the break: %m");
        CHECK(!can_access(end + PAGE, false), "memory above the break");
        test_pass();
}
