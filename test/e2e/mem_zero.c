/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* 64 MiB that were only read, private and shared, and as much never touched: zeroes afterwards too, and still not
 * resident. That they cost nothing in the images is checked by zero_pages.py. */
#include "e2e.h"

#define SIZE ((size_t)64 << 20)

static char *map(int flags) {
        char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

        CHECK(p != MAP_FAILED, "mmap: %m");
        return p;
}

int main(int argc, char **argv) {
        char *seen, *untouched, *shared;
        struct vma v;

        test_init(argc, argv);
        seen = map(MAP_PRIVATE);
        CHECK(madvise(seen, SIZE, MADV_NOHUGEPAGE) == 0, "madvise: %m");
        untouched = map(MAP_PRIVATE);
        shared = map(MAP_SHARED);
        check_zero(seen, SIZE, "fresh memory");
        test_ready();
        test_wait();
        /* break: seen[5000000] = 1; */
        /* break: memset(untouched, 0, SIZE); */
        /* break: shared[5000000] = 1; */
        CHECK(find_vma(untouched, &v) && v.rss_kb == 0, "never touched: %" PRIu64 " KiB resident", v.rss_kb);
        CHECK(find_vma(seen, &v) && v.anon_kb == 0, "only read: %" PRIu64 " KiB resident", v.anon_kb);
        check_zero(seen, SIZE, "only read");
        check_zero(untouched, SIZE, "never touched");
        check_zero(shared, SIZE, "shared, never touched");
        seen[77777] = 1;
        CHECK(seen[77777] == 1, "write");
        test_pass();
}
