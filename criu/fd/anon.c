/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/anon.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cleanup.h"

enum {
        FLAG_LARGEFILE = 0100000, /* the kernel's */
        SET_BY_FCNTL = O_APPEND | O_NONBLOCK | O_NOATIME,
        ANY_MAY_HAVE = O_ACCMODE | SET_BY_FCNTL | O_ASYNC | FLAG_LARGEFILE,
};

/* Without members or watches these two show nothing of their own. */
static bool is_kind(const struct proc_fdinfo *info, enum proc_fdinfo_kind kind) {
        if (info->kind == kind)
                return true;
        return info->kind == PROC_FDINFO_PLAIN && (kind == PROC_FDINFO_EPOLL || kind == PROC_FDINFO_INOTIFY);
}

bool anon_look(struct fd_probe *p, enum proc_fdinfo_kind kind, struct blockers *b) {
        if (fd_probe_info(p) < 0 || !p->has_info || !is_kind(&p->info, kind))
                return false;
        /* In the freeze the dump that follows asks for it anyway. */
        if (p->task->nr_threads == 0 || !p->task->threads[0].stop.stopped)
                fown_look(p, b);
        return true;
}

int anon_dump(struct dump *d, struct fd_probe *p, enum proc_fdinfo_kind kind, Img__Fown **ret,
              uint32_t *ret_flags, int *ret_fd, struct ckpt_error *err) {
        Img__Fown *fown = arena_message(&dump_files(d)->arena, Img__Fown, img__fown__init);
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = fd_probe_info(p);
        if (r < 0 || !p->has_info)
                return ckpt_error_errno(err, r < 0 ? r : -EBADF, "%s: cannot read its state",
                                        fd_probe_name(p));
        if (!is_kind(&p->info, kind))
                return ckpt_error(err, -EAGAIN, "%s is not what its name (%s) says", fd_probe_name(p),
                                  p->link);
        fd = fd_probe_get(p);
        if (fd < 0)
                return ckpt_error_errno(err, fd, "%s: cannot read its state", fd_probe_name(p));
        r = fown_dump_probe(p, fd, fown, err);
        if (r < 0)
                return r;
        *ret = fown;
        *ret_flags = fd_probe_flags(p);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int anon_check_flags(const struct restore_file *file, const struct image_file *image, uint32_t flags,
                     uint32_t more, struct ckpt_error *err) {
        if (flags & ~((uint32_t)ANY_MAY_HAVE | more))
                return image_damaged(image, err, "file %u: the flags %#o cannot be those of a %s", file->id,
                                     flags, file->kind->name);
        return 0;
}

int anon_opened(struct restore_file *file, int made, uint32_t flags, struct ckpt_error *err) {
        _cleanup_close_ int fd = made;

        if (fd < 0)
                return ckpt_error_errno(err, -errno, "file %u: cannot make the %s again", file->id,
                                        file->kind->name);
        if (fcntl(fd, F_SETFL, flags & SET_BY_FCNTL) < 0)
                return ckpt_error_errno(err, -errno, "file %u: cannot give the %s the flags %#o", file->id,
                                        file->kind->name, flags);
        file->fd = TAKE_FD(fd);
        return 0;
}

const Img__Fown *anon_fown(const Img__File *msg) {
        switch (msg->type) {
        case IMG__FD_TYPES__EVENTFD:
                return msg->efd->fown;
        case IMG__FD_TYPES__EVENTPOLL:
                return msg->epfd->fown;
        case IMG__FD_TYPES__SIGNALFD:
                return msg->sgfd->fown;
        case IMG__FD_TYPES__TIMERFD:
                return msg->tfd->fown;
        case IMG__FD_TYPES__INOTIFY:
                return msg->ify->fown;
        case IMG__FD_TYPES__PIDFD:
                return msg->pidfd->fown;
        case IMG__FD_TYPES__MEMFD:
                return msg->memfd->fown;
        default:
                return NULL;
        }
}

uint32_t anon_flags(const Img__File *msg) {
        switch (msg->type) {
        case IMG__FD_TYPES__EVENTFD:
                return msg->efd->flags;
        case IMG__FD_TYPES__EVENTPOLL:
                return msg->epfd->flags;
        case IMG__FD_TYPES__SIGNALFD:
                return msg->sgfd->flags;
        case IMG__FD_TYPES__TIMERFD:
                return msg->tfd->flags;
        case IMG__FD_TYPES__INOTIFY:
                return msg->ify->flags;
        case IMG__FD_TYPES__PIDFD:
                return msg->pidfd->flags;
        case IMG__FD_TYPES__MEMFD:
                return msg->memfd->flags;
        default:
                return 0;
        }
}
