/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Pages at the ends of the address space, the lowest that may be mapped and the highest there is, and one in the
 * middle of nowhere; private, shared and of a file. */
#include "e2e.h"
#include "e2e_maps.h"

#include <sys/personality.h>

static struct maps before;

static char *map_at(uint64_t at, size_t pages, int flags, int fd) {
        char *p = mmap((void *)(uintptr_t)at, pages * PAGE, PROT_READ | PROT_WRITE,
                       flags | MAP_FIXED_NOREPLACE, fd, 0);

        CHECK(p == (void *)(uintptr_t)at, "mmap at 0x%" PRIx64 ": %m", at);
        return p;
}

int main(int argc, char **argv) {
        char text[64], name[64], *lowest, *low, *high, *middle, *file;
        uint64_t min;
        int fd;

        test_init(argc, argv);
        if (personality(~0U) & ADDR_NO_RANDOMIZE)
                test_skip("without randomization, the stack is where the highest page should be");
        CHECK(read_file("/proc/sys/vm/mmap_min_addr", text, sizeof(text)) > 0, "read mmap_min_addr: %m");
        min = strtoull(text, NULL, 10);
        if (min < PAGE)
                min = PAGE;
        lowest = map_at(min, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        low = map_at(min < 0x10000 ? 0x10000 : 0x40000, 4, MAP_SHARED | MAP_ANONYMOUS, -1);
        high = map_at((1ULL << 47) - 2 * PAGE, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        middle = map_at(0x123456789000, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        fill(lowest, PAGE, 1);
        fd = make_file(name, "file", lowest, PAGE);
        file = map_at(0x200000000000, 1, MAP_PRIVATE, fd);
        close(fd);
        fill(low, 4 * PAGE, 2);
        fill(high, PAGE, 3);
        fill(middle, 3 * PAGE, 4);
        maps_read(&before);
        test_ready();
        test_wait();
        /* break: high[4088]++; */
        /* break: lowest[0]++; */
        /* break: munmap(high, PAGE); */
        maps_check_same(&before);
        check_filled(lowest, PAGE, 1, "the lowest page");
        check_filled(low, 4 * PAGE, 2, "low pages");
        check_filled(high, PAGE, 3, "the highest page");
        check_filled(middle, 3 * PAGE, 4, "pages in the middle");
        check_filled(file, PAGE, 1, "page of a file");
        fill(high, PAGE, 5);
        fill(lowest, PAGE, 6);
        check_filled(high, PAGE, 5, "the highest page, written again");
        test_pass();
}
