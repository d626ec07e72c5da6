/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Private anonymous mappings: patterns, holes, PROT_NONE and read-only pages that hold data, executable code,
 * neighbours with different protections; afterwards the whole address space looks as before. */
#include "e2e.h"
#include "e2e_maps.h"

#define N 96

static struct maps before;

static char *map(size_t pages, int prot, int flags) {
        char *p = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

        CHECK(p != MAP_FAILED, "mmap: %m");
        return p;
}

static void check_holes(const char *area) {
        for (size_t i = 0; i < N; i++) {
                if (i % 3 == 0)
                        check_filled(area + i * PAGE, PAGE, i, "page with a pattern");
                else
                        check_zero(area + i * PAGE, PAGE, "page never written");
        }
}

/* In a child: what can be done to the page at p, as three letters. */
static void check_access(const char *p, bool readable, bool writable, const char *what) {
        CHECK(can_access(p, false) == readable, "%s can%s be read", what, readable ? "not" : "");
        CHECK(can_access(p, true) == writable, "%s can%s be written", what, writable ? "not" : "");
}

int main(int argc, char **argv) {
        static const unsigned char code[] = { 0xb8, 0x39, 0x30, 0, 0, 0xc3 }; /* mov $12345, %eax; ret */
        const int rw = PROT_READ | PROT_WRITE;
        char *holes, *none, *ro, *wo, *exec, *torn, *mixed, *noreserve, *zeroed;
        int (*fn)(void);

        test_init(argc, argv);
        holes = map(N, rw, 0);
        for (size_t i = 0; i < N; i += 3)
                fill(holes + i * PAGE, PAGE, i);
        none = map(8, rw, 0);
        fill(none, 8 * PAGE, 1000);
        CHECK(mprotect(none, 8 * PAGE, PROT_NONE) == 0, "mprotect: %m");
        ro = map(8, rw, 0);
        fill(ro, 8 * PAGE, 1001);
        CHECK(mprotect(ro, 8 * PAGE, PROT_READ) == 0, "mprotect: %m");
        wo = map(4, PROT_WRITE, 0);
        fill(wo, 4 * PAGE, 1002);
        exec = map(1, rw, 0);
        memcpy(exec, code, sizeof(code));
        CHECK(mprotect(exec, PAGE, PROT_READ | PROT_EXEC) == 0, "mprotect: %m");
        torn = map(9, rw, 0);
        fill(torn, 9 * PAGE, 1003);
        CHECK(munmap(torn + 4 * PAGE, PAGE) == 0, "munmap: %m");
        mixed = map(10, rw, 0);
        fill(mixed, 10 * PAGE, 1004);
        for (size_t i = 0; i < 10; i++)
                CHECK(mprotect(mixed + i * PAGE, PAGE,
                               i % 3 == 0   ? rw
                               : i % 3 == 1 ? PROT_READ
                                            : PROT_NONE) == 0,
                      "mprotect: %m");
        noreserve = map(16, rw, MAP_NORESERVE | MAP_STACK);
        fill(noreserve, 16 * PAGE, 1005);
        zeroed = map(16, rw, 0);
        memset(zeroed, 1, 16 * PAGE);
        memset(zeroed, 0, 16 * PAGE);

        maps_read(&before);
        test_ready();
        test_wait();
        /* break: mprotect(holes, PAGE, PROT_READ); */
        /* break: holes[PAGE * 4] = 1; */
        /* break: mprotect(none, PAGE, rw); none[8] = 0; mprotect(none, PAGE, PROT_NONE); */
        /* break: mmap(torn + 4 * PAGE, PAGE, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); */
        /* break: madvise(ro, PAGE, MADV_DONTNEED); */
        /* break: madvise(zeroed, PAGE, MADV_DONTDUMP); */
        maps_check_same(&before);
        check_holes(holes);
        check_access(holes, true, true, "a plain page");
        check_access(none, false, false, "PROT_NONE");
        CHECK(mprotect(none, 8 * PAGE, PROT_READ) == 0, "mprotect: %m");
        check_filled(none, 8 * PAGE, 1000, "behind PROT_NONE");
        check_access(ro, true, false, "PROT_READ");
        check_filled(ro, 8 * PAGE, 1001, "read-only");
        CHECK(mprotect(wo, 4 * PAGE, rw) == 0, "mprotect: %m");
        check_filled(wo, 4 * PAGE, 1002, "PROT_WRITE");
        memcpy(&fn, &exec, sizeof(fn));
        CHECK(fn() == 12345, "code gave %d", fn());
        check_access(exec, true, false, "code");
        check_filled(torn, 4 * PAGE, 1003, "before a hole");
        check_access(torn + 4 * PAGE, false, false, "a hole");
        for (size_t i = 0; i < 10; i++)
                check_access(mixed + i * PAGE, i % 3 != 2, i % 3 == 0, "one of a row of pages");
        CHECK(mprotect(mixed, 10 * PAGE, rw) == 0, "mprotect: %m");
        check_filled(mixed, 10 * PAGE, 1004, "a row of pages");
        check_filled(noreserve, 16 * PAGE, 1005, "MAP_NORESERVE");
        check_zero(zeroed, 16 * PAGE, "pages written with zeroes");
        memset(zeroed, 9, 16 * PAGE);
        check_fork();
        test_pass();
}
