/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shared anonymous memory on restore: made and filled in ckpt before there are tasks, which map it by a
 * descriptor. The descriptor comes from map_files, so that maps shows the memory as what it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "mem/hugetlb.h"
#include "mem/restore.h"
#include "restore/inherit.h"

#define WINDOW_MAX (16ULL << 30) /* bytes of a file that are mapped at once, unless one run is longer */

static struct restore_object *find_object(struct restore_object_vec *objects, uint64_t shmid) {
        for (size_t i = objects->n; i-- > 0;)
                if (objects->v[i].shmid == shmid)
                        return &objects->v[i];
        return NULL;
}

static int note_object(struct restore_object_vec *objects, const struct restore_area *area) {
        struct restore_object *o = find_object(objects, area->msg->shmid);
        uint64_t size = area->msg->pgoff + (area->end - area->start);

        if (area->msg->has_shmem_size)
                size = area->msg->shmem_size;
        if (!o) {
                o = restore_object_vec_add(objects);
                if (!o)
                        return -ENOMEM;
                o->shmid = area->msg->shmid;
        }
        o->size = MAX(o->size, size);
        o->huge |= mem_huge_flags(area->msg->flags);
        o->noreserve = o->noreserve || (area->msg->flags & MAP_NORESERVE);
        return 0;
}

/* A page that cannot be had shows as a bad address. */
static int no_memory(bool huge, int r, uint32_t pages_id, struct ckpt_error *err) {
        if (huge && r == -EFAULT) {
                ckpt_error(err, -ENOMEM, "there are not enough free huge pages for the shared memory");
                return ckpt_error_hint(err, "Reserve more (sysctl vm.nr_hugepages)");
        }
        return ckpt_error_errno(err, r, "cannot read pages-%u.img into shared memory", pages_id);
}

struct view {
        char *addr;
        uint64_t size;
};

static void view_done(struct view *v) {
        if (v->addr)
                munmap(v->addr, v->size);
}

/* Byte 0 of the object would be at address `base`. */
static int read_runs(int fd, const struct mem_run_vec *runs, uint64_t base) {
        for (size_t i = 0; i < runs->n;) {
                uint64_t offset = runs->v[i].offset;
                struct iovec iov[64];
                size_t n = 0, first = 0;

                for (; n < ELEMENTSOF(iov) && i < runs->n; n++, i++)
                        iov[n] = (struct iovec){ (void *)(uintptr_t)(base + runs->v[i].start),
                                                 runs->v[i].end - runs->v[i].start };
                while (first < n) {
                        ssize_t k = preadv(fd, iov + first, (int)(n - first), (off_t)offset);

                        if (k <= 0)
                                return k < 0 ? -errno : -EIO;
                        offset += (uint64_t)k;
                        iov_advance(iov, &first, (size_t)k);
                }
        }
        return 0;
}

/* Runs of an object of `size` bytes. */
static int load_object(struct restore *r, uint64_t shmid, uint64_t size, struct mem_run_vec *ret,
                       uint32_t *ret_pages_id, struct ckpt_error *err) {
        uint64_t pages_size;
        int rc;

        rc = mem_load_runs(r->dir, IMAGE_SHMEM_PAGEMAP, (unsigned long)shmid, ret, ret_pages_id, &pages_size,
                           err);
        if (rc == 0 && ret->n > 0 && ret->v[ret->n - 1].end > page_align_up(size))
                return ckpt_error(
                        err, -EBADMSG,
                        "pagemap-shmem-%llu.img is damaged: it has pages behind the end of the memory",
                        (unsigned long long)shmid);
        return rc;
}

static void count(struct restore *r, const struct mem_run_vec *runs) {
        uint64_t size = 0;

        for (size_t i = 0; i < runs->n; i++)
                size += runs->v[i].end - runs->v[i].start;
        r->stats.pages_restored += size / PAGE_SIZE;
        progress_add_total(&r->run->progress, size);
        progress_add(&r->run->progress, size);
}

static int fill_shared(struct restore *r, uint64_t id, uint64_t room, bool huge, char *addr,
                       struct ckpt_error *err) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec runs = { 0 };
        _cleanup_close_ int fd = -EBADF;
        uint64_t file_size;
        uint32_t pages_id;
        int ret;

        ret = load_object(r, id, room, &runs, &pages_id, err);
        if (ret < 0 || runs.n == 0)
                return ret;
        ret = image_pages_fd(r->dir, pages_id, &fd, &file_size, err);
        if (ret == 0) {
                ret = read_runs(fd, &runs, (uintptr_t)addr);
                if (ret < 0)
                        return no_memory(huge, ret, pages_id, err);
                count(r, &runs);
        }
        return ret;
}

int mem_fill_shared(struct restore *r, unsigned long id, uint64_t size, char *addr, struct ckpt_error *err) {
        return fill_shared(r, id, size, false, addr, err);
}

/* The part of the runs between `start` and `end`. */
static int cut_runs(const struct mem_run_vec *runs, uint64_t start, uint64_t end, struct mem_run_vec *ret) {
        for (size_t i = 0; i < runs->n; i++) {
                struct mem_run run = runs->v[i];
                uint64_t from = MAX(run.start, start), to = MIN(run.end, end);

                run.offset += from - run.start;
                run.start = from;
                run.end = to;
                if (from < to && mem_run_vec_push(ret, run) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int read_part(int fd, const struct mem_run_vec *runs, uint64_t start, uint64_t end, uintptr_t base) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec part = { 0 };
        int r = cut_runs(runs, start, end, &part);

        return r < 0 ? r : read_runs(fd, &part, base);
}

int mem_fill_around(struct restore *r, uint64_t shmid, uint64_t size, char *addr, uint64_t skip_start,
                    uint64_t skip_end, char *aside, struct ckpt_error *err) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec runs = { 0 };
        _cleanup_close_ int fd = -EBADF;
        uint64_t file_size;
        uint32_t pages_id;
        int rc;

        rc = load_object(r, shmid, size, &runs, &pages_id, err);
        if (rc < 0 || runs.n == 0)
                return rc;
        rc = image_pages_fd(r->dir, pages_id, &fd, &file_size, err);
        if (rc < 0)
                return rc;
        rc = read_part(fd, &runs, 0, skip_start, (uintptr_t)addr);
        if (rc == 0)
                rc = read_part(fd, &runs, skip_start, skip_end, (uintptr_t)aside - skip_start);
        if (rc == 0)
                rc = read_part(fd, &runs, skip_end, UINT64_MAX, (uintptr_t)addr);
        if (rc < 0)
                return no_memory(false, rc, pages_id, err);
        count(r, &runs);
        return 0;
}

int mem_check_object(struct restore *r, uint64_t shmid, uint64_t size, struct ckpt_error *err) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec runs = { 0 };
        uint32_t pages_id;

        return load_object(r, shmid, size, &runs, &pages_id, err);
}

/* As many runs from `first` on as fit into one mapping. Returns how many. */
static size_t choose_window(const struct mem_run_vec *runs, size_t first, uint64_t page, uint64_t *ret_start,
                            uint64_t *ret_end) {
        size_t n = 1;

        *ret_start = runs->v[first].start / page * page;
        while (first + n < runs->n && runs->v[first + n].end - *ret_start <= WINDOW_MAX)
                n++;
        *ret_end = (runs->v[first + n - 1].end + page - 1) / page * page;
        return n;
}

int mem_fill_file(struct restore *r, uint64_t shmid, uint64_t size, uint64_t page, int fd,
                  struct ckpt_error *err) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec runs = { 0 };
        _cleanup_close_ int pages = -EBADF;
        uint64_t file_size, start, end;
        uint32_t pages_id;
        int rc;

        rc = load_object(r, shmid, size, &runs, &pages_id, err);
        if (rc < 0 || runs.n == 0)
                return rc;
        rc = image_pages_fd(r->dir, pages_id, &pages, &file_size, err);
        if (rc < 0)
                return rc;
        for (size_t i = 0, n; i < runs.n; i += n) {
                _cleanup_(view_done) struct view v = { .addr = NULL };
                struct mem_run_vec part = runs;

                n = choose_window(&runs, i, page, &start, &end);
                part.v += i;
                part.n = n;
                v.size = end - start;
                v.addr = mmap(NULL, v.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                              (off_t)start);
                if (v.addr == MAP_FAILED) {
                        v.addr = NULL;
                        return ckpt_error_errno(err, -errno, "cannot map shared memory to fill it");
                }
                rc = read_runs(pages, &part, (uintptr_t)v.addr - start);
                if (rc < 0)
                        return no_memory(page > PAGE_SIZE, rc, pages_id, err);
        }
        count(r, &runs);
        return 0;
}

static int open_view(const struct view *v) {
        char path[80];
        int fd;

        snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)(uintptr_t)v->addr,
                 (unsigned long)(uintptr_t)v->addr + v->size);
        fd = open(path, O_RDWR | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int make_object(struct restore *r, struct restore_object *o, struct ckpt_error *err) {
        _cleanup_(view_done) struct view v = { .size = o->size };
        _cleanup_close_ int fd = -EBADF;
        int ret;

        v.addr = mmap(NULL, o->size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | (o->noreserve ? MAP_NORESERVE : 0) | (int)o->huge, -1, 0);
        if (v.addr == MAP_FAILED) {
                v.addr = NULL;
                return ckpt_error_errno(err, -errno, "cannot create shared memory of %llu bytes",
                                        (unsigned long long)o->size);
        }
        ret = fill_shared(r, o->shmid, o->size, o->huge, v.addr, err);
        if (ret < 0)
                return ret;
        fd = open_view(&v);
        if (fd < 0)
                return ckpt_error_errno(err, fd, "cannot get a descriptor of shared memory");
        ret = restore_inherit(r, fd, err);
        if (ret < 0)
                return ret;
        o->fd = ret;
        return 0;
}

int mem_prepare_objects(struct restore *r, struct ckpt_error *err) {
        struct restore_object_vec *objects = &restore_mem_tree_of(r)->objects;
        int ret = 0;

        for (size_t i = 0; i < r->nr_tasks; i++)
                for (size_t j = 0; r->tasks[i]->mem && j < r->tasks[i]->mem->areas.n; j++)
                        if (r->tasks[i]->mem->areas.v[j].kind == MEM_SHMEM &&
                            note_object(objects, &r->tasks[i]->mem->areas.v[j]) < 0)
                                return ckpt_error(err, -ENOMEM, "not enough memory");
        ret = hugetlb_check_pages(r, err);
        for (size_t i = 0; ret == 0 && i < objects->n; i++)
                ret = make_object(r, &objects->v[i], err);
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                for (size_t j = 0; r->tasks[i]->mem && j < r->tasks[i]->mem->areas.n; j++) {
                        struct restore_area *area = &r->tasks[i]->mem->areas.v[j];

                        if (area->kind == MEM_SHMEM)
                                area->fd = find_object(objects, area->msg->shmid)->fd;
                }
        return ret;
}
