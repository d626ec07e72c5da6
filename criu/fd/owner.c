/* SPDX-License-Identifier: GPL-2.0-only */
/* Who gets SIGIO and SIGURG for a descriptor: F_SETOWN_EX, F_SETSIG, and O_ASYNC, which goes with them. */
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/anon.h"
#include "fd/kind.h"

#ifndef F_GETOWNER_UIDS
#define F_GETOWNER_UIDS 17
#endif

static bool is_inside(const struct dump *d, enum __pid_type type, pid_t pid) {
        for (size_t i = 0; i < d->nr_tasks; i++) {
                const struct dump_task *t = d->tasks[i];
                char path[32];

                if (type == F_OWNER_PGRP) {
                        if (t->stat.pgid == pid)
                                return true;
                        continue;
                }
                if (t->pid == pid)
                        return true;
                if (type != F_OWNER_TID)
                        continue;
                snprintf(path, sizeof(path), "task/%d", pid);
                if (faccessat(t->proc.fd, path, F_OK, 0) == 0)
                        return true;
        }
        return false;
}

int fown_dump(struct dump *d, int fd, Img__Fown *ret, pid_t *ret_outside) {
        struct f_owner_ex owner = { 0 };
        uid_t uids[2] = { 0 };
        int sig;

        *ret_outside = 0;
        sig = fcntl(fd, F_GETSIG);
        if (sig < 0 || fcntl(fd, F_GETOWN_EX, &owner) < 0)
                return -errno;
        ret->signum = (uint32_t)sig;
        /* Also of an owner that has died the kernel says 0. */
        if (owner.pid == 0)
                return 0;
        if (!is_inside(d, owner.type, owner.pid)) {
                *ret_outside = owner.pid;
                return 0;
        }
        if (fcntl(fd, F_GETOWNER_UIDS, uids) < 0)
                return -errno;
        ret->pid_type = (uint32_t)owner.type;
        ret->pid = (uint32_t)owner.pid;
        ret->uid = uids[0];
        ret->euid = uids[1];
        return 0;
}

bool fown_is_clear(struct dump *d, int fd) {
        struct f_owner_ex owner = { 0 };

        return fcntl(fd, F_GETOWN_EX, &owner) == 0 &&
               (owner.pid == 0 || is_inside(d, owner.type, owner.pid));
}

int fown_dump_probe(struct fd_probe *p, int fd, Img__Fown *ret, struct ckpt_error *err) {
        _cleanup_close_ int copy = -EBADF;
        pid_t outside = p->fown_outside;
        int r = 0;

        if (p->fown)
                *ret = *p->fown;
        else {
                if (fd < 0)
                        fd = copy = fd_probe_get(p);
                r = fd < 0 ? fd : fown_dump(p->task->dump, fd, ret, &outside);
        }
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read who owns it", fd_probe_name(p));
        if (outside > 0)
                return ckpt_error(err, -ENOTSUP, "%s sends its SIGIO to pid %d, outside of the tree",
                                  fd_probe_name(p), outside);
        return 0;
}

void fown_look(struct fd_probe *p, struct blockers *b) {
        Img__Fown fown = IMG__FOWN__INIT;
        _cleanup_close_ int fd = fd_probe_get(p);
        pid_t outside = 0;

        if (fd < 0 || fown_dump(p->task->dump, fd, &fown, &outside) < 0 || outside == 0)
                return;
        blocker_add(b, "Have the program take the signal itself (fcntl F_SETOWN)",
                    "%s sends its SIGIO to pid %d, outside of the tree", fd_probe_name(p), outside);
}

/* ---- restore ---- */

const Img__Fown *fown_of(const struct restore_files *files, const struct restore_file *file) {
        const struct restore_file *path;

        switch (file->msg->type) {
        case IMG__FD_TYPES__REG:
                return file->msg->reg->fown;
        case IMG__FD_TYPES__PIPE:
                return file->msg->pipe->fown;
        case IMG__FD_TYPES__FIFO:
                path = restore_find_file(files, file->msg->fifo->regf_id);
                return path ? path->msg->reg->fown : NULL;
        case IMG__FD_TYPES__INETSK:
                return file->msg->isk->fown;
        case IMG__FD_TYPES__NETLINKSK:
                return file->msg->nlsk->fown;
        case IMG__FD_TYPES__PACKETSK:
                return file->msg->psk->fown;
        case IMG__FD_TYPES__UNIXSK:
                return file->msg->usk->fown;
        default:
                return anon_fown(file->msg);
        }
}

uint32_t fd_flags_of(const struct restore_files *files, const struct restore_file *file) {
        const struct restore_file *path;

        switch (file->msg->type) {
        case IMG__FD_TYPES__REG:
                return file->msg->reg->flags;
        case IMG__FD_TYPES__PIPE:
                return file->msg->pipe->flags;
        case IMG__FD_TYPES__FIFO:
                path = restore_find_file(files, file->msg->fifo->regf_id);
                return path ? path->msg->reg->flags : 0;
        case IMG__FD_TYPES__INETSK:
                return file->msg->isk->flags;
        case IMG__FD_TYPES__NETLINKSK:
                return file->msg->nlsk->flags;
        case IMG__FD_TYPES__PACKETSK:
                return file->msg->psk->flags;
        case IMG__FD_TYPES__UNIXSK:
                return file->msg->usk->flags;
        default:
                return anon_flags(file->msg);
        }
}

/*
 * The kernel notes the ids of who calls F_SETOWN_EX, to check them when it sends the signal. Only this
 * thread changes its ids (the system call, not glibc's function); the saved id leads back. What
 * changing them takes from the process is its dumpable flag.
 */
static int set_owner_as(int fd, const struct f_owner_ex *owner, uid_t uid, uid_t euid) {
        int dumpable, r = 0;
        bool same = uid == getuid() && euid == geteuid();

        if (same)
                return fcntl(fd, F_SETOWN_EX, owner) < 0 ? -errno : 0;
        dumpable = prctl(PR_GET_DUMPABLE);
        if (syscall(SYS_setresuid, uid, euid, 0) < 0)
                return -errno;
        if (fcntl(fd, F_SETOWN_EX, owner) < 0)
                r = -errno;
        if (syscall(SYS_setresuid, 0, 0, 0) < 0)
                return -errno;
        if (dumpable == 0 || dumpable == 1)
                prctl(PR_SET_DUMPABLE, dumpable);
        return r;
}

int fown_restore(const struct restore_files *files, struct restore_file *file, struct ckpt_error *err) {
        const Img__Fown *fown = fown_of(files, file);
        uint32_t flags = fd_flags_of(files, file);
        struct f_owner_ex owner;
        int r;

        if (flags & O_PATH)
                return 0;
        if (fown && fown->signum != 0 && fcntl(file->fd, F_SETSIG, (int)fown->signum) < 0)
                return ckpt_error_errno(err, -errno, "cannot set signal %u for file %u", fown->signum,
                                        file->id);
        if (fown && fown->pid != 0) {
                owner = (struct f_owner_ex){ .type = (enum __pid_type)fown->pid_type,
                                             .pid = (pid_t)fown->pid };
                r = set_owner_as(file->fd, &owner, fown->uid, fown->euid);
                if (r == -ESRCH)
                        return r;
                if (r < 0)
                        return ckpt_error_errno(err, r, "cannot make pid %u the owner of file %u", fown->pid,
                                                file->id);
        }
        return 0;
}

/* The signal names the descriptor by which O_ASYNC was set; nothing tells which that was, so it is the lowest. */
void fown_add_async(struct restore_task *t, struct compel_batch *b) {
        const struct restore_files *files = t->restore->files;

        for (size_t i = 0; i < t->fds->slots.n; i++) {
                const struct restore_slot *slot = &t->fds->slots.v[i];
                uint32_t flags = fd_flags_of(files, slot->file);

                if (!(flags & O_ASYNC) || flags & O_PATH || slot->file->async_set)
                        continue;
                compel_call(b, "have a descriptor send signals (O_ASYNC)", SYS_fcntl, slot->fd, F_SETFL,
                            flags & (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_ASYNC));
                slot->file->async_set = true;
        }
}
