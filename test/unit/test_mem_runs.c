/* SPDX-License-Identifier: GPL-2.0-only */
/* Runs of pages, gaps, and what is found shared copy-on-write: arithmetic, no processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "macro.h"
#include "mem/dump.h"
#include "mem/restore.h"

#define P(n) ((uint64_t)(n)*PAGE_SIZE)

#define _cleanup_runs_ _cleanup_(mem_run_vec_done)

static void assert_runs(const struct mem_run_vec *runs, const uint64_t (*want)[3], size_t n) {
        assert_int_equal(runs->n, n);
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(runs->v[i].start, P(want[i][0]));
                assert_int_equal(runs->v[i].end, P(want[i][1]));
                assert_int_equal(runs->v[i].sort, want[i][2]);
        }
}

static void test_add(void **state) {
        _cleanup_runs_ struct mem_run_vec runs = { 0 };
        const uint64_t want[][3] = { { 1, 4, 0 }, { 4, 5, 1 }, { 7, 8, 1 }, { 8, 9, 0 } };

        assert_int_equal(mem_runs_add(&runs, P(1), P(3), 0), 0);
        assert_int_equal(mem_runs_add(&runs, P(3), P(4), 0), 0);
        assert_int_equal(mem_runs_add(&runs, P(4), P(5), MEM_SORT_COW), 0);
        assert_int_equal(mem_runs_add(&runs, P(5), P(5), 0), 0);
        assert_int_equal(mem_runs_add(&runs, P(7), P(8), MEM_SORT_COW), 0);
        assert_int_equal(mem_runs_add(&runs, P(8), P(9), 0), 0);
        assert_runs(&runs, want, 4);
        assert_int_equal(mem_runs_place(&runs), P(6));
        assert_int_equal(runs.v[1].offset, P(3));
        assert_int_equal(runs.v[3].offset, P(5));

        assert_int_equal(mem_runs_find(&runs, 0), 0);
        assert_int_equal(mem_runs_find(&runs, P(4) - 1), 0);
        assert_int_equal(mem_runs_find(&runs, P(4)), 1);
        assert_int_equal(mem_runs_find(&runs, P(5)), 2);
        assert_int_equal(mem_runs_find(&runs, P(9)), 4);
        assert_true(mem_runs_touch(&runs, P(0), P(2)));
        assert_false(mem_runs_touch(&runs, P(0), P(1)));
        assert_false(mem_runs_touch(&runs, P(5), P(7)));
        assert_true(mem_runs_touch(&runs, P(5), P(7) + 1));
        assert_false(mem_runs_touch(&runs, P(9), P(99)));
        assert_int_equal(mem_runs_at_offset(&runs, 0), 0);
        assert_int_equal(mem_runs_at_offset(&runs, P(3) - 1), 0);
        assert_int_equal(mem_runs_at_offset(&runs, P(3)), 1);
        assert_int_equal(mem_runs_at_offset(&runs, P(6) - 1), 3);
}

/* Between others, in front of all, behind all; what touches is not merged. */
static void test_insert(void **state) {
        _cleanup_runs_ struct mem_run_vec runs = { 0 };
        const uint64_t want[][3] = { { 1, 2, 0 }, { 3, 4, 0 }, { 4, 6, 1 }, { 6, 7, 0 }, { 9, 10, 0 } };

        assert_int_equal(mem_runs_insert(&runs, P(3), P(4), 0), 0);
        assert_int_equal(mem_runs_insert(&runs, P(6), P(7), 0), 0);
        assert_int_equal(mem_runs_insert(&runs, P(9), P(10), 0), 0);
        assert_int_equal(mem_runs_insert(&runs, P(4), P(6), MEM_SORT_COW), 0);
        assert_int_equal(mem_runs_insert(&runs, P(1), P(2), 0), 0);
        assert_runs(&runs, want, 5);
}

static void assert_piece(const struct mem_run_vec *runs, const struct mem_piece *piece, uint64_t offset,
                         const uint64_t (*want)[2], size_t n) {
        struct iovec iov[8];
        uint64_t bytes = 0;

        assert_int_equal(piece->nr, n);
        assert_int_equal(piece->offset, P(offset));
        mem_piece_places(runs, piece, iov);
        for (size_t i = 0; i < n; i++) {
                assert_int_equal((uintptr_t)iov[i].iov_base, P(want[i][0]));
                assert_int_equal(iov[i].iov_len, P(want[i][1]));
                bytes += iov[i].iov_len;
        }
        assert_int_equal(piece->bytes, bytes);
}

/* Pieces end at the limits, and where the file goes on elsewhere. */
static void test_cut(void **state) {
        _cleanup_runs_ struct mem_run_vec runs = { 0 };
        struct mem_piece piece;
        uint64_t skip = 0;
        size_t i = 0;

        assert_int_equal(mem_runs_bytes(&runs), 0);
        assert_int_equal(mem_runs_add(&runs, P(1), P(4), 0), 0);
        assert_int_equal(mem_runs_add(&runs, P(10), P(20), 0), 0);
        assert_int_equal(mem_runs_add(&runs, P(30), P(31), 0), 0);
        assert_int_equal(mem_runs_add(&runs, P(40), P(41), 0), 0);
        assert_int_equal(mem_runs_add(&runs, P(50), P(52), 0), 0);
        assert_int_equal(mem_runs_place(&runs), P(17));
        assert_int_equal(mem_runs_bytes(&runs), P(17));
        runs.v[4].offset += P(100);

        piece = mem_runs_cut(&runs, &i, &skip, 3, P(5)); /* bytes */
        assert_piece(&runs, &piece, 0, (const uint64_t[][2]){ { 1, 3 }, { 10, 2 } }, 2);
        assert_int_equal(i, 1);
        assert_int_equal(skip, P(2));
        piece = mem_runs_cut(&runs, &i, &skip, 3, P(5)); /* in the midst of a run */
        assert_piece(&runs, &piece, 5, (const uint64_t[][2]){ { 12, 5 } }, 1);
        piece = mem_runs_cut(&runs, &i, &skip, 2, P(5)); /* runs */
        assert_piece(&runs, &piece, 10, (const uint64_t[][2]){ { 17, 3 }, { 30, 1 } }, 2);
        assert_int_equal(i, 3);
        assert_int_equal(skip, 0);
        piece = mem_runs_cut(&runs, &i, &skip, 3, P(5)); /* the file */
        assert_piece(&runs, &piece, 14, (const uint64_t[][2]){ { 40, 1 } }, 1);
        piece = mem_runs_cut(&runs, &i, &skip, 3, P(2)); /* exactly as much as there is */
        assert_piece(&runs, &piece, 115, (const uint64_t[][2]){ { 50, 2 } }, 1);
        assert_int_equal(i, runs.n);
        assert_int_equal(skip, 0);
}

static void test_gaps(void **state) {
        _cleanup_runs_ struct mem_run_vec runs = { 0 }, all = { 0 }, cow = { 0 }, whole = { 0 };
        const uint64_t want_all[][3] = { { 0, 2, 0 }, { 6, 8, 0 }, { 9, 12, 0 } };
        const uint64_t want_cow[][3] = { { 3, 4, 0 }, { 6, 10, 0 } };
        const uint64_t want_whole[][3] = { { 20, 30, 0 } };

        mem_runs_add(&runs, P(2), P(4), 0);
        mem_runs_add(&runs, P(4), P(6), MEM_SORT_COW);
        mem_runs_add(&runs, P(8), P(9), 0);
        assert_int_equal(mem_runs_gaps(&runs, false, P(0), P(12), &all), 0);
        assert_runs(&all, want_all, 3);
        assert_int_equal(mem_runs_gaps(&runs, true, P(3), P(10), &cow), 0);
        assert_runs(&cow, want_cow, 2);
        assert_int_equal(mem_runs_gaps(&runs, false, P(20), P(30), &whole), 0);
        assert_runs(&whole, want_whole, 1);
        assert_int_equal(mem_runs_gaps(&runs, true, P(4), P(6), &whole), 0);
        assert_int_equal(whole.n, 1);
}

static void test_split_cow(void **state) {
        const uint64_t here = PAGEMAP_WORD_PRESENT;
        const uint64_t child[] = { here | 1,
                                   here | 2,
                                   here | 3,
                                   here,
                                   PAGEMAP_WORD_SWAPPED | 5,
                                   here | PAGEMAP_WORD_FILE | 6,
                                   here | PAGEMAP_WORD_EXCLUSIVE | 7,
                                   here | 8 };
        const uint64_t parent[] = {
                here | 1, here | 2, here | 9, here, PAGEMAP_WORD_SWAPPED | 5, here | PAGEMAP_WORD_FILE | 6,
                here | 7, 8
        };
        const uint64_t want[][3] = { { 10, 12, 3 }, { 12, 14, 2 }, { 14, 15, 0 },
                                     { 15, 16, 2 }, { 16, 17, 1 }, { 17, 18, 2 } };
        _cleanup_runs_ struct mem_run_vec runs = { 0 };

        assert_int_equal(mem_split_cow(P(10), child, parent, ELEMENTSOF(child), &runs), 0);
        assert_runs(&runs, want, 6);
}

static void take(struct mem_run_vec *taken, uint64_t start, uint64_t end) {
        assert_int_equal(mem_run_vec_push(taken, (struct mem_run){ .start = start, .end = end }), 0);
}

static void test_find_gap(void **state) {
        _cleanup_runs_ struct mem_run_vec taken = { 0 };
        const uint64_t huge = 2 << 20;
        uint64_t at = 1;

        assert_int_equal(mem_find_gap(&taken, huge, huge, &at), 0);
        assert_int_equal(at % huge, 0);
        /* In any order, overlapping. */
        take(&taken, 0x700000000000, 0x7fffffffffff);
        take(&taken, 0, 0x400000000000);
        take(&taken, 0x300000000000, 0x500000000000);
        take(&taken, 0x5fff00000000, 0x600000000000);
        assert_int_equal(mem_find_gap(&taken, huge, PAGE_SIZE, &at), 0);
        assert_true(at > 0x600000000000 && at + huge < 0x700000000000);
        take(&taken, 0x600000000000, 0x700000000000);
        assert_int_equal(mem_find_gap(&taken, huge, PAGE_SIZE, &at), 0);
        assert_true(at >= 0x500000000000 && at + huge <= 0x5fff00000000);
        assert_int_equal(mem_find_gap(&taken, 0x0fff00000000, PAGE_SIZE, &at), -ENOSPC);
        assert_int_equal(mem_find_gap(&taken, 0x100000000000, PAGE_SIZE, &at), -ENOSPC);
        take(&taken, 0x500000000000, 0x600000000000);
        assert_int_equal(mem_find_gap(&taken, PAGE_SIZE, PAGE_SIZE, &at), -ENOSPC);
}

static void test_same_area(void **state) {
        Img__Vma a = IMG__VMA__INIT, b;

        a.start = P(100);
        a.end = P(200);
        a.prot = PROT_READ;
        a.flags = MAP_PRIVATE;
        a.status = VMA_REGULAR | VMA_FILE_PRIVATE;
        a.fd = 7;
        a.shmid = 7;
        a.pgoff = P(3);
        b = a;
        assert_true(mem_same_area(&a, &b));
        b.start = P(110);
        assert_false(mem_same_area(&a, &b));
        b.pgoff = P(13);
        assert_true(mem_same_area(&a, &b));
        b.end = P(150);
        b.flags |= MAP_LOCKED;
        b.madv = 1ULL << MADV_DONTFORK;
        assert_true(mem_same_area(&a, &b));
        b.madv = 1ULL << MADV_HUGEPAGE;
        assert_false(mem_same_area(&a, &b));
        b.madv = 0;
        b.prot |= PROT_WRITE;
        assert_false(mem_same_area(&a, &b));
        b.prot = a.prot;
        b.anon_name = (char *)"x";
        assert_false(mem_same_area(&a, &b));
        a.anon_name = (char *)"x";
        assert_true(mem_same_area(&a, &b));
        b.fd = b.shmid = 8;
        assert_false(mem_same_area(&a, &b));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_add),       cmocka_unit_test(test_insert),
                cmocka_unit_test(test_cut),       cmocka_unit_test(test_gaps),
                cmocka_unit_test(test_split_cow), cmocka_unit_test(test_find_gap),
                cmocka_unit_test(test_same_area),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
