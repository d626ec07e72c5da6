/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shared anonymous memory on dump: one object, however many tasks map it, known by the device and inode
 * that maps shows. Its content is read as that of the file it is to the kernel, so pages that are
 * swapped out or in nobody's page tables are found as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "macro.h"
#include "mem/dump.h"

enum { HUGE_PIECE = 64 * 1024 }; /* of a page of hugetlbfs, looked at at once */

static struct mem_object *find_object(struct mem_object_vec *objects, const struct stat *st) {
        for (size_t i = objects->n; i-- > 0;) {
                struct mem_object *o = &objects->v[i];

                if (o->ino == st->st_ino && makedev(o->dev_major, o->dev_minor) == st->st_dev)
                        return o;
        }
        return NULL;
}

static int add_object(struct dump_task *t, const struct proc_dir *proc, const char *where,
                      const struct stat *st, uint32_t *ret_id, struct ckpt_error *err) {
        struct mem_object_vec *objects = &mem_tree_of(t->dump)->objects;
        struct mem_object *o = find_object(objects, st);

        if (!o) {
                o = mem_object_vec_add(objects);
                if (!o)
                        return ckpt_error(err, -ENOMEM, "not enough memory");
                *o = (struct mem_object){ .dev_major = major(st->st_dev),
                                          .dev_minor = minor(st->st_dev),
                                          .ino = st->st_ino,
                                          .id = MEM_OBJECT_ID | (uint32_t)objects->n,
                                          .size = page_align_up((uint64_t)st->st_size),
                                          .owner = t,
                                          .proc = proc };
                ckpt_assert(strlen(where) < sizeof(o->link));
                memcpy(o->link, where, strlen(where) + 1);
        }
        *ret_id = o->id;
        return 0;
}

int mem_add_object(struct dump_task *t, const struct proc_dir *proc, const char *where,
                   const struct stat *st, uint32_t *ret_id, struct ckpt_error *err) {
        struct mem_tree *tree = mem_tree_of(t->dump);
        int r;

        pthread_mutex_lock(&tree->lock);
        r = add_object(t, proc, where, st, ret_id, err);
        pthread_mutex_unlock(&tree->lock);
        return r;
}

static bool known_object(struct mem_tree *tree, const struct stat *st, uint32_t *ret_id,
                         uint64_t *ret_size) {
        const struct mem_object *o;

        pthread_mutex_lock(&tree->lock);
        o = find_object(&tree->objects, st);
        if (o) {
                *ret_id = o->id;
                *ret_size = o->size;
        }
        pthread_mutex_unlock(&tree->lock);
        return o != NULL;
}

int mem_object_of(struct dump_task *t, const struct proc_vma *vma, uint32_t *ret_id, uint64_t *ret_size,
                  struct ckpt_error *err) {
        struct stat st = { .st_dev = makedev(vma->dev_major, vma->dev_minor), .st_ino = vma->ino };
        char link[48];
        int r;

        if (known_object(mem_tree_of(t->dump), &st, ret_id, ret_size))
                return 0;
        mem_map_files_link(vma, link);
        if (fstatat(t->proc.fd, link, &st, 0) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot look at the shared memory mapped at %#llx",
                                        dump_task_name(t), (unsigned long long)vma->start);
        r = mem_add_object(t, &t->proc, link, &st, ret_id, err);
        if (r == 0)
                *ret_size = page_align_up((uint64_t)st.st_size);
        return r;
}

/* lseek(2) rounds to pages on tmpfs. */
int mem_data_runs(int fd, uint64_t size, struct mem_run_vec *ret) {
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

static bool is_zero(const char *buf, size_t len) {
        return len == 0 || (buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0);
}

/* hugetlbfs does not tell where its holes are, and has them where nothing was written yet. */
static int huge_runs(int fd, const struct stat *st, struct mem_run_vec *ret) {
        uint64_t page = (uint64_t)st->st_blksize, size = (uint64_t)st->st_size;
        _cleanup_free_ char *buf = malloc(HUGE_PIECE);
        int r = 0;

        if (!buf)
                return -ENOMEM;
        if ((uint64_t)st->st_blocks * 512 >= size)
                return mem_runs_add(ret, 0, size, 0);
        for (uint64_t at = 0; r == 0 && at < size; at += page) {
                bool zero = true;

                for (uint64_t off = 0; zero && off < page; off += HUGE_PIECE) {
                        ssize_t n = pread_full(fd, buf, HUGE_PIECE, (off_t)(at + off));

                        if (n != HUGE_PIECE)
                                return n < 0 ? (int)n : -EIO;
                        zero = is_zero(buf, HUGE_PIECE);
                }
                if (!zero)
                        r = mem_runs_add(ret, at, at + page, 0);
        }
        return r;
}

static int save_object(struct dump *d, const struct mem_object *o, struct ckpt_error *err) {
        _cleanup_close_ int fd = proc_openat(o->proc, o->link, O_RDONLY);
        _cleanup_(mem_run_vec_done) struct mem_run_vec runs = { 0 };
        struct mem_source source = { .fd = fd, .name = dump_task_name(o->owner) };
        struct statfs fs;
        struct stat st;
        int r = fd;

        if (r >= 0)
                r = fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0 ? -errno : 0;
        if (r == 0 && page_align_up((uint64_t)st.st_size) != o->size)
                r = -ESTALE;
        if (r == 0)
                r = fs.f_type == HUGETLBFS_MAGIC ? huge_runs(fd, &st, &runs)
                                                 : mem_data_runs(fd, o->size, &runs);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its shared memory", source.name);
        source.file_size = (uint64_t)st.st_size;
        return mem_store(d, &source, IMAGE_SHMEM_PAGEMAP, o->id, o->pages_id, &runs, err);
}

int mem_save_shared(struct dump *d, struct ckpt_error *err) {
        const struct mem_object_vec *objects = &mem_tree_of(d)->objects;
        int r = 0;

        for (size_t i = 0; r == 0 && i < objects->n; i++)
                r = save_object(d, &objects->v[i], err);
        return r;
}
