/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Transparent huge pages: whole, in part given back, in part read-only, moved; contents, flags and areas. */
#include "e2e.h"
#include "e2e_maps.h"

#define HUGE ((size_t)2 << 20)

static struct maps before;

int main(int argc, char **argv) {
        char *room, *p, *plain;
        struct vma v;

        test_init(argc, argv);
        room = mmap(NULL, 12 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(room != MAP_FAILED, "mmap: %m");
        p = (char *)(((uintptr_t)room + HUGE - 1) & ~(HUGE - 1));
        CHECK(mmap(p, 6 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p,
              "mmap: %m");
        if (madvise(p, 6 * HUGE, MADV_HUGEPAGE) < 0)
                test_skip("this kernel has no transparent huge pages");
        for (size_t i = 0; i < 6; i++)
                fill(p + i * HUGE, HUGE, i);
        CHECK(find_vma(p, &v), "the mapping");
        test_msg("%" PRIu64 " KiB in huge pages", v.huge_kb);
        CHECK(madvise(p + HUGE + 5 * PAGE, 9 * PAGE, MADV_DONTNEED) == 0, "madvise: %m");
        CHECK(mprotect(p + 3 * HUGE + 7 * PAGE, PAGE, PROT_READ) == 0, "mprotect: %m");
        CHECK(munmap(p + 4 * HUGE + PAGE, PAGE) == 0, "munmap: %m");
        /* Without a flag of its own: must not come back with one although the restore may use huge pages. */
        plain = p + 7 * HUGE;
        CHECK(mprotect(plain, 3 * HUGE, PROT_READ | PROT_WRITE) == 0, "mprotect: %m");
        fill(plain, 3 * HUGE, 70);
        maps_read(&before);
        test_ready();
        test_wait();
        /* break: p[HUGE * 2 + 64]++; */
        /* break: p[HUGE + PAGE * 6] = 1; */
        /* break: madvise(plain, HUGE, MADV_HUGEPAGE); */
        maps_check_same(&before);
        for (size_t i = 0; i < 6; i++) {
                if (i != 1 && i != 4)
                        check_filled(p + i * HUGE, HUGE, i, "huge page");
        }
        check_filled(p + HUGE, 5 * PAGE, 1, "before the gap");
        check_zero(p + HUGE + 5 * PAGE, 9 * PAGE, "the gap");
        check_filled(p + 4 * HUGE, PAGE, 4, "before the hole");
        check_filled(plain, 3 * HUGE, 70, "without advice");
        fill(p, HUGE, 99);
        check_filled(p, HUGE, 99, "written again");
        test_pass();
}
