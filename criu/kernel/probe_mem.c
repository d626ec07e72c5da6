/* SPDX-License-Identifier: GPL-2.0-only */
/* Probes of what is asked and done about memory. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/area_flags.h"
#include "kernel/bpf.h"
#include "kernel/peek.h"
#include "kernel/probe_internal.h"
#include "kernel/uapi.h"
#include "macro.h"

#define PAGEMAP_SOFT_DIRTY (UINT64_C(1) << 55)
#define PAGEMAP_PFN_MASK   ((UINT64_C(1) << 55) - 1)

struct pages {
        uint8_t *p;
        size_t n;
};

static void pages_free(struct pages *m) {
        if (m->p)
                munmap(m->p, m->n * PAGE_SIZE);
}

#define _cleanup_pages_ __attribute__((cleanup(pages_free)))

static int pages_get(struct pages *ret, size_t n) {
        uint8_t *p = probe_pages(n);

        if (!p)
                return -ENOMEM;
        /* A fork by another thread would make pages shared, which UFFDIO_MOVE refuses. */
        (void)madvise(p, n * PAGE_SIZE, MADV_DONTFORK);
        *ret = (struct pages){ .p = p, .n = n };
        return 0;
}

static int open_pagemap(void) {
        int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

/* One scan of `m` for pages of a category. Returns the number of runs, the first in *ret. */
static int scan(const struct pages *m, uint64_t category, uint64_t flags, struct page_region *ret) {
        _cleanup_close_ int fd = open_pagemap();
        struct page_region runs[4] = { 0 };
        struct pm_scan_arg arg = {
                .size = sizeof(arg),
                .flags = flags,
                .start = (uintptr_t)m->p,
                .end = (uintptr_t)m->p + m->n * PAGE_SIZE,
                .vec = (uintptr_t)runs,
                .vec_len = ELEMENTSOF(runs),
                .category_mask = category,
                .return_mask = category,
        };
        int n;

        if (fd < 0)
                return fd;
        n = ioctl(fd, PAGEMAP_SCAN, &arg);
        if (n < 0)
                return -errno;
        *ret = runs[0];
        return n;
}

int probe_pagemap_scan(struct probe *p __attribute__((unused))) {
        _cleanup_pages_ struct pages m = { 0 };
        struct page_region run;
        int r;

        r = pages_get(&m, 2);
        if (r < 0)
                return r;
        m.p[PAGE_SIZE] = 1;
        r = scan(&m, PAGE_IS_PRESENT, 0, &run);
        if (r < 0)
                return r;
        return r == 1 && run.start == (uintptr_t)m.p + PAGE_SIZE;
}

int probe_guard_regions(struct probe *p __attribute__((unused))) {
        _cleanup_pages_ struct pages m = { 0 };
        int r = pages_get(&m, 2);

        if (r < 0)
                return r;
        return probe_result(madvise(m.p, PAGE_SIZE, MADV_GUARD_INSTALL));
}

int probe_pagemap_guard(struct probe *p) {
        _cleanup_pages_ struct pages m = { 0 };
        struct page_region run;
        int r;

        r = pages_get(&m, 2);
        if (r < 0)
                return r;
        if (madvise(m.p + PAGE_SIZE, PAGE_SIZE, MADV_GUARD_INSTALL) < 0) {
                probe_note(p, "this kernel has no guard regions");
                return 0;
        }
        r = scan(&m, PAGE_IS_GUARD, 0, &run);
        if (r < 0)
                return r;
        return r == 1 && run.start == (uintptr_t)m.p + PAGE_SIZE;
}

/* The pagemap entry of a page that was just written. */
static int fresh_entry(uint64_t *ret) {
        _cleanup_pages_ struct pages m = { 0 };
        _cleanup_close_ int fd = open_pagemap();
        int r;

        if (fd < 0)
                return fd;
        r = pages_get(&m, 1);
        if (r < 0)
                return r;
        m.p[0] = 1;
        if (pread(fd, ret, sizeof(*ret), (off_t)((uintptr_t)m.p / PAGE_SIZE * sizeof(*ret))) != sizeof(*ret))
                return -EIO;
        return 0;
}

int probe_pagemap_pfn(struct probe *p __attribute__((unused))) {
        uint64_t entry;
        int r = fresh_entry(&entry);

        if (r < 0)
                return r;
        /* Without CAP_SYS_ADMIN the kernel gives 0 since 4.2. */
        return entry & PAGEMAP_PFN_MASK ? 1 : -EPERM;
}

int probe_procmap_query(struct probe *p __attribute__((unused))) {
        struct procmap_query q = { .size = sizeof(q), .query_addr = (uintptr_t)&q };
        _cleanup_close_ int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        if (ioctl(fd, PROCMAP_QUERY, &q) < 0)
                return -errno;
        return q.vma_start <= (uintptr_t)&q && (uintptr_t)&q < q.vma_end;
}

int probe_bpf_task_vma(struct probe *p __attribute__((unused))) {
        _cleanup_(bpf_free) struct bpf *bpf = NULL;
        _cleanup_(area_flags_free) struct area_flags *flags = NULL;
        int r = bpf_new(&bpf);

        if (r == 0)
                r = area_flags_open(bpf, &flags);

        return r == 0 ? 1 : r == -ENOSYS ? 0 : r;
}

int probe_bpf_peek(struct probe *p __attribute__((unused))) {
        _cleanup_(bpf_free) struct bpf *bpf = NULL;
        _cleanup_(peek_free) struct peek *peek = NULL;
        int r = bpf_new(&bpf);

        if (r == 0)
                r = peek_open(bpf, &peek);

        return r == 0 ? 1 : r == -ENOSYS || r == -EINVAL ? 0 : r;
}

int probe_map_files(struct probe *p __attribute__((unused))) {
        uint8_t *m = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        _cleanup_pages_ struct pages owner = { .p = m == MAP_FAILED ? NULL : m, .n = 1 };
        _cleanup_close_ int fd = -EBADF;
        char path[80];
        uint8_t byte;

        if (!owner.p)
                return -ENOMEM;
        m[7] = 0x5a;
        snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)m,
                 (unsigned long)m + PAGE_SIZE);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                /* The directory itself is missing without CONFIG_CHECKPOINT_RESTORE before 4.3. */
                return errno == ENOENT ? 0 : -errno;
        if (pread(fd, &byte, 1, 7) != 1)
                return -EIO;
        return byte == 0x5a;
}

int probe_madv_collapse(struct probe *p __attribute__((unused))) {
        _cleanup_pages_ struct pages m = { 0 };
        int r = pages_get(&m, 1);

        if (r < 0)
                return r;
        /* An empty range: the kernel only says whether it knows the word (and has huge pages). */
        return probe_result(madvise(m.p, 0, MADV_COLLAPSE));
}

/* A userfaultfd with these features, or -ENOSYS if the kernel does not have them all. */
static int uffd_open(struct probe *p, uint64_t features) {
        struct uffdio_api api = { .api = UFFD_API, .features = features };
        _cleanup_close_ int fd = -EBADF;
        bool user_only = false;

        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 && errno == EPERM) {
                fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
                user_only = true;
        }
        if (fd < 0)
                return -errno;
        if (ioctl(fd, UFFDIO_API, &api) < 0)
                return errno == EINVAL ? -ENOSYS : -errno;
        if ((api.features & features) != features)
                return -ENOSYS;
        if (user_only)
                probe_note(p, "only for faults from user mode");
        return TAKE_FD(fd);
}

static int uffd_register(int fd, uint8_t *start, size_t pages, uint64_t mode) {
        struct uffdio_register reg = {
                .range = { .start = (uintptr_t)start, .len = pages * PAGE_SIZE },
                .mode = mode,
        };

        return ioctl(fd, UFFDIO_REGISTER, &reg) < 0 ? -errno : 0;
}

int probe_uffd(struct probe *p) {
        _cleanup_close_ int fd = uffd_open(p, 0);
        _cleanup_pages_ struct pages m = { 0 };
        int r;

        if (fd < 0)
                return fd;
        r = pages_get(&m, 1);
        if (r < 0)
                return r;
        r = uffd_register(fd, m.p, 1, UFFDIO_REGISTER_MODE_MISSING);
        return r < 0 ? r : 1;
}

int probe_uffd_noncoop(struct probe *p) {
        _cleanup_close_ int fd = uffd_open(p, UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                                      UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP);

        return fd < 0 ? fd : 1;
}

int probe_uffd_move(struct probe *p) {
        _cleanup_close_ int fd = uffd_open(p, UFFD_FEATURE_MOVE);
        _cleanup_pages_ struct pages from = { 0 }, to = { 0 };
        struct uffdio_move move;
        int r;

        if (fd < 0)
                return fd;
        r = pages_get(&from, 1);
        if (r >= 0)
                r = pages_get(&to, 1);
        if (r < 0)
                return r;
        from.p[3] = 0x5a;
        r = uffd_register(fd, to.p, 1, UFFDIO_REGISTER_MODE_MISSING);
        if (r < 0)
                return r;

        move = (struct uffdio_move){ .dst = (uintptr_t)to.p, .src = (uintptr_t)from.p, .len = PAGE_SIZE };
        if (ioctl(fd, UFFDIO_MOVE, &move) < 0)
                return -errno;
        return move.move == (int64_t)PAGE_SIZE && to.p[3] == 0x5a;
}

int probe_uffd_wp_async(struct probe *p) {
        _cleanup_close_ int fd = uffd_open(p, UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
        _cleanup_pages_ struct pages m = { 0 };
        struct page_region run;
        int r;

        if (fd < 0)
                return fd;
        r = pages_get(&m, 2);
        if (r < 0)
                return r;
        memset(m.p, 1, 2 * PAGE_SIZE);
        r = uffd_register(fd, m.p, 2, UFFDIO_REGISTER_MODE_WP);
        if (r < 0)
                return r;

        r = scan(&m, PAGE_IS_WRITTEN, PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC, &run);
        if (r < 0)
                return r;
        ((volatile uint8_t *)m.p)[PAGE_SIZE] = 2;
        r = scan(&m, PAGE_IS_WRITTEN, 0, &run);
        if (r < 0)
                return r;
        return r == 1 && run.start == (uintptr_t)m.p + PAGE_SIZE;
}

int probe_mem_dirty_track(struct probe *p) {
        uint64_t entry = 0;
        int r = probe_uffd_wp_async(p);

        if (r > 0) {
                probe_note(p, "by userfaultfd");
                return r;
        }
        if (fresh_entry(&entry) == 0 && (entry & PAGEMAP_SOFT_DIRTY)) {
                probe_note(p, "by soft-dirty");
                return 1;
        }
        return r;
}
