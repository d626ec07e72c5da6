/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* mlock, mlock2(MLOCK_ONFAULT) and unlocked neighbours. */
#include "e2e.h"

static char *map(size_t pages) {
        char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(p != MAP_FAILED, "mmap: %m");
        return p;
}

int main(int argc, char **argv) {
        char *locked, *onfault, *plain;
        uint64_t before, after;
        struct vma v;

        test_init(argc, argv);
        locked = map(32);
        CHECK(mlock(locked + 8 * PAGE, 16 * PAGE) == 0, "mlock: %m");
        onfault = map(32);
        onfault[0] = 1;
        CHECK(mlock2(onfault, 32 * PAGE, MLOCK_ONFAULT) == 0, "mlock2: %m");
        plain = map(4);
        fill(plain, 4 * PAGE, 4);
        fill(locked, PAGE, 5);
        before = status_u64(getpid(), "VmLck", 10);
        test_ready();
        test_wait();
        /* break: munlock(locked + 8 * PAGE, PAGE); */
        /* break: mlock(onfault, 32 * PAGE); */
        /* break: mlock(plain, PAGE); */
        after = status_u64(getpid(), "VmLck", 10);
        CHECK(before == after, "VmLck was %" PRIu64 ", is %" PRIu64, before, after);
        CHECK(find_vma(locked + 8 * PAGE, &v) && vma_has_flag(&v, "lo") && !vma_is_onfault(&v), "locked: %s",
              v.flags);
        CHECK(v.end - v.start == 16 * PAGE && v.rss_kb == 64, "locked: %" PRIu64 " KiB resident", v.rss_kb);
        CHECK(find_vma(locked, &v) && !vma_has_flag(&v, "lo"), "beside locked: %s", v.flags);
        CHECK(find_vma(onfault, &v) && vma_has_flag(&v, "lo") && vma_is_onfault(&v), "onfault: %s", v.flags);
        CHECK(v.rss_kb <= 8, "MLOCK_ONFAULT: %" PRIu64 " KiB resident", v.rss_kb);
        CHECK(find_vma(plain, &v) && !vma_has_flag(&v, "lo"), "plain: %s", v.flags);
        check_filled(plain, 4 * PAGE, 4, "plain");
        check_filled(locked, PAGE, 5, "beside locked");
        CHECK(munlock(locked, 32 * PAGE) == 0, "munlock: %m");
        test_pass();
}
