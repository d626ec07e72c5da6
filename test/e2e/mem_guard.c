/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Guard ranges (MADV_GUARD_INSTALL, Linux 6.13): an access still faults, and they can be removed. */
#include "e2e.h"

#define GUARD_INSTALL 102
#define GUARD_REMOVE  103

int main(int argc, char **argv) {
        char *p;

        test_init(argc, argv);
        p = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(p != MAP_FAILED, "mmap: %m");
        fill(p, 32 * PAGE, 1);
        if (madvise(p + 4 * PAGE, 2 * PAGE, GUARD_INSTALL) < 0)
                test_skip("this kernel has no guard ranges");
        CHECK(madvise(p + 31 * PAGE, PAGE, GUARD_INSTALL) == 0, "madvise: %m");
        test_ready();
        test_wait();
        /* break: madvise(p + 4 * PAGE, PAGE, GUARD_REMOVE); */
        /* break: madvise(p + 3 * PAGE, PAGE, GUARD_INSTALL); */
        /* break: p[0]++; */
        for (size_t i = 0; i < 32; i++) {
                bool guarded = i == 4 || i == 5 || i == 31;

                CHECK(can_access(p + i * PAGE, true) == !guarded, "page %zu is%s guarded", i,
                      guarded ? " not" : "");
        }
        check_filled(p, 4 * PAGE, 1, "below the guard");
        CHECK(madvise(p, 32 * PAGE, GUARD_REMOVE) == 0, "madvise: %m");
        check_zero(p + 4 * PAGE, 2 * PAGE, "behind the guard");
        test_pass();
}
