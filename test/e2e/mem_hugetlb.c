/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper timeout=90 */
/* Memory of huge pages (2 MiB): private, also across a fork; shared with a child; memfds, mapped, or only open. Driven
 * by hugetlb.py, which reserves the pages. */
#include "e2e.h"
#include "e2e_maps.h"

#define HUGE    (2UL << 20)
#define HUGETLB (MAP_HUGETLB | 21 << 26)
#define RW      (PROT_READ | PROT_WRITE)

static struct maps before;
static struct gate ready, go, done;

static char *map(size_t pages, int prot, int flags, int fd) {
        char *p = mmap(NULL, pages * HUGE, prot, flags, fd, 0);

        CHECK(p != MAP_FAILED, "mmap: %m");
        return p;
}

int main(int argc, char **argv) {
        char *private, *shared, *of_memfd, *lazy, *read_only;
        int fd, only_open;
        pid_t kid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&done);
        private = map(4, RW, MAP_PRIVATE | MAP_ANONYMOUS | HUGETLB, -1);
        fill(private, HUGE, 1);
        fill(private + 2 * HUGE, HUGE, 2);
        read_only = map(1, RW, MAP_PRIVATE | MAP_ANONYMOUS | HUGETLB, -1);
        fill(read_only, HUGE, 9);
        CHECK(mprotect(read_only, HUGE, PROT_READ) == 0, "mprotect: %m");
        lazy = map(8, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | HUGETLB, -1);
        shared = map(3, RW, MAP_SHARED | MAP_ANONYMOUS | HUGETLB, -1);
        fill(shared + HUGE, HUGE, 3);
        fd = SYS(memfd_create("huge", MFD_ALLOW_SEALING | MFD_HUGETLB | 21U << 26));
        SYS(ftruncate(fd, 2 * HUGE));
        of_memfd = map(2, RW, MAP_SHARED, fd);
        fill(of_memfd + HUGE, HUGE, 4);
        SYS(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
        only_open = SYS(memfd_create("huge, closed", MFD_HUGETLB | 21U << 26));
        SYS(ftruncate(only_open, HUGE));
        {
                char *p = map(1, RW, MAP_SHARED, only_open);

                fill(p, HUGE, 5);
                CHECK(munmap(p, HUGE) == 0, "munmap: %m");
        }
        kid = xfork();
        if (kid == 0) {
                fill(private + 2 * HUGE, HUGE, 6); /* its own copy */
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                check_filled(private, HUGE, 1, "private, from before the fork");
                check_filled(private + 2 * HUGE, HUGE, 6, "private, the child's own");
                check_filled(shared + HUGE, HUGE, 3, "shared");
                fill(shared, HUGE, 7);
                fill(of_memfd, HUGE, 8);
                gate_open(&done, 1);
                _exit(4);
        }
        gate_pass(&ready, 1);
        maps_read(&before);
        test_ready();
        test_wait();
        maps_check_same(&before);
        check_filled(private, HUGE, 1, "private");
        check_zero(private + HUGE, HUGE, "private, untouched");
        check_filled(private + 2 * HUGE, HUGE, 2, "private, the parent's own");
        check_filled(read_only, HUGE, 9, "read-only");
        check_filled(shared + HUGE, HUGE, 3, "shared");
        check_zero(shared + 2 * HUGE, HUGE, "shared, untouched");
        check_filled(of_memfd + HUGE, HUGE, 4, "memfd");
        CHECK(fcntl(fd, F_GET_SEALS) == F_SEAL_SHRINK, "seals");
        {
                char *p = map(1, PROT_READ, MAP_SHARED, only_open);

                check_filled(p, HUGE, 5, "a memfd that was only open");
        }
        gate_open(&go, 1);
        gate_pass(&done, 1);
        xwait(kid, 4);
        check_filled(shared, HUGE, 7, "shared, written by the child");
        check_filled(of_memfd, HUGE, 8, "memfd, written by the child");
        fill(lazy, HUGE, 10);
        check_filled(lazy, HUGE, 10, "not reserved");
        test_pass();
}
