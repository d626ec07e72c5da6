/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Named pipes: each description has a Fifo and, under an id of its own, a RegFile with its path and flags.
 *
 * A reader that has never seen a writer is not told of a hang-up by poll(2), one that has is. fifo-data.img
 * has an entry for those named pipes that hold data, have another capacity than usual, or whose readers
 * were told: these get a writer for a moment when they are restored.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/ghost.h"
#include "fd/pipe.h"
#include "macro.h"

enum { CAPACITY_DEFAULT = 65536 };

static bool fifo_match(struct fd_probe *p) {
        return S_ISFIFO(p->st.stx_mode) && p->link[0] == '/';
}

static void fifo_look(struct fd_probe *p, struct blockers *b) {
        struct statx st;
        pid_t holder;

        if (!reg_path_leads_there(p, b, &st))
                return;
        holder = pipe_foreign_holder(p);
        if (holder > 0)
                blocker_add(b, "Dump a tree that has both ends",
                            "%s is the named pipe %s, which pid %d, outside of the tree, has open as well",
                            fd_probe_name(p), p->link, holder);
        fown_look(p, b);
        lock_look(p, b);
}

/* All descriptions of one inode have the pipe_id of the first; inode numbers may have 64 bits. */
static uint32_t pipe_id_for(struct dump_files *files, const struct dump_file *self) {
        for (size_t i = 0; i < files->all.n; i++) {
                const struct dump_file *f = files->all.v[i];

                if (f->kind == &fd_kind_fifo && f != self && f->path && f->group == self->group)
                        return f->msg->fifo->pipe_id;
        }
        return self->id;
}

static int fifo_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        struct dump_files *files = dump_files(d);
        Img__Fown *fown = arena_message(&files->arena, Img__Fown, img__fown__init);
        struct dump_file *path;
        Img__Fifo *fifo;
        int r;

        r = fown_dump_probe(p, -EBADF, fown, err);
        if (r < 0)
                return r;
        path = dump_file_new(files, &fd_kind_reg);
        path->msg->reg = arena_new(&files->arena, Img__RegFile);
        reg_fill(files, path->msg->reg, path->id, ghost_path(&files->arena, p), fd_probe_flags(p), 0, &p->st,
                 fown);
        ghost_note(files, p, path->id);
        fifo = arena_message(&files->arena, Img__Fifo, img__fifo__init);
        fifo->id = file->id;
        fifo->has_regf_id = true;
        fifo->regf_id = path->id;
        fifo->pipe_id = pipe_id_for(files, file);
        file->path = path->msg->reg;
        file->msg->fifo = fifo;
        return 0;
}

static uint32_t fifo_id_of(const struct dump_file *f) {
        return f->msg->fifo->pipe_id;
}

static int save_fifo(struct dump *d, const struct pipe_ends *e, struct image_file **image, int scratch[2],
                     struct ckpt_error *err) {
        const struct dump_file *f = e->reader ? e->reader : e->writer;
        _cleanup_(pipe_content_done) struct pipe_content content = { 0 };
        struct pollfd p = { .fd = -EBADF, .events = POLLIN };
        _cleanup_close_ int fd = dump_file_get(f);
        int r;

        if (fd < 0)
                return ckpt_error_errno(err, fd, "pid %d: cannot get fd %d", f->task->pid, f->fd);
        p.fd = fd;
        r = e->reader ? pipe_peek(fd, scratch, &content, err) : pipe_peek_capacity(fd, &content, err);
        if (r < 0)
                return ckpt_error_prefix(err, "pid %d: fd %d", f->task->pid, f->fd);
        if (poll(&p, 1, 0) < 0)
                return ckpt_error_errno(err, -errno, "pid %d: cannot poll fd %d", f->task->pid, f->fd);
        if (content.size == 0 && content.capacity == CAPACITY_DEFAULT && !(p.revents & POLLHUP))
                return 0;
        if (!*image)
                r = image_open_write(d->set, IMAGE_FIFO_DATA, 0, image, err);
        return r < 0 ? r : pipe_write_content(*image, e->pipe_id, &content, err);
}

static int fifo_save(struct dump *d, struct ckpt_error *err) {
        _cleanup_(pipe_ends_vec_done) struct pipe_ends_vec ends = { 0 };
        _cleanup_image_file_ struct image_file *image = NULL;
        int r = 0, scratch[2] = { -EBADF, -EBADF };

        pipe_group(d, &fd_kind_fifo, fifo_id_of, &ends);
        for (size_t i = 0; r == 0 && i < ends.n; i++)
                r = save_fifo(d, &ends.v[i], &image, scratch, err);
        safe_close(scratch[0]);
        safe_close(scratch[1]);
        return r < 0 || !image ? r : image_close(TAKE_PTR(image), err);
}

/* ---- restore ---- */

static const struct restore_file *path_of(const struct restore_files *files,
                                          const struct restore_file *file) {
        const struct restore_file *path = restore_find_file(files, file->msg->fifo->regf_id);

        return path && path->msg->type == IMG__FD_TYPES__REG ? path : NULL;
}

static int fifo_load(struct restore *r, struct ckpt_error *err) {
        for (size_t i = 0; i < r->files->n; i++) {
                const struct restore_file *file = &r->files->v[i];
                const struct restore_file *path;
                const Img__RegFile *reg;

                if (file->msg->type != IMG__FD_TYPES__FIFO)
                        continue;
                path = path_of(r->files, file);
                reg = path ? path->msg->reg : NULL;
                if (!reg || (reg->flags & O_ACCMODE) > O_RDWR || (reg->has_mode && !S_ISFIFO(reg->mode)))
                        return ckpt_error(err, -EBADMSG,
                                          "files.img: the named pipe %u has no path (file %u)", file->id,
                                          file->msg->fifo->regf_id);
        }
        return pipe_rebuild_load(r, FD_STATE_FIFOS, IMG__FD_TYPES__FIFO, IMAGE_FIFO_DATA, err);
}

/* Writers need a reader to be opened, data needs somewhere to be. */
static int make_fifo(struct restore *r, const struct restore_file *path, struct pipe_rebuild *p,
                     struct ckpt_error *err) {
        int there = 0;

        p->made = true;
        if (!p->has_content && p->nr_files[O_WRONLY] == 0 && p->nr_files[O_RDWR] == 0)
                return 0;
        p->ends[0] = reg_open_again(r, path, O_RDWR | O_NONBLOCK, err);
        if (p->ends[0] < 0)
                return p->ends[0];
        if (ioctl(p->ends[0], FIONREAD, &there) < 0 || there > 0)
                return ckpt_error(err, -EBUSY,
                                  "the named pipe %s holds data that somebody else has written to it",
                                  path->msg->reg->name);
        return pipe_fill(p, p->ends[0], err);
}

static int fifo_open(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        struct pipe_rebuild *p = pipe_rebuild_find(r, FD_STATE_FIFOS, file);
        const struct restore_file *path = path_of(r->files, file);
        const Img__RegFile *reg;
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int rc = 0;

        ckpt_assert(p && p->nr_waiting > 0 && path);
        reg = path->msg->reg;
        if (!p->made)
                rc = make_fifo(r, path, p, err);
        if (rc < 0)
                return rc;
        /* Whatever has that name by now: O_NONBLOCK keeps the open from waiting. */
        fd = reg_open_again(r, path, (reg->flags & ~(uint32_t)O_DIRECT) | O_NONBLOCK, err);
        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode))
                return ckpt_error(err, -EBADMSG, "%s is no named pipe any more", reg->name);
        if (fcntl(fd, F_SETFL, reg->flags & (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME)) < 0)
                return ckpt_error_errno(err, -errno, "cannot set the flags of the named pipe %s", reg->name);
        if (--p->nr_waiting == 0)
                pipe_rebuild_close(p);
        file->fd = TAKE_FD(fd);
        return 0;
}

static void fifo_free(struct restore_files *files) {
        pipe_rebuild_free(files, FD_STATE_FIFOS);
}

const struct fd_kind fd_kind_fifo = {
        .type = IMG__FD_TYPES__FIFO,
        .name = "named pipe",
        .match = fifo_match,
        .look = fifo_look,
        .dump = fifo_dump,
        .save = fifo_save,
        .load = fifo_load,
        .open = fifo_open,
        .free = fifo_free,
};
