/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/pagemap.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <linux/types.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "macro.h"

/*
 * The ioctl came with Linux 6.7, whose headers a build machine need not have. Names of our
 * own, so that they do not clash where it does.
 */
struct scan_region {
        __u64 start, end, categories;
};
struct scan_arg {
        __u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
        __u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL         _IOWR('f', 16, struct scan_arg)
#define SCAN_WP_MATCHING   (1 << 0)
#define SCAN_CHECK_WPASYNC (1 << 1)

#define BUF_SIZE  (128UL << 10)
#define REGIONS   (BUF_SIZE / sizeof(struct scan_region))
#define WORDS     (BUF_SIZE / sizeof(uint64_t))
#define HUGE_SIZE (2UL << 20)

#define CATEGORIES_67 0xffU /* what every PAGEMAP_SCAN knows: WPALLOWED to SOFT_DIRTY */
#define CATEGORIES_WORD \
        (PAGE_RUN_WRITTEN | PAGE_RUN_FILE | PAGE_RUN_PRESENT | PAGE_RUN_SWAPPED | PAGE_RUN_SOFT_DIRTY)

static int scan_once(int fd, struct scan_arg *arg) {
        int r;

        do
                r = ioctl(fd, SCAN_IOCTL, arg);
        while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : r;
}

/* Does the ioctl exist, and which categories does it take? An empty range costs nothing. */
static bool probe_scan(int fd, uint32_t *ret_categories) {
        struct scan_region region;
        struct scan_arg arg = {
                .size = sizeof(arg), .vec = (uintptr_t)&region, .vec_len = 1, .return_mask = CATEGORIES_67
        };

        if (scan_once(fd, &arg) < 0)
                return false;
        *ret_categories = CATEGORIES_67;
        arg.return_mask |= PAGE_RUN_GUARD;
        if (scan_once(fd, &arg) == 0)
                *ret_categories |= PAGE_RUN_GUARD;
        return true;
}

uint32_t pagemap_word_categories(uint64_t word, uint64_t zero_pfn, uint64_t huge_zero_pfn) {
        uint64_t pfn = pagemap_word_pfn(word);
        uint32_t categories = 0;

        if (word & PAGEMAP_WORD_GUARD)
                return PAGE_RUN_GUARD | (word & PAGEMAP_WORD_SOFT ? PAGE_RUN_SOFT_DIRTY : 0);
        if (word & PAGEMAP_WORD_PRESENT)
                categories |= PAGE_RUN_PRESENT;
        else if (word & PAGEMAP_WORD_SWAPPED)
                categories |= PAGE_RUN_SWAPPED;
        else
                return 0; /* a hole can have the soft-dirty bit of its area */
        if (!(word & PAGEMAP_WORD_UFFD_WP))
                categories |= PAGE_RUN_WRITTEN;
        if (word & PAGEMAP_WORD_FILE)
                categories |= PAGE_RUN_FILE;
        if (word & PAGEMAP_WORD_SOFT)
                categories |= PAGE_RUN_SOFT_DIRTY;
        if (pfn && (pfn == zero_pfn || (huge_zero_pfn && pfn >= huge_zero_pfn &&
                                        pfn - huge_zero_pfn < HUGE_SIZE >> PAGE_SHIFT))) {
                categories |= PAGE_RUN_PFNZERO;
                /* The kernel sets the bit for the huge zero page, but not for the small one. */
                categories &= ~(uint32_t)PAGE_RUN_FILE;
        }
        return categories;
}

static uint64_t own_pfn(int fd, const char *page) {
        uint64_t word;

        /* A volatile read, for the sake of the page fault. */
        (void)*(const volatile char *)page;
        if (pread(fd, &word, sizeof(word), (off_t)((uintptr_t)page / PAGE_SIZE * sizeof(word))) !=
            sizeof(word))
                return 0;
        return pagemap_word_pfn(word);
}

/*
 * Find the frames of the zero pages by reading memory of our own that was never written. Two
 * areas that show one and the same frame must be showing the zero page; where huge zero
 * pages are switched off, each gets a frame of its own.
 */
static void find_zero_pages(struct proc_pagemap *pm) {
        _cleanup_close_ int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        const size_t size = 3 * HUGE_SIZE;
        char *area, *first;

        if (fd < 0)
                return;
        area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (area == MAP_FAILED)
                return;
        first = (char *)(((uintptr_t)area + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
        if (madvise(first, 2 * HUGE_SIZE, MADV_HUGEPAGE) == 0) {
                uint64_t pfn = own_pfn(fd, first);

                if (pfn == own_pfn(fd, first + HUGE_SIZE) && pfn % (HUGE_SIZE >> PAGE_SHIFT) == 0 &&
                    own_pfn(fd, first + PAGE_SIZE) == pfn + 1)
                        pm->huge_zero_pfn = pfn;
        }
        munmap(area, size);
        area = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED)
                return;
        /* Where anonymous memory is huge always, 8 KiB are still too small for it. */
        if (own_pfn(fd, area) == own_pfn(fd, area + PAGE_SIZE))
                pm->zero_pfn = own_pfn(fd, area);
        munmap(area, 2 * PAGE_SIZE);
}

int proc_pagemap_open(const struct proc_dir *dir, bool allow_scan, struct proc_pagemap *ret) {
        _cleanup_proc_pagemap_ struct proc_pagemap pm = { .fd = proc_openat(dir, "pagemap", O_RDONLY) };

        if (pm.fd < 0)
                return pm.fd;
        pm.buf = malloc(BUF_SIZE);
        if (!pm.buf)
                return -ENOMEM;
        pm.scan = allow_scan && probe_scan(pm.fd, &pm.categories);
        if (!pm.scan) {
                find_zero_pages(&pm);
                pm.categories = CATEGORIES_WORD | PAGE_RUN_GUARD | (pm.zero_pfn ? PAGE_RUN_PFNZERO : 0);
        }
        *ret = pm;
        pm = PROC_PAGEMAP_INIT;
        return 0;
}

int proc_pagemap_open_words(const struct proc_dir *dir, struct proc_pagemap *ret) {
        int fd = proc_openat(dir, "pagemap", O_RDONLY);

        if (fd < 0)
                return fd;
        *ret = (struct proc_pagemap){ .fd = fd };
        return 0;
}

void proc_pagemap_close(struct proc_pagemap *pm) {
        pm->fd = safe_close(pm->fd);
        free(pm->buf);
        pm->buf = NULL;
}

/* Runs before vec->v[floor] are of an earlier call and not merged with. */
static int add_run(struct page_run_vec *vec, size_t floor, uint64_t start, uint64_t end,
                   uint32_t categories) {
        struct page_run *last = vec->n > floor ? &vec->v[vec->n - 1] : NULL;

        if (last && last->end == start && last->categories == categories) {
                last->end = end;
                return 0;
        }
        return page_run_vec_push(vec, (struct page_run){ start, end, categories });
}

struct query {
        uint64_t start, end;
        uint32_t any_of, none_of, want;
};

/* Guard pages are told apart first, as their other categories are the kernel's bookkeeping. */
static uint32_t normalize(uint64_t categories) {
        if (categories & PAGE_RUN_GUARD)
                categories &= PAGE_RUN_GUARD | PAGE_RUN_WPALLOWED | PAGE_RUN_SOFT_DIRTY;
        else if (!(categories & (PAGE_RUN_PRESENT | PAGE_RUN_SWAPPED)))
                categories = 0; /* holes of some areas are WRITTEN or WPALLOWED */
        return (uint32_t)categories;
}

static bool matches(const struct query *q, uint32_t categories) {
        return (categories & q->any_of) && !(categories & q->none_of);
}

/*
 * Run the ioctl over the whole range, and filter what it returns once more by our rules.
 *
 * walk_end cannot be relied on alone: when the kernel had to empty its inner buffer (512
 * regions) on the way and then reached the end, it is left at the place of the last emptying
 * (seen on 6.18), and going on from there would return regions twice. But room left in our
 * array always means that the end was reached.
 */
static int scan_range(const struct proc_pagemap *pm, struct scan_arg *arg, const struct query *q,
                      size_t floor, struct page_run_vec *ret) {
        const struct scan_region *region = pm->buf;
        size_t n;

        arg->size = sizeof(*arg);
        arg->vec = (uintptr_t)pm->buf;
        arg->vec_len = REGIONS;
        arg->end = q->end;
        for (arg->start = q->start; arg->start < q->end;) {
                uint64_t next;
                int r = scan_once(pm->fd, arg);

                if (r < 0)
                        return r;
                n = (size_t)r;
                if (n > REGIONS)
                        return -EIO;
                for (size_t i = 0; i < n; i++) {
                        uint32_t categories = normalize(region[i].categories);

                        if (!matches(q, categories))
                                continue;
                        r = add_run(ret, floor, region[i].start, region[i].end, categories & q->want);
                        if (r < 0)
                                return r;
                }
                if (n < REGIONS)
                        break;
                next = MAX(arg->walk_end, region[n - 1].end);
                if (next <= arg->start)
                        return -EIO;
                arg->start = next;
        }
        return 0;
}

static int runs_by_scan(const struct proc_pagemap *pm, const struct query *q, size_t floor,
                        struct page_run_vec *ret) {
        const uint32_t content = PAGE_RUN_PRESENT | PAGE_RUN_SWAPPED | PAGE_RUN_GUARD;
        /* To the kernel guard pages are SWAPPED and WRITTEN: only matches() can exclude by these. */
        uint32_t inverted = q->none_of & ~(uint32_t)(PAGE_RUN_SWAPPED | PAGE_RUN_WRITTEN);
        struct scan_arg arg = { .category_anyof_mask = q->any_of };

        if (!(q->any_of & PAGE_RUN_GUARD))
                inverted |= PAGE_RUN_GUARD;
        arg.category_inverted = arg.category_mask = inverted & pm->categories;
        arg.return_mask = (q->want | q->any_of | q->none_of | content) & pm->categories;
        return scan_range(pm, &arg, q, floor, ret);
}

int proc_pagemap_words(const struct proc_pagemap *pm, uint64_t start, size_t n, uint64_t *ret) {
        size_t done = 0, size;

        if (start & (PAGE_SIZE - 1))
                return -EINVAL;
        /* A file offset, eight bytes per page, must not become negative. */
        if (__builtin_mul_overflow(n, sizeof(*ret), &size) || n > (UINT64_MAX - start) / PAGE_SIZE)
                return -EFAULT;
        while (done < size) {
                ssize_t k = pread(pm->fd, (char *)ret + done, size - done,
                                  (off_t)(start / PAGE_SIZE * sizeof(*ret) + done));

                if (k < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (k == 0)
                        return -EFAULT;
                done += (size_t)k;
        }
        return 0;
}

static int runs_by_words(const struct proc_pagemap *pm, const struct query *q, size_t floor,
                         struct page_run_vec *ret) {
        const uint64_t *words = pm->buf;

        for (uint64_t at = q->start; at < q->end;) {
                size_t n = MIN((q->end - at) / PAGE_SIZE, (uint64_t)WORDS);
                int r = proc_pagemap_words(pm, at, n, pm->buf);

                for (size_t i = 0; r == 0 && i < n; i++, at += PAGE_SIZE) {
                        uint32_t categories =
                                pagemap_word_categories(words[i], pm->zero_pfn, pm->huge_zero_pfn);

                        if (matches(q, categories & pm->categories))
                                r = add_run(ret, floor, at, at + PAGE_SIZE,
                                            categories & pm->categories & q->want);
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool is_range(uint64_t start, uint64_t end) {
        return ((start | end) & (PAGE_SIZE - 1)) == 0 && start <= end;
}

int proc_pagemap_runs(const struct proc_pagemap *pm, uint64_t start, uint64_t end, uint32_t any_of,
                      uint32_t none_of, uint32_t want, struct page_run_vec *ret) {
        struct query q = { start, end, any_of, none_of, want };
        size_t floor = ret->n;
        int r;

        if (!is_range(start, end) || !any_of || (any_of & none_of))
                return -EINVAL;
        if (any_of & ~pm->categories)
                return -EOPNOTSUPP;
        r = pm->scan ? runs_by_scan(pm, &q, floor, ret) : runs_by_words(pm, &q, floor, ret);
        if (r < 0)
                ret->n = floor;
        return r;
}

int proc_pagemap_take_written(const struct proc_pagemap *pm, uint64_t start, uint64_t end, uint32_t want,
                              struct page_run_vec *ret) {
        struct query q = { start, end, PAGE_RUN_WRITTEN, 0, want };
        struct scan_arg arg = {
                .flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
                .category_mask = PAGE_RUN_WRITTEN | (PAGE_RUN_GUARD & pm->categories),
                .category_inverted = PAGE_RUN_GUARD & pm->categories,
                .category_anyof_mask = PAGE_RUN_PRESENT | PAGE_RUN_SWAPPED,
                .return_mask =
                        (want | PAGE_RUN_WRITTEN | PAGE_RUN_PRESENT | PAGE_RUN_SWAPPED) & pm->categories,
        };
        size_t floor = ret->n;
        int r;

        if (!is_range(start, end))
                return -EINVAL;
        if (!pm->scan)
                return -EOPNOTSUPP;
        r = scan_range(pm, &arg, &q, floor, ret);
        if (r < 0)
                ret->n = floor;
        return r;
}
