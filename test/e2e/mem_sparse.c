/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=120 */
/* A large mapping of which one page in 64 was written: the rest stays absent. CKPT_TEST_SPARSE_MIB sets the
 * size (default 640: more than 1 MiB of page tables). Above and below it are some hundred areas of a page each. */
#include "e2e.h"

enum { AREAS = 300 };

static char *make_areas(uint64_t seed) {
        char *p = mmap(NULL, AREAS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(p != MAP_FAILED, "mmap: %m");
        for (size_t i = 0; i < AREAS; i++) {
                fill(p + i * PAGE, PAGE, seed + i);
                CHECK(i % 2 == 0 || mprotect(p + i * PAGE, PAGE, PROT_READ) == 0, "mprotect: %m");
        }
        return p;
}

static void check_areas(const char *p, uint64_t seed) {
        for (size_t i = 0; i < AREAS; i++)
                check_filled(p + i * PAGE, PAGE, seed + i, "page of an area of its own");
}

int main(int argc, char **argv) {
        const char *env = getenv("CKPT_TEST_SPARSE_MIB");
        size_t size = (size_t)(env ? strtoul(env, NULL, 10) : 640) << 20, n = size / PAGE;
        struct vma before, after;
        char *p, *above, *below;

        test_init(argc, argv);
        above = make_areas(1 << 30);
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(p != MAP_FAILED, "mmap: %m");
        CHECK(madvise(p, size, MADV_NOHUGEPAGE) == 0, "madvise: %m");
        for (size_t i = 0; i < n; i += 64)
                fill(p + i * PAGE, 64, i);
        below = make_areas(3 << 29);
        CHECK(find_vma(p, &before), "the mapping");
        test_ready();
        test_wait();
        /* break: p[PAGE * 64 * 5]++; */
        /* break: p[PAGE * 64 * 5 + PAGE] = 0; */
        CHECK(find_vma(p, &after), "the mapping is gone");
        CHECK(before.rss_kb == after.rss_kb, "resident: %" PRIu64 " KiB, was %" PRIu64, after.rss_kb,
              before.rss_kb);
        for (size_t i = 0; i < n; i += 64) {
                check_filled(p + i * PAGE, 64, i, "written page");
                check_zero(p + i * PAGE + 64, PAGE - 64, "rest of a written page");
                check_zero(p + (i + 1 + i / 64 % 63) * PAGE, PAGE, "page never written");
        }
        check_areas(above, 1 << 30);
        check_areas(below, 3 << 29);
        p[PAGE] = 1;
        test_pass();
}
