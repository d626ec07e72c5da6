/* SPDX-License-Identifier: GPL-2.0-only */
/* Page runs by PAGEMAP_SCAN and by words: each against what was done, and against the other. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "macro.h"
#include "proc/pagemap.h"

#define HUGE (2UL << 20)
/* What both ways can tell. */
#define COMMON (PAGE_RUN_WRITTEN | PAGE_RUN_FILE | PAGE_RUN_PRESENT | PAGE_RUN_SWAPPED | PAGE_RUN_PFNZERO)

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

struct fixture {
        struct proc_pagemap scan, words;
};

static int setup(void **state) {
        static struct fixture f;
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;

        if (proc_open(getpid(), &dir) < 0 || proc_pagemap_open(&dir, true, &f.scan) < 0 ||
            proc_pagemap_open(&dir, false, &f.words) < 0)
                return -1;
        *state = &f;
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;

        proc_pagemap_close(&f->scan);
        proc_pagemap_close(&f->words);
        return 0;
}

static char *map_pages(size_t n, int flags, int fd) {
        /* A hole on either side, so that neighbours do not merge with it. */
        char *p = mmap(NULL, (n + 2) * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        assert_ptr_not_equal(p, MAP_FAILED);
        assert_ptr_equal(
                mmap(p + PAGE_SIZE, n * PAGE_SIZE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0),
                p + PAGE_SIZE);
        /* A machine may be set up for larger pages of all sizes: what was not touched would be there, too. */
        (void)madvise(p + PAGE_SIZE, n * PAGE_SIZE, MADV_NOHUGEPAGE);
        return p + PAGE_SIZE;
}

static void unmap_pages(char *p, size_t n) {
        munmap(p - PAGE_SIZE, (n + 2) * PAGE_SIZE);
}

static void touch(const char *p) {
        (void)*(const volatile char *)p;
}

/* Categories by page, as a caller sees them who asks for everything. */
static void by_page(const struct proc_pagemap *pm, char *p, size_t n, uint32_t *ret) {
        _cleanup_(page_run_vec_done) struct page_run_vec runs = { 0 };
        uint64_t start = (uintptr_t)p;

        memset(ret, 0, n * sizeof(*ret));
        assert_int_equal(proc_pagemap_runs(pm, start, start + n * PAGE_SIZE,
                                           pm->categories & ~PAGE_RUN_WPALLOWED, 0, pm->categories, &runs),
                         0);
        for (size_t i = 0; i < runs.n; i++)
                for (uint64_t at = runs.v[i].start; at < runs.v[i].end; at += PAGE_SIZE) {
                        size_t page = (at - start) / PAGE_SIZE;

                        assert_true(at >= start && page < n);
                        assert_int_equal(ret[page], 0);
                        ret[page] = runs.v[i].categories;
                        assert_int_not_equal(ret[page], 0);
                }
}

static void check_runs(const struct page_run_vec *runs) {
        for (size_t i = 0; i < runs->n; i++) {
                assert_true(runs->v[i].start < runs->v[i].end);
                if (i && runs->v[i].start == runs->v[i - 1].end)
                        assert_int_not_equal(runs->v[i].categories, runs->v[i - 1].categories);
                assert_true(!i || runs->v[i].start >= runs->v[i - 1].end);
        }
}

/* Every question that both can answer gets the same answer from both. */
static void compare(const struct fixture *f, char *p, size_t n) {
        const uint32_t common =
                f->scan.categories & f->words.categories & (COMMON | PAGE_RUN_GUARD | PAGE_RUN_SOFT_DIRTY);
        uint64_t start = (uintptr_t)p, end = start + n * PAGE_SIZE;

        if (!f->scan.scan)
                return;
        for (uint32_t any = 1; any < 512; any++)
                for (uint32_t none = 0; none < 512; none += 4)
                        for (uint32_t want = 0; want < 512; want += 73) {
                                _cleanup_(page_run_vec_done) struct page_run_vec a = { 0 }, b = { 0 };

                                if ((any & ~common) || (none & ~common) || (any & none))
                                        continue;
                                assert_int_equal(proc_pagemap_runs(&f->scan, start, end, any, none,
                                                                   want & common, &a),
                                                 0);
                                assert_int_equal(proc_pagemap_runs(&f->words, start, end, any, none,
                                                                   want & common, &b),
                                                 0);
                                check_runs(&a);
                                assert_int_equal(a.n, b.n);
                                for (size_t i = 0; i < a.n; i++) {
                                        assert_int_equal(a.v[i].start, b.v[i].start);
                                        assert_int_equal(a.v[i].end, b.v[i].end);
                                        assert_int_equal(a.v[i].categories, b.v[i].categories);
                                }
                        }
}

/* `expected` by page, among `mask`, by both ways; then all other questions. */
static void expect(const struct fixture *f, char *p, size_t n, const uint32_t *expected, uint32_t mask) {
        const struct proc_pagemap *both[] = { &f->scan, &f->words };
        uint32_t *got = test_malloc(n * sizeof(*got));

        for (size_t k = 0; k < 2; k++) {
                by_page(both[k], p, n, got);
                for (size_t i = 0; i < n; i++)
                        if ((got[i] ^ expected[i]) & mask & both[k]->categories)
                                fail_msg("%s, page %zu: %x, not %x", k ? "words" : "scan", i, got[i],
                                         expected[i]);
        }
        test_free(got);
        compare(f, p, n);
}

#define P PAGE_RUN_PRESENT
#define W PAGE_RUN_WRITTEN
#define Z PAGE_RUN_PFNZERO
#define F PAGE_RUN_FILE

static void test_anonymous(void **state) {
        const struct fixture *f = *state;
        static const uint32_t expected[8] = { 0, P | W | Z, P | W | Z, P | W, P | W, 0, P | W | Z, P | W };
        _cleanup_(page_run_vec_done) struct page_run_vec runs = { 0 };
        char *p = map_pages(8, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        const struct proc_pagemap *both[] = { &f->scan, &f->words };
        uint64_t start = (uintptr_t)p;

        assert_int_equal(madvise(p, 8 * PAGE_SIZE, MADV_NOHUGEPAGE), 0);
        for (size_t i = 0; i < 8; i++) {
                if (expected[i] & Z)
                        touch(p + i * PAGE_SIZE);
                else if (expected[i])
                        p[i * PAGE_SIZE] = 1;
        }
        expect(f, p, 8, expected, COMMON);
        if (!(f->words.categories & Z))
                skip(); /* words alone need CAP_SYS_ADMIN to know the zero page */
        /* What a dump asks: zero pages are left out, neighbours merge, an earlier run is not touched. */
        for (size_t k = 0; k < 2; k++) {
                runs.n = 0;
                assert_int_equal(
                        page_run_vec_push(&runs, (struct page_run){ start, start + 3 * PAGE_SIZE, P }), 0);
                assert_int_equal(proc_pagemap_runs(both[k], start, start + 8 * PAGE_SIZE,
                                                   P | PAGE_RUN_SWAPPED, Z | F | PAGE_RUN_GUARD, P, &runs),
                                 0);
                assert_int_equal(runs.n, 3);
                assert_int_equal(runs.v[0].end, start + 3 * PAGE_SIZE);
                assert_int_equal(runs.v[1].start, start + 3 * PAGE_SIZE);
                assert_int_equal(runs.v[1].end, start + 5 * PAGE_SIZE);
                assert_int_equal(runs.v[1].categories, P);
                assert_int_equal(runs.v[2].start, start + 7 * PAGE_SIZE);
        }
        unmap_pages(p, 8);
}

static void test_file_and_shared(void **state) {
        const struct fixture *f = *state;
        static const uint32_t private_file[4] = { P | W | F, P | W, P | W | F, 0 };
        static const uint32_t shared[4] = { P | W | F, P | W | F, 0, 0 };
        int fd = memfd_create("pages", MFD_CLOEXEC);
        char *p;

        assert_int_equal(ftruncate(fd, 4 * PAGE_SIZE), 0);
        p = map_pages(4, MAP_SHARED, fd);
        memset(p, 1, 4 * PAGE_SIZE);
        unmap_pages(p, 4);
        p = map_pages(4, MAP_PRIVATE, fd);
        /* No fault-around, which would map the neighbours too. */
        assert_int_equal(madvise(p, 4 * PAGE_SIZE, MADV_RANDOM), 0);
        touch(p);
        p[PAGE_SIZE] = 2;
        touch(p + 2 * PAGE_SIZE);
        /* The fault-around of shmem ignores the advice: what else got mapped is not of interest. */
        assert_int_equal(madvise(p + 3 * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED), 0);
        expect(f, p, 4, private_file, COMMON);
        unmap_pages(p, 4);
        close(fd);
        p = map_pages(4, MAP_SHARED | MAP_ANONYMOUS, -1);
        touch(p);
        p[PAGE_SIZE] = 1;
        expect(f, p, 4, shared, COMMON);
        unmap_pages(p, 4);
}

static void test_guard(void **state) {
        const struct fixture *f = *state;
        static const uint32_t expected[4] = { PAGE_RUN_GUARD, PAGE_RUN_GUARD, P | W, 0 };
        _cleanup_(page_run_vec_done) struct page_run_vec runs = { 0 };
        char *p = map_pages(4, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        uint64_t start = (uintptr_t)p;

        p[0] = p[2 * PAGE_SIZE] = 1;
        if (!(f->scan.categories & PAGE_RUN_GUARD) || madvise(p, 2 * PAGE_SIZE, MADV_GUARD_INSTALL) < 0)
                skip();
        expect(f, p, 4, expected, COMMON | PAGE_RUN_GUARD);
        assert_int_equal(
                proc_pagemap_runs(&f->scan, start, start + 4 * PAGE_SIZE, P | PAGE_RUN_SWAPPED, 0, P, &runs),
                0);
        assert_true(runs.n == 1 && runs.v[0].start == start + 2 * PAGE_SIZE);
        unmap_pages(p, 4);
}

static void test_huge(void **state) {
        const struct fixture *f = *state;
        const size_t n = 3 * (HUGE >> PAGE_SHIFT);
        char *p = map_pages(4 * (HUGE >> PAGE_SHIFT), MAP_PRIVATE | MAP_ANONYMOUS, -1);
        char *q = (char *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
        uint32_t *expected;
        _cleanup_(page_run_vec_done) struct page_run_vec runs = { 0 };
        bool all;

        /* Words alone need CAP_SYS_ADMIN to know the zero pages. */
        if (madvise(q, 2 * HUGE, MADV_HUGEPAGE) < 0 || !f->scan.scan || !(f->words.categories & Z))
                skip();
        expected = test_calloc(n, sizeof(*expected));
        touch(q);
        q[HUGE] = 1;
        assert_int_equal(proc_pagemap_runs(&f->scan, (uintptr_t)q, (uintptr_t)q + 2 * HUGE, PAGE_RUN_HUGE, 0,
                                           PAGE_RUN_PFNZERO, &runs),
                         0);
        all = runs.n == 2 && runs.v[0].categories == PAGE_RUN_PFNZERO &&
              runs.v[0].end - runs.v[0].start == HUGE;
        print_message("huge pages: %s\n", all ? "zero page and data" : "not what was asked for; not tested");
        for (size_t i = 0; i < n; i++)
                expected[i] = i < HUGE >> PAGE_SHIFT ? P | W | Z : i < 2 * (HUGE >> PAGE_SHIFT) ? P | W : 0;
        if (all)
                expect(f, q, n, expected, COMMON);
        /* A part of a huge page is a run of its own. */
        runs.n = 0;
        assert_int_equal(proc_pagemap_runs(&f->scan, (uintptr_t)q + HUGE + PAGE_SIZE,
                                           (uintptr_t)q + HUGE + 3 * PAGE_SIZE, P, 0, P, &runs),
                         0);
        if (all)
                assert_true(runs.n == 1 && runs.v[0].end - runs.v[0].start == 2 * PAGE_SIZE);
        test_free(expected);
        unmap_pages(p, 4 * (HUGE >> PAGE_SHIFT));
}

/* Needs swap space: SWAPPED where the machine has some, PRESENT where not. */
static void test_swapped(void **state) {
        const struct fixture *f = *state;
        const size_t n = 64;
        char *p = map_pages(n, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        uint32_t got[64], expected[64];
        size_t swapped = 0;

        for (size_t i = 0; i < n; i++)
                p[i * PAGE_SIZE] = (char)(i + 1);
        madvise(p, n / 2 * PAGE_SIZE, MADV_PAGEOUT);
        by_page(&f->scan, p, n, got);
        for (size_t i = 0; i < n; i++) {
                expected[i] = (got[i] & PAGE_RUN_SWAPPED ? PAGE_RUN_SWAPPED : P) | W;
                swapped += expected[i] != (P | W);
                assert_true(i < n / 2 || expected[i] == (P | W));
        }
        print_message("%zu of %zu pages went to swap\n", swapped, n / 2);
        expect(f, p, n, expected, COMMON);
        unmap_pages(p, n);
}

/* More runs than fit into one call of the kernel, and more words than into one read. */
static void test_many(void **state) {
        const struct fixture *f = *state;
        const size_t n = 24000;
        char *p = map_pages(n, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        const struct proc_pagemap *both[] = { &f->scan, &f->words };
        uint64_t start = (uintptr_t)p;

        assert_int_equal(madvise(p, n * PAGE_SIZE, MADV_NOHUGEPAGE), 0);
        for (size_t i = 0; i < n; i += 2)
                p[i * PAGE_SIZE] = 1;
        for (size_t k = 0; k < 2; k++) {
                _cleanup_(page_run_vec_done) struct page_run_vec runs = { 0 };

                assert_int_equal(proc_pagemap_runs(both[k], start, start + n * PAGE_SIZE, P, 0, P, &runs),
                                 0);
                assert_int_equal(runs.n, n / 2);
                for (size_t i = 0; i < runs.n; i++) {
                        assert_int_equal(runs.v[i].start, start + 2 * i * PAGE_SIZE);
                        assert_int_equal(runs.v[i].end, start + (2 * i + 1) * PAGE_SIZE);
                }
        }
        /* Filled up, they are one, across the borders of calls. */
        memset(p, 1, n * PAGE_SIZE);
        for (size_t k = 0; k < 2; k++) {
                _cleanup_(page_run_vec_done) struct page_run_vec runs = { 0 };

                assert_int_equal(proc_pagemap_runs(both[k], start, start + n * PAGE_SIZE, P, 0, P, &runs),
                                 0);
                assert_int_equal(runs.n, 1);
                assert_int_equal(runs.v[0].end - runs.v[0].start, n * PAGE_SIZE);
        }
        unmap_pages(p, n);
}

/* Exactly as many runs as one call of the kernel can return, and one more or less. */
static void test_full_array(void **state) {
        const struct fixture *f = *state;
        const size_t room = (128 << 10) / 24;

        for (size_t n = room - 1; n <= room + 1; n++) {
                _cleanup_(page_run_vec_done) struct page_run_vec runs = { 0 };
                char *p = map_pages(2 * n, MAP_PRIVATE | MAP_ANONYMOUS, -1);
                uint64_t start = (uintptr_t)p;

                assert_int_equal(madvise(p, 2 * n * PAGE_SIZE, MADV_NOHUGEPAGE), 0);
                for (size_t i = 0; i < n; i++)
                        p[2 * i * PAGE_SIZE] = 1;
                assert_int_equal(
                        proc_pagemap_runs(&f->scan, start, start + 2 * n * PAGE_SIZE, P, 0, P, &runs), 0);
                assert_int_equal(runs.n, n);
                unmap_pages(p, 2 * n);
        }
}

/* The end of user memory: higher with five levels of page tables. */
static uint64_t top_of_memory(void) {
        const uint64_t high = 0xfffffffffff000, start = high - PAGE_SIZE;
        void *p = mmap((void *)start, PAGE_SIZE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

        if ((uintptr_t)p != start)
                return 0x7ffffffff000;
        munmap(p, PAGE_SIZE);
        return high;
}

/* It fails when runs were found already: they are taken back. */
static void test_fails_late(void **state) {
        const struct fixture *f = *state;
        _cleanup_(page_run_vec_done) struct page_run_vec runs = { 0 };
        const uint64_t top = top_of_memory(), start = top - (80UL << 20);
        char *p = mmap((void *)start, PAGE_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

        if ((uintptr_t)p != start)
                skip();
        *p = 1;
        assert_int_equal(page_run_vec_push(&runs, (struct page_run){ 1, 2, 3 }), 0);
        assert_int_equal(proc_pagemap_runs(&f->words, start, start + PAGE_SIZE, P, 0, P, &runs), 0);
        assert_int_equal(runs.n, 2);
        assert_int_equal(proc_pagemap_runs(&f->words, start, top + PAGE_SIZE, P, 0, P, &runs), -EFAULT);
        assert_int_equal(runs.n, 2);
        munmap(p, PAGE_SIZE);
}

static void test_refused(void **state) {
        const struct fixture *f = *state;
        const struct proc_pagemap *both[] = { &f->scan, &f->words };
        const uint64_t top = top_of_memory();
        const uint64_t outside[][2] = {
                { 0xffffffffff600000, 0xffffffffff601000 },
                { top - PAGE_SIZE, top + 2 * PAGE_SIZE },
                { top + PAGE_SIZE, top + 2 * PAGE_SIZE },
                { 0xfffffffffffff000 - PAGE_SIZE, 0xfffffffffffff000 },
                { 0xffff800000000000, 0xffff800000001000 },
        };
        struct page_run_vec none = { 0 };
        uint64_t word;

        for (size_t k = 0; k < 2; k++) {
                _cleanup_(page_run_vec_done) struct page_run_vec runs = { 0 };

                assert_int_equal(page_run_vec_push(&runs, (struct page_run){ 0 }), 0);
                assert_int_equal(proc_pagemap_runs(both[k], 1, 0x2000, P, 0, P, &runs), -EINVAL);
                assert_int_equal(proc_pagemap_runs(both[k], 0x1000, 0x2001, P, 0, P, &runs), -EINVAL);
                assert_int_equal(proc_pagemap_runs(both[k], 0x3000, 0x2000, P, 0, P, &runs), -EINVAL);
                assert_int_equal(proc_pagemap_runs(both[k], 0x1000, 0x2000, 0, 0, P, &runs), -EINVAL);
                assert_int_equal(proc_pagemap_runs(both[k], 0x1000, 0x2000, P, P, P, &runs), -EINVAL);
                assert_int_equal(proc_pagemap_runs(both[k], 0x1000, 0x2000, 1U << 30, 0, P, &runs),
                                 -EOPNOTSUPP);
                assert_int_equal(proc_pagemap_runs(both[k], 0x1000, 0x1000, P, 0, P, &runs), 0);
                for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
                        assert_int_equal(
                                proc_pagemap_runs(both[k], outside[i][0], outside[i][1], P, 0, P, &runs),
                                -EFAULT);
                assert_int_equal(runs.n, 1);
                assert_int_equal(proc_pagemap_words(both[k], 0xffffffffff600000, 1, &word), -EFAULT);
                assert_int_equal(proc_pagemap_words(both[k], 0x1001, 1, &word), -EINVAL);
                assert_int_equal(proc_pagemap_words(both[k], 0x1000, SIZE_MAX / 8, &word), -EFAULT);
                assert_int_equal(proc_pagemap_words(both[k], 0x1000, SIZE_MAX, &word), -EFAULT);
        }
        assert_int_equal(proc_pagemap_runs(&f->words, 0x1000, 0x2000, PAGE_RUN_HUGE, 0, P, &none),
                         -EOPNOTSUPP);
}

/* The words themselves, of texts no kernel here prints. */
static void test_words(void **state) {
        (void)state;
        const uint64_t zero = 0x3b34, huge = 0x177800;

        assert_int_equal(pagemap_word_categories(0, zero, huge), 0);
        assert_int_equal(pagemap_word_categories(PAGEMAP_WORD_SOFT, zero, huge), 0);
        assert_int_equal(pagemap_word_categories(PAGEMAP_WORD_FILE | zero, zero, huge), 0);
        assert_int_equal(pagemap_word_categories(PAGEMAP_WORD_PRESENT | zero, zero, huge), P | W | Z);
        assert_int_equal(pagemap_word_categories(PAGEMAP_WORD_PRESENT | zero, 0, 0), P | W);
        assert_int_equal(pagemap_word_categories(PAGEMAP_WORD_PRESENT, 0, 0), P | W);
        assert_int_equal(
                pagemap_word_categories(PAGEMAP_WORD_PRESENT | PAGEMAP_WORD_FILE | (huge + 511), zero, huge),
                P | W | Z);
        assert_int_equal(
                pagemap_word_categories(PAGEMAP_WORD_PRESENT | PAGEMAP_WORD_FILE | (huge + 512), zero, huge),
                P | W | F);
        assert_int_equal(pagemap_word_categories(PAGEMAP_WORD_PRESENT | (huge - 1), zero, huge), P | W);
        assert_int_equal(
                pagemap_word_categories(PAGEMAP_WORD_PRESENT | PAGEMAP_WORD_UFFD_WP | 5, zero, huge), P);
        assert_int_equal(
                pagemap_word_categories(PAGEMAP_WORD_SWAPPED | PAGEMAP_WORD_SOFT | zero, zero, huge),
                PAGE_RUN_SWAPPED | PAGE_RUN_SOFT_DIRTY | W);
        assert_int_equal(
                pagemap_word_categories(PAGEMAP_WORD_SWAPPED | PAGEMAP_WORD_GUARD | 0x9f, zero, huge),
                PAGE_RUN_GUARD);
        assert_int_equal(pagemap_word_pfn(PAGEMAP_WORD_SWAPPED | 7), 0);
        assert_int_equal(pagemap_word_pfn(~0ULL), PAGEMAP_WORD_PFN);
}

/* Parent and child share pages copy-on-write until one of them writes. */
static void test_shared_frames(void **state) {
        const struct fixture *f = *state;
        _cleanup_proc_pagemap_ struct proc_pagemap child = PROC_PAGEMAP_INIT;
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        char *p = map_pages(4, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        uint64_t mine[4], theirs[4];
        int status;
        pid_t pid;

        memset(p, 1, 4 * PAGE_SIZE);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                p[2 * PAGE_SIZE] = 2;
                raise(SIGSTOP);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        assert_int_equal(proc_open(pid, &dir), 0);
        assert_int_equal(proc_pagemap_open(&dir, true, &child), 0);
        assert_int_equal(proc_pagemap_words(&f->scan, (uintptr_t)p, 4, mine), 0);
        assert_int_equal(proc_pagemap_words(&child, (uintptr_t)p, 4, theirs), 0);
        for (size_t i = 0; i < 4; i++) {
                if (!pagemap_word_pfn(mine[i]))
                        break; /* no CAP_SYS_ADMIN */
                assert_int_equal(pagemap_word_pfn(mine[i]) == pagemap_word_pfn(theirs[i]), i != 2);
                assert_int_equal(!(mine[i] & PAGEMAP_WORD_EXCLUSIVE), i != 2);
        }
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        unmap_pages(p, 4);
}

/* A userfaultfd that write-protects asynchronously: what was written is told once. */
static void test_take_written(void **state) {
        const struct fixture *f = *state;
        char *p = map_pages(8, MAP_PRIVATE | MAP_ANONYMOUS, -1),
             *plain = map_pages(1, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        _cleanup_close_ int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */);
        struct uffdio_register reg = { .range = { (uintptr_t)p, 8 * PAGE_SIZE },
                                       .mode = UFFDIO_REGISTER_MODE_WP };
        struct uffdio_api api = { .api = UFFD_API, .features = 1 << 13 | 1 << 15 /* unpopulated, async */ };
        _cleanup_(page_run_vec_done) struct page_run_vec runs = { 0 };
        uint64_t start = (uintptr_t)p, end = start + 8 * PAGE_SIZE;

        assert_int_equal(proc_pagemap_take_written(&f->words, start, end, 0, &runs), -EOPNOTSUPP);
        if (!f->scan.scan || uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0)
                skip();
        assert_int_equal(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
        memset(p, 1, 3 * PAGE_SIZE);
        assert_int_equal(proc_pagemap_take_written(&f->scan, start, end, P, &runs), 0);
        assert_int_equal(runs.n, 1);
        assert_true(runs.v[0].start == start && runs.v[0].end == start + 3 * PAGE_SIZE &&
                    runs.v[0].categories == P);
        runs.n = 0;
        assert_int_equal(proc_pagemap_take_written(&f->scan, start, end, P, &runs), 0);
        assert_int_equal(runs.n, 0);
        p[PAGE_SIZE] = 2;
        touch(p + 2 * PAGE_SIZE);
        p[5 * PAGE_SIZE] = 1; /* never there before */
        compare(f, p, 8);
        assert_int_equal(proc_pagemap_take_written(&f->scan, start, end, 0, &runs), 0);
        assert_int_equal(runs.n, 2);
        assert_int_equal(runs.v[0].start, start + PAGE_SIZE);
        assert_int_equal(runs.v[0].end, start + 2 * PAGE_SIZE);
        assert_int_equal(runs.v[1].start, start + 5 * PAGE_SIZE);
        assert_int_equal(proc_pagemap_take_written(&f->scan, (uintptr_t)plain, (uintptr_t)plain + PAGE_SIZE,
                                                   0, &runs),
                         -EPERM);
        assert_int_equal(proc_pagemap_take_written(&f->scan, start + 1, end, 0, &runs), -EINVAL);
        assert_int_equal(runs.n, 2);
        unmap_pages(p, 8);
        unmap_pages(plain, 1);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_anonymous),     cmocka_unit_test(test_file_and_shared),
                cmocka_unit_test(test_guard),         cmocka_unit_test(test_huge),
                cmocka_unit_test(test_swapped),       cmocka_unit_test(test_many),
                cmocka_unit_test(test_refused),       cmocka_unit_test(test_full_array),
                cmocka_unit_test(test_fails_late),    cmocka_unit_test(test_words),
                cmocka_unit_test(test_shared_frames), cmocka_unit_test(test_take_written),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
