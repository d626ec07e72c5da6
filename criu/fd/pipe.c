/* SPDX-License-Identifier: GPL-2.0-only */
/* Pipes: each end is an open file description of its own, all ends of one pipe share its inode and its contents. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/pipe.h"
#include "macro.h"

enum {
        FLAG_LARGEFILE = 0100000, /* the kernel's */
        SET_BY_FCNTL = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME,
};

static bool pipe_match(struct fd_probe *p) {
        return S_ISFIFO(p->st.stx_mode);
}

static void pipe_look(struct fd_probe *p, struct blockers *b) {
        pid_t holder = pipe_foreign_holder(p);

        if (holder > 0)
                blocker_add(
                        b,
                        "Dump a tree that has both ends, or start the program with that stream redirected to a file",
                        "%s is a pipe (%s) that pid %d, outside of the tree, has open as well",
                        fd_probe_name(p), p->link, holder);
        if (!p->clear)
                fown_look(p, b);
}

static int pipe_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        struct dump_files *files = dump_files(d);
        Img__Pipe *pipe = arena_message(&files->arena, Img__Pipe, img__pipe__init);

        pipe->id = file->id;
        pipe->pipe_id = (uint32_t)p->st.stx_ino;
        pipe->flags = fd_probe_flags(p);
        pipe->fown = arena_message(&files->arena, Img__Fown, img__fown__init);
        file->msg->pipe = pipe;
        return fown_dump_probe(p, -EBADF, pipe->fown, err);
}

static uint32_t pipe_id_of(const struct dump_file *f) {
        return f->msg->pipe->pipe_id;
}

/*
 * An end that nobody in the tree has is either closed or held outside; since the look, somebody may have
 * got hold of it. What the kernel tells about it: no writers, no readers.
 */
static int check_other_end(const struct pipe_ends *e, int fd, struct ckpt_error *err) {
        const struct dump_file *f = e->reader ? e->reader : e->writer;
        struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

        if (e->reader && e->writer)
                return 0;
        if (poll(&p, 1, 0) < 0)
                return ckpt_error_errno(err, -errno, "pid %d: cannot poll fd %d", f->task->pid, f->fd);
        if (p.revents & (e->reader ? POLLHUP : POLLERR))
                return 0;
        return ckpt_error(err, -ENOTSUP, "%s: fd %d is a pipe whose other end is held outside of the tree",
                          dump_task_name(f->task), f->fd);
}

static int save_ends(const struct pipe_ends *e, struct image_file *image, int scratch[2],
                     struct ckpt_error *err) {
        const struct dump_file *f = e->reader ? e->reader : e->writer;
        _cleanup_(pipe_content_done) struct pipe_content content = { 0 };
        _cleanup_close_ int fd = dump_file_get(f);
        int r;

        if (fd < 0)
                return ckpt_error_errno(err, fd, "pid %d: cannot get fd %d", f->task->pid, f->fd);
        r = check_other_end(e, fd, err);
        if (r < 0)
                return r;
        /* What nobody can read any more is lost already. */
        r = e->reader ? pipe_peek(fd, scratch, &content, err) : pipe_peek_capacity(fd, &content, err);
        if (r < 0)
                return ckpt_error_prefix(err, "pid %d: fd %d", f->task->pid, f->fd);
        return pipe_write_content(image, e->pipe_id, &content, err);
}

static int pipe_save(struct dump *d, struct ckpt_error *err) {
        _cleanup_(pipe_ends_vec_done) struct pipe_ends_vec ends = { 0 };
        _cleanup_image_file_ struct image_file *image = NULL;
        int r = 0, scratch[2] = { -EBADF, -EBADF };

        pipe_group(d, &fd_kind_pipe, pipe_id_of, &ends);
        if (ends.n > 0)
                r = image_open_write(d->set, IMAGE_PIPES_DATA, 0, &image, err);
        for (size_t i = 0; r == 0 && i < ends.n; i++)
                r = save_ends(&ends.v[i], image, scratch, err);
        safe_close(scratch[0]);
        safe_close(scratch[1]);
        return r < 0 || !image ? r : image_close(TAKE_PTR(image), err);
}

/* ---- restore ---- */

static int pipe_check(struct restore *r __attribute__((unused)), struct restore_file *file,
                      struct image_file *image, struct ckpt_error *err) {
        uint32_t flags = file->msg->pipe->flags;

        if ((flags & O_ACCMODE) > O_RDWR || flags & (O_PATH | O_DIRECTORY))
                return image_damaged(image, err, "file %u: a pipe cannot have the flags %#o", file->id,
                                     flags);
        return 0;
}

static int pipe_load(struct restore *r, struct ckpt_error *err) {
        return pipe_rebuild_load(r, FD_STATE_PIPES, IMG__FD_TYPES__PIPE, IMAGE_PIPES_DATA, err);
}

/* Pipes belong to whoever made them; that somebody else may open it through /proc rests on that. */
static void give_to_first_holder(struct restore *r, const struct restore_file *file, int fd) {
        for (size_t i = 0; i < r->nr_tasks; i++) {
                const struct restore_task *t = r->tasks[i];
                const Img__Creds *creds;

                if (!t->fds || !t->nr_threads || !t->threads[0].core || !t->threads[0].core->thread_core)
                        continue;
                creds = t->threads[0].core->thread_core->creds;
                for (size_t j = 0; creds && j < t->fds->slots.n; j++) {
                        const struct restore_file *other = t->fds->slots.v[j].file;

                        if (other->msg->type != IMG__FD_TYPES__PIPE ||
                            other->msg->pipe->pipe_id != file->msg->pipe->pipe_id)
                                continue;
                        if (creds->fsuid != geteuid() || creds->fsgid != getegid())
                                (void)!fchown(fd, creds->fsuid, creds->fsgid);
                        return;
                }
        }
}

/* Ends that pipe(2) does not give are opened through /proc, also when all others are gone to their tasks already. */
static int open_door(struct pipe_rebuild *p) {
        char path[32];

        if (p->nr_large == 0 && p->nr_files[O_RDWR] == 0 && p->nr_files[O_RDONLY] <= 1 &&
            p->nr_files[O_WRONLY] <= 1)
                return 0;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", p->ends[0]);
        p->door = open(path, O_PATH | O_CLOEXEC);
        return p->door < 0 ? -errno : 0;
}

static int make_pipe(struct restore *r, const struct restore_file *file, struct pipe_rebuild *p,
                     struct ckpt_error *err) {
        int rc;

        if (pipe2(p->ends, O_CLOEXEC | O_NONBLOCK) < 0)
                return ckpt_error_errno(err, -errno, "cannot make a pipe");
        p->made = true;
        give_to_first_holder(r, file, p->ends[0]);
        rc = open_door(p);
        if (rc < 0)
                return ckpt_error_errno(err, rc, "cannot open pipe %u again", p->pipe_id);
        return pipe_fill(p, p->ends[1], err);
}

/* An end as pipe2(2) gives it has no O_LARGEFILE, one that was opened through /proc has. */
static int take_end(struct pipe_rebuild *p, uint32_t flags) {
        unsigned int mode = flags & O_ACCMODE;

        if (mode == O_RDWR || flags & FLAG_LARGEFILE || p->ends[mode] < 0)
                return -EBADF;
        return TAKE_FD(p->ends[mode]);
}

static int open_end(const struct pipe_rebuild *p, uint32_t flags) {
        char path[32];

        snprintf(path, sizeof(path), "/proc/self/fd/%d", p->door);
        /* open(2) refuses O_DIRECT on pipes, F_SETFL takes it. */
        return fd_open_exactly(path, flags & ~(uint32_t)O_DIRECT);
}

static int pipe_open(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        struct pipe_rebuild *p = pipe_rebuild_find(r, FD_STATE_PIPES, file);
        uint32_t flags = file->msg->pipe->flags;
        _cleanup_close_ int fd = -EBADF;
        int rc;

        ckpt_assert(p && p->nr_waiting > 0);
        if (!p->made) {
                rc = make_pipe(r, file, p, err);
                if (rc < 0)
                        return rc;
        }
        fd = take_end(p, flags);
        if (fd < 0)
                fd = open_end(p, flags);
        if (fd < 0)
                return ckpt_error_errno(err, fd, "cannot open another end of pipe %u", p->pipe_id);
        if (fcntl(fd, F_SETFL, flags & SET_BY_FCNTL) < 0)
                return ckpt_error_errno(err, -errno, "cannot set the flags %#o of an end of pipe %u", flags,
                                        p->pipe_id);
        if (--p->nr_waiting == 0)
                pipe_rebuild_close(p);
        file->fd = TAKE_FD(fd);
        return 0;
}

static void pipe_free(struct restore_files *files) {
        pipe_rebuild_free(files, FD_STATE_PIPES);
}

const struct fd_kind fd_kind_pipe = {
        .type = IMG__FD_TYPES__PIPE,
        .name = "pipe",
        .by_inode = true,
        .link = "pipe:[",
        .clear = fown_is_clear,
        .match = pipe_match,
        .look = pipe_look,
        .dump = pipe_dump,
        .save = pipe_save,
        .check = pipe_check,
        .load = pipe_load,
        .open = pipe_open,
        .free = pipe_free,
};
