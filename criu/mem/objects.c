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
#include "macro.h"
#include "mem/restore.h"
#include "restore/inherit.h"

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
        o->noreserve = o->noreserve || (area->msg->flags & MAP_NORESERVE);
        return 0;
}

struct view {
        char *addr;
        uint64_t size;
};

static void view_done(struct view *v) {
        if (v->addr)
                munmap(v->addr, v->size);
}

static int read_runs(int fd, const struct mem_run_vec *runs, char *to) {
        for (size_t i = 0; i < runs->n;) {
                uint64_t offset = runs->v[i].offset;
                struct iovec iov[64];
                size_t n = 0, first = 0;

                for (; n < ELEMENTSOF(iov) && i < runs->n; n++, i++)
                        iov[n] = (struct iovec){ to + runs->v[i].start, runs->v[i].end - runs->v[i].start };
                while (first < n) {
                        ssize_t k = preadv(fd, iov + first, (int)(n - first), (off_t)offset);

                        if (k <= 0)
                                return k < 0 ? -errno : -EIO;
                        offset += (uint64_t)k;
                        for (; first < n && (size_t)k >= iov[first].iov_len; first++)
                                k -= (ssize_t)iov[first].iov_len;
                        if (first < n) {
                                iov[first].iov_base = (char *)iov[first].iov_base + k;
                                iov[first].iov_len -= (size_t)k;
                        }
                }
        }
        return 0;
}

static int fill_object(struct restore *r, const struct restore_object *o, char *addr,
                       struct ckpt_error *err) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec runs = { 0 };
        _cleanup_close_ int fd = -EBADF;
        uint64_t size, file_size;
        uint32_t pages_id;
        int ret;

        ret = mem_load_runs(r->dir, IMAGE_SHMEM_PAGEMAP, (unsigned long)o->shmid, &runs, &pages_id, &size,
                            err);
        if (ret < 0 || runs.n == 0)
                return ret;
        if (runs.v[runs.n - 1].end > o->size)
                return ckpt_error(
                        err, -EBADMSG,
                        "pagemap-shmem-%llu.img is damaged: it has pages behind the end of the memory",
                        (unsigned long long)o->shmid);
        ret = image_pages_fd(r->dir, pages_id, &fd, &file_size, err);
        if (ret == 0) {
                ret = read_runs(fd, &runs, addr);
                if (ret < 0)
                        return ckpt_error_errno(err, ret, "cannot read pages-%u.img into shared memory",
                                                pages_id);
                r->stats.pages_restored += size / PAGE_SIZE;
                progress_add_total(&r->run->progress, size);
                progress_add(&r->run->progress, size);
        }
        return ret;
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
                      MAP_SHARED | MAP_ANONYMOUS | (o->noreserve ? MAP_NORESERVE : 0), -1, 0);
        if (v.addr == MAP_FAILED) {
                v.addr = NULL;
                return ckpt_error_errno(err, -errno, "cannot create shared memory of %llu bytes",
                                        (unsigned long long)o->size);
        }
        ret = fill_object(r, o, v.addr, err);
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
