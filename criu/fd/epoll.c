/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * epoll_create(2). A member is a file together with the number it was registered under; the number may be
 * closed, or another file's, while the first file lives on by another descriptor. epoll_member.c finds out which
 * file is meant, epoll_restore.c registers them again.
 */
#include "fd/epoll.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/anon.h"

/* Linux 6.9 */
struct busy_poll_params {
        uint32_t usecs;
        uint16_t budget;
        uint8_t prefer, pad;
};
#define GET_PARAMS _IOR(0x8A, 0x02, struct busy_poll_params)
#define SET_PARAMS _IOW(0x8A, 0x01, struct busy_poll_params)

static void epoll_look(struct fd_probe *p, struct blockers *b) {
        if (anon_look(p, PROC_FDINFO_EPOLL, b))
                epoll_look_members(p, b);
}

/* s_dev of the kernel, 12 bits major and 20 minor, as the images have it. */
static uint32_t image_dev(uint32_t sdev) {
        uint32_t dev_major = sdev >> 20, dev_minor = sdev & 0xfffff;

        return (dev_minor & 0xff) | dev_major << 8 | (dev_minor & ~0xffU) << 12;
}

static void fill_members(struct dump_files *files, Img__EventpollFile *msg, const struct proc_fdinfo *info) {
        Img__EventpollTfd *members = arena_new_array(&files->arena, Img__EventpollTfd, info->epoll.n);

        msg->n_tfd = info->epoll.n;
        msg->tfd = arena_new_array(&files->arena, Img__EventpollTfd *, info->epoll.n);
        for (size_t i = 0; i < info->epoll.n; i++) {
                const struct proc_epoll_item *item = &info->epoll.v[i];
                Img__EventpollTfd *member = msg->tfd[i] = &members[i];

                img__eventpoll_tfd__init(member);
                member->id = msg->id;
                member->tfd = (uint32_t)item->fd;
                member->events = item->events;
                member->data = item->data;
                if (item->ino == 0)
                        continue;
                member->has_dev = member->has_inode = member->has_pos = true;
                member->dev = image_dev(item->sdev);
                member->inode = item->ino;
                member->pos = (uint64_t)item->pos;
        }
}

static void read_params(int fd, Img__EventpollFile *msg) {
        struct busy_poll_params params = { 0 };

        if (ioctl(fd, GET_PARAMS, &params) < 0 || (!params.usecs && !params.budget && !params.prefer))
                return;
        msg->has_busy_poll_usecs = msg->has_busy_poll_budget = msg->has_prefer_busy_poll = true;
        msg->busy_poll_usecs = params.usecs;
        msg->busy_poll_budget = params.budget;
        msg->prefer_busy_poll = params.prefer;
}

static int epoll_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        struct dump_files *files = dump_files(d);
        Img__EventpollFile *msg =
                arena_message(&files->arena, Img__EventpollFile, img__eventpoll_file__init);
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = anon_dump(d, p, PROC_FDINFO_EPOLL, &msg->fown, &msg->flags, &fd, err);
        if (r < 0)
                return r;
        msg->id = file->id;
        fill_members(files, msg, &p->info);
        read_params(fd, msg);
        file->msg->epfd = msg;
        return 0;
}

/* ---- restore ---- */

static int epoll_check(struct restore *r __attribute__((unused)), struct restore_file *file,
                       struct image_file *image, struct ckpt_error *err) {
        const Img__EventpollFile *msg = file->msg->epfd;

        for (size_t i = 0; i < msg->n_tfd; i++) {
                const Img__EventpollTfd *member = msg->tfd[i];

                if (member->tfd > INT32_MAX / 2)
                        return image_damaged(image, err, "file %u: %u is no number of a descriptor",
                                             file->id, member->tfd);
                if (member->events & EPOLLEXCLUSIVE && member->events & EPOLLONESHOT)
                        return image_damaged(image, err,
                                             "file %u: nothing is registered with the events %#x", file->id,
                                             member->events);
                if (member->has_file_id && member->file_id == file->id)
                        return image_damaged(image, err, "file %u: an epoll instance is not its own member",
                                             file->id);
        }
        if (msg->has_busy_poll_budget && msg->busy_poll_budget > UINT16_MAX)
                return image_damaged(image, err, "file %u: %u is no budget of busy polling", file->id,
                                     msg->busy_poll_budget);
        return anon_check_flags(file, image, msg->flags, 0, err);
}

static int epoll_load(struct restore *r, struct ckpt_error *err) {
        for (size_t i = 0; i < r->files->n; i++) {
                const Img__File *file = r->files->v[i].msg;

                for (size_t j = 0; file->type == IMG__FD_TYPES__EVENTPOLL && j < file->epfd->n_tfd; j++) {
                        const Img__EventpollTfd *member = file->epfd->tfd[j];

                        if (member->has_file_id && !restore_find_file(r->files, member->file_id))
                                return ckpt_error(
                                        err, -EBADMSG,
                                        "files.img: a member of the epoll instance %u is file %u, which is "
                                        "not in the images",
                                        file->id, member->file_id);
                }
        }
        return 0;
}

static int epoll_open(struct restore *r __attribute__((unused)), struct restore_file *file,
                      struct ckpt_error *err) {
        return anon_opened(file, epoll_create1(EPOLL_CLOEXEC), file->msg->epfd->flags, err);
}

static int epoll_finish(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        const Img__EventpollFile *msg = file->msg->epfd;
        struct busy_poll_params params = {
                .usecs = msg->busy_poll_usecs,
                .budget = (uint16_t)msg->busy_poll_budget,
                .prefer = msg->prefer_busy_poll,
        };

        if (msg->has_busy_poll_usecs && ioctl(file->fd, SET_PARAMS, &params) < 0)
                return ckpt_error_errno(err, -errno, "file %u: cannot set how an epoll instance polls",
                                        file->id);
        return epoll_restore_members(r, file, err);
}

const struct fd_kind fd_kind_epoll = {
        .type = IMG__FD_TYPES__EVENTPOLL,
        .name = "epoll",
        .link = "anon_inode:[eventpoll]",
        .look = epoll_look,
        .dump = epoll_dump,
        .save = epoll_save_members,
        .check = epoll_check,
        .load = epoll_load,
        .open = epoll_open,
        .finish = epoll_finish,
        .free = fd_holders_free,
};
