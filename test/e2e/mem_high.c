/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: */
/* Areas above 47 bits: only machines with five levels of page tables have them, and only who asks gets them. */
#include "e2e.h"

#define HIGH  ((char *)(1ULL << 52))
#define BELOW ((char *)(1ULL << 47))

static char *map(char *at, int prot, int flags, int fd) {
        char *p = mmap(at, 64 * PAGE, prot, flags, fd, 0);

        CHECK(p != MAP_FAILED, "mmap: %m");
        return p;
}

int main(int argc, char **argv) {
        const int rw = PROT_READ | PROT_WRITE;
        char *private, *shared, *file;
        struct vma v;
        int fd;

        test_init(argc, argv);
        private = map(HIGH, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        if (private < BELOW)
                test_skip("this machine has four levels of page tables");
        shared = map(HIGH + (1ULL << 40), rw, MAP_SHARED | MAP_ANONYMOUS, -1);
        fd = open("file", O_RDWR | O_CREAT, 0600);
        CHECK(fd >= 0 && ftruncate(fd, (off_t)(64 * PAGE)) == 0, "file: %m");
        file = map(HIGH + (2ULL << 40), rw, MAP_PRIVATE, fd);
        CHECK(close(fd) == 0, "close: %m");
        CHECK(shared > BELOW && file > BELOW, "%p, %p", shared, file);
        fill(private + 8 * PAGE, 16 * PAGE, 1);
        fill(shared, 8 * PAGE, 2);
        fill(file + PAGE, PAGE, 3);
        CHECK(mprotect(private + 40 * PAGE, PAGE, PROT_READ) == 0, "mprotect: %m");
        test_ready();
        test_wait();
        /* break: private[8 * PAGE]++; */
        /* break: shared[0]++; */
        /* break: file[PAGE]++; */
        check_filled(private + 8 * PAGE, 16 * PAGE, 1, "private");
        check_filled(shared, 8 * PAGE, 2, "shared");
        check_filled(file + PAGE, PAGE, 3, "of a file");
        CHECK(find_vma(private + 40 * PAGE, &v) && v.end - v.start == PAGE, "areas are others");
        private[0] = 1;
        CHECK(map(HIGH + (3ULL << 40), rw, MAP_PRIVATE | MAP_ANONYMOUS, -1) > BELOW, "no more of them");
        check_fork();
        test_pass();
}
