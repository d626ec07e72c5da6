/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory of hugetlbfs: MAP_HUGETLB, private and shared, and memfds with MFD_HUGETLB. Its pages are saved like others;
 * here stands how it is told apart, and whether this machine has such pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "mem/hugetlb.h"

static const char anonymous[] = "/anon_hugepage";

static bool has_prefix(const char *name, const char *prefix) {
        return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* ---- dump ---- */

bool hugetlb_is_anonymous(const struct proc_smap *smap) {
        return smap->flags & PROC_VMF_HT && has_prefix(smap->vma.name, anonymous);
}

uint32_t hugetlb_flags(const struct proc_smap *smap) {
        uint32_t shift = 63 - (uint32_t)__builtin_clzll(smap->page_size | 1);

        return (uint32_t)MAP_HUGETLB | shift << MAP_HUGE_SHIFT;
}

bool hugetlb_is_kernels(const struct proc_smap *smap, dev_t dev) {
        uint32_t flags = hugetlb_flags(smap) & ~(uint32_t)MAP_HUGETLB;
        _cleanup_close_ int fd = memfd_create("ckpt", MFD_CLOEXEC | MFD_HUGETLB | flags);
        struct stat st;

        return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == dev;
}

/* ---- restore ---- */

static int read_number(uint64_t page, const char *name, uint64_t *ret) {
        char path[96], buf[32] = "";
        _cleanup_close_ int fd = -EBADF;

        snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%llukB/%s",
                 (unsigned long long)page >> 10, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (read_full(fd, buf, sizeof(buf) - 1) <= 0)
                return -EIO;
        *ret = strtoull(buf, NULL, 10);
        return 0;
}

/* Pages that can be had: free ones that nobody has a claim on, and what may be made on top of the pool. */
static int read_available(uint64_t page, uint64_t *ret) {
        uint64_t free_pages, reserved, extra, surplus;
        int r;

        r = read_number(page, "free_hugepages", &free_pages);
        if (r == 0)
                r = read_number(page, "resv_hugepages", &reserved);
        if (r == 0)
                r = read_number(page, "nr_overcommit_hugepages", &extra);
        if (r == 0)
                r = read_number(page, "surplus_hugepages", &surplus);
        if (r < 0)
                return r;
        *ret = (free_pages > reserved ? free_pages - reserved : 0) + (extra > surplus ? extra - surplus : 0);
        return 0;
}

int hugetlb_check_area(const struct restore_task *t, const Img__Vma *v, struct ckpt_error *err) {
        uint64_t page = mem_huge_page(v->flags), available;

        if (mem_huge_flags(v->flags) == 0)
                return v->flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK ? -EBADMSG : 0;
        if (page <= PAGE_SIZE || v->start % page != 0 || v->end % page != 0 || !(v->flags & MAP_ANONYMOUS) ||
            v->flags & MAP_GROWSDOWN || v->pgoff % page != 0 ||
            (v->has_shmem_size && v->shmem_size % page != 0))
                return -EBADMSG;
        if (read_available(page, &available) < 0)
                return ckpt_error(
                        err, -ENOTSUP,
                        "pid %d has huge pages of %llu KiB, which this kernel does not have; nothing was "
                        "created",
                        t->pid, (unsigned long long)page >> 10);
        return 0;
}

/* Bytes of private content in areas with pages of this size; what is shared copy-on-write counts once. */
static uint64_t private_content(const struct restore_task *t, uint64_t page) {
        uint64_t sum = 0;

        for (size_t i = 0; i < t->mem->areas.n; i++) {
                const struct restore_area *area = &t->mem->areas.v[i];
                const struct mem_run_vec *runs = &t->mem->runs;

                if (area->kind != MEM_ANON || mem_huge_flags(area->msg->flags) == 0 ||
                    mem_huge_page(area->msg->flags) != page)
                        continue;
                for (size_t k = mem_runs_find(runs, area->start);
                     k < runs->n && runs->v[k].start < area->end; k++)
                        if (!(runs->v[k].sort & MEM_SORT_COW))
                                sum += MIN(runs->v[k].end, area->end) - MAX(runs->v[k].start, area->start);
        }
        return sum;
}

static uint64_t all_content(const struct restore *r, uint64_t page) {
        const struct restore_object_vec *objects = &restore_mem_tree_of((struct restore *)r)->objects;
        uint64_t sum = 0;

        for (size_t i = 0; i < r->nr_tasks; i++)
                if (r->tasks[i]->mem)
                        sum += private_content(r->tasks[i], page);
        for (size_t i = 0; i < objects->n; i++)
                if (objects->v[i].huge && mem_huge_page(objects->v[i].huge) == page &&
                    !objects->v[i].noreserve)
                        sum += objects->v[i].size;
        return sum;
}

static int check_size(const struct restore *r, uint64_t page, struct ckpt_error *err) {
        uint64_t want = all_content(r, page) / page, available = 0;

        if (read_available(page, &available) == 0 && available >= want)
                return 0;
        ckpt_error(err, -ENOMEM,
                   "the tree needs %llu huge pages of %llu KiB, and %llu are free; nothing was created",
                   (unsigned long long)want, (unsigned long long)page >> 10, (unsigned long long)available);
        return ckpt_error_hint(err, "Reserve more: /sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages",
                               (unsigned long long)page >> 10);
}

int hugetlb_check_pages(const struct restore *r, struct ckpt_error *err) {
        uint64_t checked = 0; /* bits: sizes are powers of two */
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++) {
                const struct restore_mem *mem = r->tasks[i]->mem;

                for (size_t j = 0; ret == 0 && mem && j < mem->areas.n; j++) {
                        uint32_t flags = mem->areas.v[j].msg->flags;
                        uint64_t page = mem_huge_flags(flags) ? mem_huge_page(flags) : 0;

                        if (page == 0 || checked & page)
                                continue;
                        checked |= page;
                        ret = check_size(r, page, err);
                }
        }
        return ret;
}
