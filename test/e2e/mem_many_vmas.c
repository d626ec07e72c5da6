/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=120 */
/* 20,000 one-page mappings that cannot merge, each with a word of its own. */
#include "e2e.h"

#define N 20000

static size_t count_areas(const char *from, const char *to) {
        char line[512];
        size_t n = 0;
        FILE *f = fopen("/proc/self/maps", "re");

        CHECK(f, "open maps: %m");
        while (fgets(line, sizeof(line), f)) {
                uint64_t start = strtoull(line, NULL, 16);
                const char *perms = strchr(line, ' ');

                if (start < (uint64_t)(uintptr_t)from || start >= (uint64_t)(uintptr_t)to)
                        continue;
                CHECK(perms && perms[2] == ((start - (uint64_t)(uintptr_t)from) / PAGE % 2 ? '-' : 'w'),
                      "protection: %s", line);
                n++;
        }
        fclose(f);
        return n;
}

int main(int argc, char **argv) {
        char *p;

        test_init(argc, argv);
        p = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(p != MAP_FAILED, "mmap: %m");
        for (size_t i = 0; i < N; i++)
                memcpy(p + i * PAGE, &i, sizeof(i));
        for (size_t i = 1; i < N; i += 2)
                CHECK(mprotect(p + i * PAGE, PAGE, PROT_READ) == 0, "mprotect: %m");
        CHECK(count_areas(p, p + N * PAGE) == N, "they are not %d areas", N);
        test_ready();
        test_wait();
        /* break: p[PAGE * 10000]++; */
        /* break: mprotect(p + PAGE * 19998, PAGE, PROT_READ); */
        /* break: munmap(p + PAGE * 77, PAGE); */
        CHECK(count_areas(p, p + N * PAGE) == N, "%zu areas", count_areas(p, p + N * PAGE));
        for (size_t i = 0; i < N; i++) {
                size_t v;

                memcpy(&v, p + i * PAGE, sizeof(v));
                CHECK(v == i, "page %zu holds %zu", i, v);
        }
        CHECK(munmap(p, N * PAGE) == 0, "munmap: %m");
        test_pass();
}
