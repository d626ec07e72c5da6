/* SPDX-License-Identifier: GPL-2.0-only */
/* signalfd(2): a set of signals. Whose signals it shows depends on who reads, so there is nothing else to it. */
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/anon.h"

static void signalfd_look(struct fd_probe *p, struct blockers *b) {
        anon_look(p, PROC_FDINFO_SIGNALFD, b);
}

static int signalfd_dump(struct dump *d, struct fd_probe *p, struct dump_file *file,
                         struct ckpt_error *err) {
        Img__Signalfd *msg = arena_message(&dump_files(d)->arena, Img__Signalfd, img__signalfd__init);
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = anon_dump(d, p, PROC_FDINFO_SIGNALFD, &msg->fown, &msg->flags, &fd, err);
        if (r < 0)
                return r;
        msg->id = file->id;
        msg->sigmask = p->info.signalfd.mask;
        file->msg->sgfd = msg;
        return 0;
}

/* ---- restore ---- */

static int signalfd_check(struct restore *r __attribute__((unused)), struct restore_file *file,
                          struct image_file *image, struct ckpt_error *err) {
        return anon_check_flags(file, image, file->msg->sgfd->flags, 0, err);
}

static int signalfd_open(struct restore *r __attribute__((unused)), struct restore_file *file,
                         struct ckpt_error *err) {
        const Img__Signalfd *msg = file->msg->sgfd;

        /* Not glibc's function: its sigset_t is larger than the kernel's. */
        return anon_opened(file,
                           (int)syscall(SYS_signalfd4, -1, &msg->sigmask, sizeof(msg->sigmask), SFD_CLOEXEC),
                           msg->flags, err);
}

const struct fd_kind fd_kind_signalfd = {
        .type = IMG__FD_TYPES__SIGNALFD,
        .name = "signalfd",
        .link = "anon_inode:[signalfd]",
        .look = signalfd_look,
        .dump = signalfd_dump,
        .check = signalfd_check,
        .open = signalfd_open,
};
