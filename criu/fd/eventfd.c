/* SPDX-License-Identifier: GPL-2.0-only */
/* eventfd(2): a counter. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/anon.h"

/* What a write(2) can bring it to; the kernel alone gets one higher (an overflow by AIO). */
#define COUNTER_MAX (UINT64_MAX - 1)

static void eventfd_look(struct fd_probe *p, struct blockers *b) {
        pid_t outside;

        if (!anon_look(p, PROC_FDINFO_EVENTFD, b))
                return;
        outside = eventfd_foreign_holder(p);
        if (outside > 0)
                blocker_add(b, "Include that process in the tree, or end it",
                            "%s is an eventfd that pid %d, outside of the tree, has open as well",
                            fd_probe_name(p), outside);
        if (p->info.eventfd.count > COUNTER_MAX)
                blocker_add(b, "Have the program read it",
                            "%s is an eventfd that has overflowed, which nothing can "
                            "bring about again",
                            fd_probe_name(p));
}

static int read_now(int fd, uint64_t *ret) {
        struct iovec iov = { ret, sizeof(*ret) };
        ssize_t n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

        return n == sizeof(*ret) ? 0 : n < 0 ? -errno : -EIO;
}

static int add(int fd, uint64_t value) {
        ssize_t n = write(fd, &value, sizeof(value));

        return n == sizeof(value) ? 0 : n < 0 ? -errno : -EIO;
}

/* One that is full: what a read takes is put back. */
static int is_full_semaphore(int fd, bool *ret) {
        uint64_t got = 0;
        int r = read_now(fd, &got);

        if (r < 0)
                return r;
        *ret = got == 1;
        return add(fd, got);
}

/*
 * Before Linux 6.5 nothing tells what kind of counter it is, so see what a read takes from it: nobody else does
 * while the tree is frozen. The two that are added first keep it from being empty if ckpt is killed in between,
 * but for the moment before the last write.
 */
static int is_semaphore(int fd, uint64_t count, bool *ret) {
        uint64_t got = 0;
        int r;

        if (count > COUNTER_MAX - 2)
                return is_full_semaphore(fd, ret);
        r = add(fd, 2);
        if (r == 0)
                r = read_now(fd, &got);
        if (r < 0)
                return r;
        *ret = got == 1;
        if (*ret)
                return read_now(fd, &got);
        return got > 2 ? add(fd, got - 2) : 0;
}

static int eventfd_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        Img__EventfdFile *msg =
                arena_message(&dump_files(d)->arena, Img__EventfdFile, img__eventfd_file__init);
        _cleanup_close_ int fd = -EBADF;
        bool semaphore;
        int r;

        r = anon_dump(d, p, PROC_FDINFO_EVENTFD, &msg->fown, &msg->flags, &fd, err);
        if (r < 0)
                return r;
        semaphore = p->info.eventfd.semaphore;
        if (!p->info.eventfd.has_semaphore) {
                r = is_semaphore(fd, p->info.eventfd.count, &semaphore);
                if (r < 0)
                        return ckpt_error_errno(err, r,
                                                "%s: cannot find out whether this eventfd is a semaphore",
                                                fd_probe_name(p));
        }
        msg->id = file->id;
        msg->counter = p->info.eventfd.count;
        if (semaphore)
                msg->flags |= EFD_SEMAPHORE;
        file->msg->efd = msg;
        return 0;
}

/* ---- restore ---- */

/* F_GETFL of an eventfd is O_RDWR and more, so the bit of EFD_SEMAPHORE, that of O_WRONLY, is free. */
static int eventfd_check(struct restore *r __attribute__((unused)), struct restore_file *file,
                         struct image_file *image, struct ckpt_error *err) {
        const Img__EventfdFile *msg = file->msg->efd;

        if (msg->counter > COUNTER_MAX)
                return image_damaged(image, err, "file %u: no eventfd can count to %llu", file->id,
                                     (unsigned long long)msg->counter);
        return anon_check_flags(file, image, msg->flags, EFD_SEMAPHORE, err);
}

static int eventfd_open(struct restore *r __attribute__((unused)), struct restore_file *file,
                        struct ckpt_error *err) {
        const Img__EventfdFile *msg = file->msg->efd;
        int rc;

        rc = anon_opened(file, eventfd(0, EFD_CLOEXEC | (int)(msg->flags & EFD_SEMAPHORE)), msg->flags, err);
        if (rc < 0)
                return rc;
        rc = msg->counter > 0 ? add(file->fd, msg->counter) : 0;
        return rc < 0 ? ckpt_error_errno(err, rc, "file %u: cannot set the counter of an eventfd", file->id)
                      : 0;
}

const struct fd_kind fd_kind_eventfd = {
        .type = IMG__FD_TYPES__EVENTFD,
        .name = "eventfd",
        .link = "anon_inode:[eventfd]",
        .look = eventfd_look,
        .dump = eventfd_dump,
        .check = eventfd_check,
        .open = eventfd_open,
};
