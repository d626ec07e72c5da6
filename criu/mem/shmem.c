/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shared anonymous memory on dump: one object, however many tasks map it, known by the device and inode
 * that maps shows. Its content is read as that of the file it is to the kernel, so pages that are
 * swapped out or in nobody's page tables are found as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "mem/dump.h"

static int object_of(struct dump_task *t, const struct proc_vma *vma, uint32_t *ret_id, uint64_t *ret_size,
                     struct ckpt_error *err) {
        struct mem_object_vec *objects = &mem_tree_of(t->dump)->objects;
        struct mem_object *o;
        struct stat st;

        for (size_t i = objects->n; i-- > 0;) {
                o = &objects->v[i];
                if (o->ino == vma->ino && o->dev_major == vma->dev_major && o->dev_minor == vma->dev_minor) {
                        *ret_id = o->id;
                        *ret_size = o->size;
                        return 0;
                }
        }
        o = mem_object_vec_add(objects);
        if (!o)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        *o = (struct mem_object){ .dev_major = vma->dev_major,
                                  .dev_minor = vma->dev_minor,
                                  .ino = vma->ino,
                                  .id = (uint32_t)objects->n,
                                  .owner = t };
        mem_map_files_link(vma, o->link);
        if (fstatat(t->proc.fd, o->link, &st, 0) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot look at the shared memory mapped at %#llx",
                                        dump_task_name(t), (unsigned long long)vma->start);
        o->size = page_align_up((uint64_t)st.st_size);
        *ret_id = o->id;
        *ret_size = o->size;
        return 0;
}

int mem_object_of(struct dump_task *t, const struct proc_vma *vma, uint32_t *ret_id, uint64_t *ret_size,
                  struct ckpt_error *err) {
        struct mem_tree *tree = mem_tree_of(t->dump);
        int r;

        pthread_mutex_lock(&tree->lock);
        r = object_of(t, vma, ret_id, ret_size, err);
        pthread_mutex_unlock(&tree->lock);
        return r;
}

/* The allocated parts of a file; lseek(2) rounds to pages on tmpfs. */
static int data_runs(int fd, uint64_t size, struct mem_run_vec *ret) {
        off_t at = 0;
        int r = 0;

        while (r == 0 && (uint64_t)at < size) {
                off_t data = lseek(fd, at, SEEK_DATA), hole;

                if (data < 0)
                        return errno == ENXIO ? 0 : -errno;
                hole = lseek(fd, data, SEEK_HOLE);
                if (hole < 0)
                        return -errno;
                if (hole <= data)
                        return -EIO;
                data &= ~(off_t)(PAGE_SIZE - 1);
                at = (off_t)MIN(page_align_up((uint64_t)hole), size);
                r = mem_runs_add(ret, (uint64_t)data, (uint64_t)at, 0);
        }
        return r;
}

static int save_object(struct dump *d, const struct mem_object *o, struct ckpt_error *err) {
        _cleanup_close_ int fd = proc_openat(&o->owner->proc, o->link, O_RDONLY);
        _cleanup_(mem_run_vec_done) struct mem_run_vec runs = { 0 };
        struct mem_source source = { .fd = fd, .name = dump_task_name(o->owner) };
        int r = fd;

        if (r >= 0)
                r = data_runs(fd, o->size, &runs);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its shared memory", source.name);
        return mem_store(d, &source, IMAGE_SHMEM_PAGEMAP, o->id, o->pages_id, &runs, err);
}

int mem_save_shared(struct dump *d, struct ckpt_error *err) {
        const struct mem_object_vec *objects = &mem_tree_of(d)->objects;
        int r = 0;

        for (size_t i = 0; r == 0 && i < objects->n; i++)
                r = save_object(d, &objects->v[i], err);
        return r;
}
