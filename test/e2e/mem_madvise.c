/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* What madvise left on a mapping: the flag is shown, and works (fork with DONTFORK and WIPEONFORK). */
#include "e2e.h"

static const struct {
        int advice;
        const char *flag, *name;
        bool optional; /* needs a kernel option */
} table[] = {
        { MADV_NORMAL, "  ", "NORMAL", false },         { MADV_HUGEPAGE, "hg", "HUGEPAGE", true },
        { MADV_NOHUGEPAGE, "nh", "NOHUGEPAGE", true },  { MADV_DONTFORK, "dc", "DONTFORK", false },
        { MADV_DONTDUMP, "dd", "DONTDUMP", false },     { MADV_MERGEABLE, "mg", "MERGEABLE", true },
        { MADV_WIPEONFORK, "wf", "WIPEONFORK", false }, { MADV_SEQUENTIAL, "sr", "SEQUENTIAL", false },
        { MADV_RANDOM, "rr", "RANDOM", false },
};

#define N 8

static void check_flags(size_t i, const struct vma *v) {
        for (size_t j = 1; j < ELEMENTS(table); j++)
                CHECK(vma_has_flag(v, table[j].flag) == (i == j), "the mapping with %s has the flags %s",
                      table[i].name, v->flags);
}

int main(int argc, char **argv) {
        char *p[ELEMENTS(table)], *both;
        bool skip[ELEMENTS(table)] = { false };
        struct vma v;
        pid_t kid;

        test_init(argc, argv);
#ifdef LARGE
        char *large = mmap(NULL, LARGE * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(large != MAP_FAILED, "mmap: %m");
        for (size_t i = 0; i < LARGE; i++) {
                fill(large + i * PAGE, 64, i);
                CHECK(i % 2 || mprotect(large + i * PAGE, PAGE, PROT_READ) == 0, "mprotect: %m");
        }
#endif
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                p[i] = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                CHECK(p[i] != MAP_FAILED, "mmap: %m");
                fill(p[i], 2 * PAGE, i);
                if (madvise(p[i], N * PAGE, table[i].advice) < 0) {
                        CHECK(table[i].optional && errno == EINVAL, "madvise %s: %m", table[i].name);
                        skip[i] = true;
                }
        }
        both = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(both != MAP_FAILED, "mmap: %m");
        CHECK(madvise(both, N * PAGE, MADV_DONTDUMP) == 0 && madvise(both, N * PAGE, MADV_WIPEONFORK) == 0 &&
                      madvise(both, N * PAGE, MADV_RANDOM) == 0,
              "madvise: %m");
        fill(both, PAGE, 99);
        test_ready();
        test_wait();
        /* break: madvise(p[3], N * PAGE, MADV_DOFORK); */
        /* break: madvise(p[0], N * PAGE, MADV_DONTDUMP); */
        /* break: madvise(p[6], N * PAGE, MADV_KEEPONFORK); */
        /* break: madvise(both, N * PAGE, MADV_DODUMP); */
        /* break: p[6][8]++; */
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                if (skip[i])
                        continue;
                CHECK(find_vma(p[i], &v), "the mapping with %s is gone", table[i].name);
                check_flags(i, &v);
                check_filled(p[i], 2 * PAGE, i, table[i].name);
        }
        CHECK(find_vma(both, &v) && vma_has_flag(&v, "dd") && vma_has_flag(&v, "wf") &&
                      vma_has_flag(&v, "rr"),
              "three at once: %s", v.flags);
        check_filled(both, PAGE, 99, "three at once");
        kid = xfork();
        if (kid == 0) {
                for (size_t i = 0; i < ELEMENTS(table); i++) {
                        if (skip[i])
                                continue;
                        if (table[i].advice == MADV_WIPEONFORK)
                                check_zero(p[i], 2 * PAGE, "WIPEONFORK in a child");
                        else if (table[i].advice == MADV_DONTFORK)
                                CHECK(!find_vma(p[i], &v), "DONTFORK in a child");
                        else
                                check_filled(p[i], 2 * PAGE, i, "in a child");
                }
                check_zero(both, PAGE, "WIPEONFORK in a child");
                _exit(0);
        }
        xwait(kid, 0);
        test_pass();
}
