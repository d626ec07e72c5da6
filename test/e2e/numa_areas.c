/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/*
 * NUMA policies of memory areas (mbind): private ones, parts of areas, of files and shared memory, in a child that has
 * inherited them and has others; shared memory of which another process has given a part its policy; so many areas that
 * they are asked about in several goes, in a small process and in a large one.
 */
#include "e2e.h"

#include <linux/mempolicy.h>

enum { LOCAL = 4 /* MPOL_LOCAL */, MANY = 1500, LARGE = 24 << 20, SET_HOME_NODE = 450 };

static const struct policy {
        int mode;
        unsigned long nodes;
} table[] = {
        { MPOL_BIND, 1 },
        { MPOL_DEFAULT, 0 },
        { MPOL_PREFERRED | MPOL_F_STATIC_NODES, 1 },
        { MPOL_INTERLEAVE | MPOL_F_RELATIVE_NODES, 1 },
        { LOCAL, 0 },
        { MPOL_PREFERRED, 1 },
};

static char *area, *shared, *whole, *file, *many, *large;

static void give(char *p, size_t pages, const struct policy *policy) {
        SYS(syscall(SYS_mbind, p, pages * PAGE, policy->mode, policy->nodes ? &policy->nodes : NULL,
                    policy->nodes ? 65 : 0, 0));
}

static void check(const char *p, const struct policy *policy, const char *what, size_t i) {
        unsigned long nodes[16] = { 0 };
        int mode = -1;

        SYS(syscall(SYS_get_mempolicy, &mode, nodes, 1024, p, MPOL_F_ADDR));
        CHECK(mode == policy->mode && nodes[0] == policy->nodes,
              "%s, page %zu: policy %#x for nodes %#lx, not %#x for %#lx", what, i, mode, nodes[0],
              policy->mode, policy->nodes);
}

static void *map(size_t size, int flags) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);

        CHECK(p != MAP_FAILED, "mmap: %m");
        return p;
}

static void check_all(const struct policy *first, const char *who) {
        for (size_t i = 0; i < ELEMENTS(table); i++)
                check(area + i * PAGE, i == 0 ? first : &table[i], who, i);
        test_verify(area, PAGE, 1, "the first page");
        for (size_t i = 0; i < 4; i++)
                check(shared + i * PAGE, i == 1 || i == 2 ? &table[2] : &table[1], "shared memory", i);
        check(file, &table[0], "a file", 0);
        for (size_t i = 0; i < MANY; i++)
                check(many + i * PAGE, i % 2 ? &table[1] : &table[2], "many areas", i);
        check(large, &table[1], "the large area", 0);
        check(large + LARGE / 2, &table[3], "the large area", LARGE / 2 / PAGE);
}

static int kid(void *arg E2E_UNUSED) {
        give(area, 1, &table[5]);
        CHECK(munmap(whole, 4 * PAGE) == 0, "munmap: %m");
        test_child_ready();
        test_wait();
        check_all(&table[5], "the child");
        return 0;
}

int main(int argc, char **argv) {
        struct vma v;
        int fd;

        test_init(argc, argv);
        if (syscall(SYS_get_mempolicy, NULL, NULL, 0, NULL, 0) < 0)
                test_skip("this kernel knows nothing of NUMA");
        area = map(ELEMENTS(table) * PAGE, MAP_PRIVATE | MAP_ANONYMOUS);
        for (size_t i = 0; i < ELEMENTS(table); i++)
                give(area + i * PAGE, 1, &table[i]);
        test_fill(area, PAGE, 1);
        if (argc > 1 && strcmp(argv[1], "home") == 0)
                SYS(syscall(SET_HOME_NODE, area, PAGE, 0, 0));
        shared = map(4 * PAGE, MAP_SHARED | MAP_ANONYMOUS);
        whole = mremap(shared, 0, 4 * PAGE, MREMAP_MAYMOVE); /* the same memory once more */
        CHECK(whole != MAP_FAILED, "mremap: %m");
        give(shared + PAGE, 2, &table[2]);
        fd = open("file", O_RDWR | O_CREAT, 0600);
        CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0, "open: %m");
        file = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        CHECK(file != MAP_FAILED, "mmap: %m");
        give(file, 1, &table[0]);
        many = map(MANY * PAGE, MAP_PRIVATE | MAP_ANONYMOUS);
        for (size_t i = 0; i < MANY; i += 2)
                give(many + i * PAGE, 1, &table[2]);
        large = map(LARGE, MAP_PRIVATE | MAP_ANONYMOUS);
        give(large + LARGE / 2, LARGE / 2 / PAGE, &table[3]);
        test_fork(kid, NULL);
        test_wait_children_ready();
#ifdef RESIDENT
        memset(large, 1, LARGE);
#endif
        test_ready();
        test_wait();
        check_all(&table[0], "the root");
        check(whole, &table[1], "shared memory in one piece", 0);
        check(whole + PAGE, &table[2], "shared memory in one piece", 1);
        CHECK(find_vma(whole, &v) && v.end - v.start == 4 * PAGE, "its mapping is %#" PRIx64 " long",
              v.end - v.start);
        /* What is mapped now has none. */
        check(map(PAGE, MAP_PRIVATE | MAP_ANONYMOUS), &table[1], "new memory", 0);
        test_stop_children();
        test_pass();
}
