/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/*
 * Memory that grew in steps to more than the machine has, almost all of it untouched: a single mmap(2) of so much would be
 * refused (vm.overcommit_memory=0). It is one area all the same, and stays one.
 */
#include "e2e.h"

#include <sys/sysinfo.h>

#define STEP (512UL << 20)
#define FULL 3 /* steps with content: in the first, the middle, the last */

int main(int argc, char **argv) {
        struct sysinfo s;
        size_t size, at[FULL];
        char *m, *place;
        struct vma v;

        test_init(argc, argv);
        SYS(sysinfo(&s));
        size = ((s.totalram + s.totalswap) * s.mem_unit / STEP + 3) * STEP;
        m = mmap(NULL, size + 2 * STEP, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(m != MAP_FAILED, "mmap: %m");
        place = m + STEP / 2;
        SYS(munmap(m, size + 2 * STEP));
        for (size_t done = 0; done < size; done += STEP)
                if (mmap(place + done, STEP, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != place + done)
                        test_skip("this machine does not give more memory than it has");
        for (int i = 0; i < FULL; i++) {
                at[i] = i * (size - 3 * PAGE) / (FULL - 1) / PAGE * PAGE;
                fill(place + at[i], 3 * PAGE, (uint64_t)i);
        }
        test_ready();
        test_wait();
        /* break: place[at[1] + 5]++; */
        CHECK(find_vma(place, &v) && v.start <= (uintptr_t)place && v.end >= (uintptr_t)place + size,
              "not one area: %lx-%lx", (unsigned long)v.start, (unsigned long)v.end);
        for (int i = 0; i < FULL; i++)
                check_filled(place + at[i], 3 * PAGE, (uint64_t)i, "a part");
        CHECK(place[STEP + 7] == 0, "what was never touched is not zero");
        test_pass();
}
