/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/*
 * Much memory without a gap, in areas smaller than a huge page: parted by protections, advice and names. A restore that
 * fills it by huge pages has to part those again; whatever is done to the parts later touches nothing else.
 */
#include "e2e.h"
#include "e2e_maps.h"

#define HUGE  ((size_t)2 << 20)
#define SIZE  (16 * HUGE)
#define PAGES (SIZE / PAGE)

static struct maps before;
static char *mem;

static void part_by_protection(size_t from, size_t to) {
        const int prots[] = { PROT_READ, PROT_NONE, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE };

        for (size_t i = from, n = 0; i + 3 <= to; i += 17, n++)
                CHECK(mprotect(mem + i * PAGE, 3 * PAGE, prots[n % ELEMENTS(prots)]) == 0, "mprotect: %m");
}

static void part_by_advice(size_t from, size_t to) {
        for (size_t i = from; i + 100 <= to; i += 200)
                CHECK(madvise(mem + i * PAGE, 100 * PAGE, MADV_DONTDUMP) == 0, "madvise: %m");
        CHECK(madvise(mem + (from + 7) * PAGE, HUGE, MADV_NOHUGEPAGE) == 0 || errno == EINVAL,
              "madvise: %m");
}

static void make_readable(void) {
        CHECK(mprotect(mem, SIZE, PROT_READ | PROT_WRITE) == 0, "mprotect: %m");
}

static void check_pages(size_t from, size_t to, size_t step) {
        for (size_t i = from; i < to; i += step)
                check_filled(mem + i * PAGE, PAGE, i, "page");
}

/* A copy-on-write child, holes and pages given back leave the neighbours alone. */
static void live_on(void) {
        pid_t pid = xfork();

        if (pid == 0) {
                for (size_t i = 0; i < PAGES; i += 2)
                        mem[i * PAGE] ^= 1;
                check_pages(1, PAGES, 2);
                _exit(3);
        }
        xwait(pid, 3);
        check_pages(0, PAGES, 1);
        for (size_t i = 0; i < PAGES; i += 5)
                CHECK(madvise(mem + i * PAGE, PAGE, MADV_DONTNEED) == 0, "madvise: %m");
        CHECK(munmap(mem + 6 * PAGE, PAGE) == 0, "munmap: %m");
        for (size_t i = 0; i < PAGES; i++)
                if (i % 5 == 0)
                        check_zero(mem + i * PAGE, PAGE, "a page given back");
                else if (i != 6)
                        check_filled(mem + i * PAGE, PAGE, i, "a neighbour");
}

int main(int argc, char **argv) {
        char *room;

        test_init(argc, argv);
        room = mmap(NULL, SIZE + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(room != MAP_FAILED, "mmap: %m");
        mem = (char *)(((uintptr_t)room + HUGE - 1) & ~(HUGE - 1)) +
              5 * PAGE; /* not where a huge page begins */
        make_readable();
        for (size_t i = 0; i < PAGES; i++)
                fill(mem + i * PAGE, PAGE, i);
        part_by_protection(0, PAGES / 2);
        part_by_advice(PAGES / 2, PAGES * 3 / 4);
        maps_read(&before);
        test_ready();
        test_wait();
        /* break: make_readable(); */
        /* break: make_readable(); mem[1000 * PAGE] ^= 1; part_by_protection(0, PAGES / 2); */
        /* break: madvise(mem + PAGES / 2 * PAGE, PAGE, MADV_DODUMP); */
        maps_check_same(&before);
        make_readable();
        check_pages(0, PAGES, 1);
        live_on();
        test_pass();
}
