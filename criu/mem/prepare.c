/* SPDX-License-Identifier: GPL-2.0-only */
/* Before there are any tasks: everything that they map by descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/fd.h"
#include "macro.h"
#include "mem/aio.h"
#include "mem/restore.h"
#include "restore/inherit.h"

void mem_add_read(struct compel_batch *b, const char *what, int fd, uint64_t address, uint64_t size,
                  uint64_t offset) {
        struct compel_op *op = compel_call(b, what, SYS_pread64, (uint64_t)fd, address, size, offset);

        op->check = COMPEL_CHECK_EQUAL;
        op->want = (int64_t)size;
}

static int open_and_inherit(struct restore *r, uint32_t id, uint32_t flags, struct ckpt_error *err) {
        _cleanup_close_ int fd = -EBADF;
        int n = files_open(r, id, flags, &fd, err);

        return n < 0 ? n : restore_inherit(r, fd, err);
}

static int inherit_socket(struct restore *r, uint32_t id, struct ckpt_error *err) {
        int fd, n = files_open_socket(r, id, &fd, err);

        return n < 0 ? n : restore_inherit(r, fd, err);
}

#define NO_OPEN_FLAGS UINT32_MAX /* it is mapped as it is open */

static int inherit_file(struct restore *r, uint32_t id, uint32_t flags, int *ret, struct ckpt_error *err) {
        struct restore_mapped_vec *files = &restore_mem_tree_of(r)->files;
        int n;

        for (size_t i = files->n; i-- > 0;)
                if (files->v[i].id == id && files->v[i].flags == flags) {
                        *ret = files->v[i].fd;
                        return 0;
                }
        n = flags == NO_OPEN_FLAGS ? inherit_socket(r, id, err) : open_and_inherit(r, id, flags, err);
        if (n < 0)
                return n;
        if (restore_mapped_vec_push(files, (struct restore_mapped){ id, flags, n }) < 0)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        *ret = n;
        return 0;
}

/*
 * The link to the executable can be changed only while the old one, that of ckpt, is not mapped. It need
 * not be where a task runs ckpt's own.
 */
static bool is_own_exe(int fd) {
        struct stat a, b;

        return fstat(fd, &a) == 0 && stat("/proc/self/exe", &b) == 0 && a.st_dev == b.st_dev &&
               a.st_ino == b.st_ino;
}

static int prepare_exe(struct restore_task *t, struct ckpt_error *err) {
        struct restore_mem_tree *tree = restore_mem_tree_of(t->restore);
        int r = inherit_file(t->restore, t->mm->exe_file_id, O_RDONLY, &t->mem->exe_fd, err);

        if (r < 0)
                return r;
        if (tree->exe_fd != t->mem->exe_fd) {
                tree->exe_fd = t->mem->exe_fd;
                tree->exe_is_own = is_own_exe(tree->exe_fd);
        }
        if (tree->exe_is_own)
                t->mem->exe_fd = -1;
        return 0;
}

static int prepare_files(struct restore_task *t, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < t->mem->areas.n; i++) {
                struct restore_area *area = &t->mem->areas.v[i];
                uint32_t flags = O_RDONLY;

                if (area->kind == MEM_FILE_SHARED) {
                        if (area->msg->has_fdflags)
                                flags = area->msg->fdflags & O_ACCMODE;
                        else if (area->msg->prot & PROT_WRITE)
                                flags = O_RDWR;
                        if (flags == O_WRONLY)
                                return ckpt_error(
                                        err, -EBADMSG,
                                        "mm-%d.img is damaged: a file is mapped that is not open for reading",
                                        t->pid);
                }
                if (area->kind == MEM_FILE_PRIVATE || area->kind == MEM_FILE_SHARED)
                        r = inherit_file(t->restore, (uint32_t)area->msg->fd, flags, &area->fd, err);
                if (area->kind == MEM_SOCKET)
                        r = inherit_file(t->restore, (uint32_t)area->msg->shmid, NO_OPEN_FLAGS, &area->fd,
                                         err);
        }
        return r < 0 ? r : prepare_exe(t, err);
}

static int prepare_task(struct restore_task *t, struct ckpt_error *err) {
        int r = prepare_files(t, err);

        return r < 0 ? r : mem_prepare_vdso(t, err);
}

int mem_prepare(struct restore *r, struct ckpt_error *err) {
        struct restore_mem_tree *tree = restore_mem_tree_of(r);
        int ret;

        ret = vdso_own_layout(&tree->vdso);
        if (ret < 0)
                return ckpt_error_errno(err, ret, "cannot find the vDSO of this kernel");
        tree->images_fd = restore_inherit(r, image_dir_fd(r->dir), err);
        if (tree->images_fd < 0)
                return tree->images_fd;
        tree->pages_fd = restore_inherit(r, image_dir_fd(r->dir), err);
        if (tree->pages_fd < 0)
                return tree->pages_fd;
        tree->uffd = restore_inherit(r, image_dir_fd(r->dir), err);
        if (tree->uffd < 0)
                return tree->uffd;
        ret = aio_prepare(r, err);
        if (ret == 0)
                ret = mem_prepare_objects(r, err);
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_LIVE)
                        ret = prepare_task(r->tasks[i], err);
        return ret;
}
