/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * /proc/PID/pagemap: which pages of a process exist, and of what kind.
 *
 * Kernels from 6.7 on answer by ioctl(PAGEMAP_SCAN), which skips holes a page table at a
 * time and returns runs; before, the file is read, one 64-bit word per page. Both come out
 * of proc_pagemap_runs() as the same runs with the same meaning; what an older kernel cannot
 * tell is missing from proc_pagemap.categories.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "proc/proc.h"

/* Categories of a page. The values are those of PAGE_IS_* of linux/fs.h (6.7+). */
enum {
        PAGE_RUN_WPALLOWED = 1 << 0,  /* the area has asynchronous userfaultfd write-protection */
        PAGE_RUN_WRITTEN = 1 << 1,    /* written since a userfaultfd protected it, or never protected */
        PAGE_RUN_FILE = 1 << 2,       /* of a file or of shared memory; without it: private (anonymous) */
        PAGE_RUN_PRESENT = 1 << 3,    /* in the page table */
        PAGE_RUN_SWAPPED = 1 << 4,    /* swapped out, or being migrated */
        PAGE_RUN_PFNZERO = 1 << 5,    /* the (huge) zero page: read, never written, costs nothing */
        PAGE_RUN_HUGE = 1 << 6,       /* mapped by a huge entry: THP or hugetlb */
        PAGE_RUN_SOFT_DIRTY = 1 << 7, /* written since the last clear_refs */
        PAGE_RUN_GUARD = 1 << 8,      /* MADV_GUARD_INSTALL: any access faults; told since 6.15 */
};

/* [start, end), page aligned, all of whose pages have the same categories. */
struct page_run {
        uint64_t start, end;
        uint32_t categories;
};

DEFINE_VEC(page_run_vec, struct page_run);

struct proc_pagemap {
        int fd;
        bool scan;                        /* PAGEMAP_SCAN works */
        uint32_t categories;              /* what this kernel, with our capabilities, can tell: PAGE_RUN_* */
        uint64_t zero_pfn, huge_zero_pfn; /* without PAGEMAP_SCAN; 0: not known */
        void *buf;
};

#define PROC_PAGEMAP_INIT ((struct proc_pagemap){ .fd = -EBADF })

/*
 * Open pagemap of a process. It shows the address space of this moment, also after an
 * execve(2). `allow_scan` false keeps to the words of the file (for tests of that path).
 * Without CAP_SYS_ADMIN and without PAGEMAP_SCAN, PFNZERO cannot be told. Close with
 * proc_pagemap_close() or _cleanup_proc_pagemap_. One thread at a time. -ESRCH also for a
 * zombie, whose memory is gone.
 */
int proc_pagemap_open(const struct proc_dir *dir, bool allow_scan, struct proc_pagemap *ret);

/* The same for proc_pagemap_words() alone, without asking what the kernel can tell and without memory for it. */
int proc_pagemap_open_words(const struct proc_dir *dir, struct proc_pagemap *ret);

void proc_pagemap_close(struct proc_pagemap *pm);
#define _cleanup_proc_pagemap_ _cleanup_(proc_pagemap_close)

/*
 * Append to ret the runs of [start, end) whose pages have at least one category of `any_of`
 * and none of `none_of`, ascending, merged where they touch and do not differ in `want`
 * (the categories of a run are all those of `want` that its pages have; 0 merges all that match).
 *
 *  - Holes, that is pages without any content (not even the zero page), have no categories
 *    and are never returned. The range need not be mapped.
 *  - A guard page is GUARD, and neither SWAPPED nor WRITTEN, although the kernel calls it
 *    both. Kernels 6.13 and 6.14 cannot tell it from SWAPPED.
 *  - A page that a userfaultfd write-protects and that was never touched is SWAPPED; its
 *    content is zeros.
 *  - A category that is not in pm->categories is on no page. `any_of` must not name one.
 *
 * What to save of a private file area: any_of = PRESENT | SWAPPED, none_of = PFNZERO | FILE |
 * GUARD; of an anonymous one the same without FILE, as the kernel must look at each page's
 * descriptor for it: 1 GiB takes 10 ms with FILE and 3 ms without (Linux 6.18).
 *
 * -EINVAL: not page aligned, start > end, any_of empty, or any_of and none_of overlap;
 * -EFAULT: beyond the address space (also the vsyscall page); -EOPNOTSUPP: see any_of;
 * -ENOMEM. On failure ret is what it was.
 */
int proc_pagemap_runs(const struct proc_pagemap *pm, uint64_t start, uint64_t end, uint32_t any_of,
                      uint32_t none_of, uint32_t want, struct page_run_vec *ret);

/*
 * Append the runs of [start, end) that were written since they were last write-protected,
 * and protect them again, in one step for each page, so that no write is missed. The areas
 * must be registered for asynchronous write-protection with a userfaultfd that is open
 * somewhere: -EPERM otherwise. Categories of the runs are those of `want`. Pages without
 * content are not returned, even if they had some before and it was thrown away.
 * -EOPNOTSUPP without PAGEMAP_SCAN. When it fails, some pages may be protected again that
 * were not reported: the caller must then treat all as written.
 */
int proc_pagemap_take_written(const struct proc_pagemap *pm, uint64_t start, uint64_t end, uint32_t want,
                              struct page_run_vec *ret);

/* The words of the pagemap file. */
#define PAGEMAP_WORD_PRESENT   (1ULL << 63)
#define PAGEMAP_WORD_SWAPPED   (1ULL << 62)
#define PAGEMAP_WORD_FILE      (1ULL << 61)
#define PAGEMAP_WORD_GUARD     (1ULL << 58) /* 6.15+ */
#define PAGEMAP_WORD_UFFD_WP   (1ULL << 57)
#define PAGEMAP_WORD_EXCLUSIVE (1ULL << 56) /* mapped by one process only */
#define PAGEMAP_WORD_SOFT      (1ULL << 55)
#define PAGEMAP_WORD_PFN       ((1ULL << 55) - 1)

/* The page frame number of a word, or 0: not present, or hidden (needs CAP_SYS_ADMIN). */
static inline uint64_t pagemap_word_pfn(uint64_t word) {
        return word & PAGEMAP_WORD_PRESENT ? word & PAGEMAP_WORD_PFN : 0;
}

/*
 * Read the words of `n` pages from `start` on into ret[0..n). Two processes share a page
 * copy-on-write where the frame numbers at the same address are equal and the page is not a
 * FILE page. ret may be partly written on failure. -EINVAL: start is not page aligned;
 * -EFAULT: beyond the address space.
 */
int proc_pagemap_words(const struct proc_pagemap *pm, uint64_t start, size_t n, uint64_t *ret);

/*
 * What a word says, as PAGE_RUN_*: the pure half of the fallback. `zero_pfn` and
 * `huge_zero_pfn` (0: not known) are the frames of the zero pages.
 */
uint32_t pagemap_word_categories(uint64_t word, uint64_t zero_pfn, uint64_t huge_zero_pfn);
