/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=120 */
/* A large mapping of which one page in 64 was written: the rest stays absent. CKPT_TEST_SPARSE_MIB sets the
 * size (default 256). */
#include "e2e.h"

int main(int argc, char **argv) {
        const char *env = getenv("CKPT_TEST_SPARSE_MIB");
        size_t size = (size_t)(env ? strtoul(env, NULL, 10) : 256) << 20, n = size / PAGE;
        struct vma before, after;
        char *p;

        test_init(argc, argv);
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(p != MAP_FAILED, "mmap: %m");
        CHECK(madvise(p, size, MADV_NOHUGEPAGE) == 0, "madvise: %m");
        for (size_t i = 0; i < n; i += 64)
                fill(p + i * PAGE, 64, i);
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
        p[PAGE] = 1;
        test_pass();
}
