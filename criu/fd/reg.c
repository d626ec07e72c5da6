/* SPDX-License-Identifier: GPL-2.0-only */
/* Files that come back by their path: regular files, directories, a few devices, and anything that is only O_PATH. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/ahead.h"
#include "fd/ghost.h"
#include "fd/kernel_file.h"
#include "fd/kind.h"
#include "fd/linked.h"
#include "log.h"
#include "macro.h"

/* The kernel's bits; glibc defines O_LARGEFILE as 0 on 64-bit machines. */
enum {
        FLAG_LARGEFILE = 0100000,
        FLAG_TMPFILE = 020000000,
        /* What open(2) acts on once, and close-on-exec, which is the descriptor's. */
        FLAGS_ONCE = O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | O_CLOEXEC | FLAG_TMPFILE,
        FLAGS_KNOWN = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_ASYNC | O_DIRECT | FLAG_LARGEFILE |
                      O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_SYNC | O_PATH,
};

/* Devices without a state: /dev/null, zero, full, random, urandom. */
static bool is_plain_device(unsigned int dev_major, unsigned int dev_minor) {
        return dev_major == 1 && (dev_minor == 3 || dev_minor == 5 || (dev_minor >= 7 && dev_minor <= 9));
}

static const char notify_hint[] = "Have the program use inotify, or close the directory";
static const char notified[] = "the program is told by signals (F_NOTIFY), which cannot be checkpointed";

static bool reg_match(struct fd_probe *p) {
        if (p->link[0] != '/')
                return false;
        switch (p->st.stx_mode & S_IFMT) {
        case S_IFREG:
        case S_IFDIR:
                return true;
        case S_IFCHR:
                if (is_plain_device(p->st.stx_rdev_major, p->st.stx_rdev_minor))
                        return true;
                break;
        }
        return fd_probe_flags(p) & O_PATH;
}

/* NFS keeps a file that was removed while open under a name of its own, until it is closed. */
static bool is_silly_renamed(const struct fd_probe *p) {
        const char *base = strrchr(p->link, '/');

        return base && strncmp(base, "/.nfs", 5) == 0 && fd_probe_fs_type(p) == NFS_SUPER_MAGIC;
}

static const char *noun(uint32_t mode) {
        switch (mode & S_IFMT) {
        case S_IFDIR:
                return "directory";
        case S_IFLNK:
                return "symbolic link";
        case S_IFCHR:
        case S_IFBLK:
                return "device";
        case S_IFIFO:
                return "named pipe";
        case S_IFSOCK:
                return "socket";
        default:
                return "file";
        }
}

static bool is_named_so(const struct fd_probe *p) {
        struct statx st;

        return statx(AT_FDCWD, p->link, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_INO, &st) == 0 &&
               st.stx_ino == p->st.stx_ino && statx_dev(&st) == statx_dev(&p->st);
}

static bool leads_elsewhere(const struct fd_probe *p) {
        struct fd_probe now = *p;
        char link[PATH_MAX];

        now.link_buf = link;
        return fd_probe_path(&now) < 0 || strcmp(now.link, p->link) != 0 ||
               now.st.stx_ino != p->st.stx_ino || now.st.stx_nlink != p->st.stx_nlink ||
               statx_dev(&now.st) != statx_dev(&p->st);
}

/*
 * Does it lead somewhere else by now, or has it its name again? While the tree is only looked at, its descriptors,
 * directories and names change, and what was read of one may be of two files. It is looked at again when it has been
 * stopped. Several times, because what is renamed to and fro may have the one name at each look, and the other between.
 */
static bool has_moved_on(const struct fd_probe *p) {
        for (int i = 0; i < 8; i++)
                if ((!is_silly_renamed(p) && is_named_so(p)) || leads_elsewhere(p))
                        return true;
        return false;
}

bool reg_path_leads_there(struct fd_probe *p, struct blockers *b, struct statx *ret) {
        static const char suffix[] = " (deleted)";
        size_t len = strlen(p->link), tail = sizeof(suffix) - 1;
        struct statx st;
        int r;

        if (p->has_path_st)
                st = p->path_st;
        r = p->has_path_st ? 0
                           : statx(AT_FDCWD, p->link, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                                   STATX_BASIC_STATS, &st);
        if (r == 0 && st.stx_ino == p->st.stx_ino && statx_dev(&st) == statx_dev(&p->st) &&
            !is_silly_renamed(p)) {
                *ret = st;
                return !kernel_file_is(p) || kernel_file_look(p, b);
        }
        if (kernel_file_is_unhashed(p)) {
                *ret = p->st;
                return kernel_file_look(p, b);
        }
        if (kernel_file_is(p)) {
                blocker_add(b, "Have the program close it", "%s is %s, which is not there any more",
                            fd_probe_name(p), p->link);
                return false;
        }
        if (ghost_is(p)) {
                *ret = p->st;
                return ghost_look(p, b);
        }
        if (linked_is(p) && !is_silly_renamed(p)) {
                *ret = p->st;
                return linked_look(p, b);
        }
        if (has_moved_on(p))
                return false;
        if (len > tail && strcmp(p->link + len - tail, suffix) == 0)
                len -= tail;
        if (p->st.stx_nlink == 0 || len < strlen(p->link) || is_silly_renamed(p))
                blocker_add(
                        b,
                        "Have the program close it, or restart the program so that it opens what is there now",
                        "%s is the deleted %s %.*s, which cannot be checkpointed yet", fd_probe_name(p),
                        noun(p->st.stx_mode), (int)len, p->link);
        else if (r < 0)
                blocker_add(b, NULL, "%s is the %s %s, but there is nothing under that name: %s",
                            fd_probe_name(p), noun(p->st.stx_mode), p->link, strerror(errno));
        else
                blocker_add(b, "Move or unmount what took its place",
                            "%s is the %s %s, but another %s has that name now, by a mount or a rename",
                            fd_probe_name(p), noun(p->st.stx_mode), p->link, noun(st.stx_mode));
        return false;
}

/* Nothing tells what F_NOTIFY has asked for, but it gives the descriptor an owner, and for a directory nothing else needs one. */
static void look_notify(const struct fd_probe *p, struct blockers *b) {
        _cleanup_close_ int fd = fd_probe_get(p);
        struct f_owner_ex owner = { 0 };

        if (fd >= 0 && fcntl(fd, F_GETOWN_EX, &owner) == 0 && owner.pid != 0)
                blocker_add(b, notify_hint, "%s is a directory of whose changes %s", fd_probe_name(p),
                            notified);
}

static void reg_look(struct fd_probe *p, struct blockers *b) {
        struct statx st;

        if (p->fd >= 0 && S_ISREG(p->st.stx_mode))
                files_note_ancestors(p->task->dump);
        if (p->fd >= 0 && S_ISDIR(p->st.stx_mode))
                look_notify(p, b);
        if (reg_path_leads_there(p, b, &st))
                lock_look(p, b);
}

/* Of what is only appended to, nobody sees it. */
static void warn_of_position(const struct fd_probe *p, uint32_t flags) {
        pid_t outside = 0;

        if (S_ISREG(p->st.stx_mode) && !(flags & O_PATH) &&
            (flags & (O_APPEND | O_ACCMODE)) != (O_APPEND | O_WRONLY))
                outside = position_foreign_holder(p);
        if (outside > 0)
                log_warn(
                        "%s: its position in %s is also that of pid %d, outside of the tree; after a restore, each has "
                        "its own",
                        fd_probe_name(p), p->link, outside);
}

void reg_fill(struct dump_files *files, Img__RegFile *reg, uint32_t id, const char *path, uint32_t flags,
              uint64_t pos, const struct statx *st, Img__Fown *fown) {
        img__reg_file__init(reg);
        reg->id = id;
        reg->flags = flags;
        reg->pos = pos;
        reg->fown = fown;
        reg->name = arena_strdup(&files->arena, path);
        reg->has_mode = true;
        reg->mode = st->stx_mode;
        if (S_ISREG(st->stx_mode)) {
                reg->has_size = true;
                reg->size = st->stx_size;
        }
}

static int reg_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        struct dump_files *files = dump_files(d);
        Img__Fown *fown = arena_message(&files->arena, Img__Fown, img__fown__init);
        uint32_t flags = fd_probe_flags(p);
        uint64_t pos = p->info.pos > 0 && !(flags & O_PATH) ? (uint64_t)p->info.pos : 0;
        int r = 0;

        if (!(flags & O_PATH)) /* that forbids F_GETOWN_EX, so there is no owner */
                r = fown_dump_probe(p, -EBADF, fown, err);
        if (r < 0)
                return r;
        if (S_ISDIR(p->st.stx_mode) && fown->pid != 0) {
                ckpt_error(err, -ENOTSUP, "%s is a directory of whose changes %s; the tree runs on",
                           fd_probe_name(p), notified);
                return ckpt_error_hint(err, "%s", notify_hint);
        }
        warn_of_position(p, flags);
        file->msg->reg = arena_new(&files->arena, Img__RegFile);
        reg_fill(files, file->msg->reg, file->id, ghost_path(&files->arena, p), flags, pos, &p->st, fown);
        if (kernel_file_is(p))
                file->msg->reg->has_size = false; /* the kernel's idea of a size */
        ghost_note(files, p, file->id);
        linked_note(files, p, file->id);
        return 0;
}

/* ---- restore ---- */

static int reg_check(struct restore *r, struct restore_file *file, struct image_file *image,
                     struct ckpt_error *err) {
        const Img__RegFile *reg = file->msg->reg;

        if (reg->name[0] != '/' || strlen(reg->name) >= PATH_MAX)
                return image_damaged(image, err, "file %u has a name that is no absolute path", file->id);
        if (reg->pos > INT64_MAX)
                return image_damaged(image, err, "file %u stands at the impossible offset %llu", file->id,
                                     (unsigned long long)reg->pos);
        if (file->ghost)
                return ghost_check(file, image, err);
        if (!linked_has(r->files, file->id) && !kernel_file_of_tree(r, reg->name))
                ahead_check(r, reg);
        return 0;
}

static bool differs(const Img__RegFile *reg, const struct stat *st) {
        return reg->has_mode && (reg->mode & S_IFMT) != 0 && (reg->mode & S_IFMT) != (st->st_mode & S_IFMT);
}

void reg_check_path(struct restore *r, const Img__RegFile *reg, struct near_dir *near) {
        struct blockers *b = r->files->blockers;
        bool link = (reg->flags & O_PATH) && (reg->flags & O_NOFOLLOW);
        const char *path;
        struct stat st;
        int dir;

        if (reg->has_ext && reg->ext) {
                blocker_add(
                        b, NULL,
                        "%s is to be supplied by the caller (--external file[...]), which is not supported yet",
                        reg->name);
                return;
        }
        dir = near_dir_find(near, reg->name, &path);
        if (fstatat(dir, path, &st, link ? AT_SYMLINK_NOFOLLOW : 0) < 0) {
                blocker_add(b, "Put the files back as they were when the checkpoint was made",
                            errno == ENOENT ? "%s %s is missing" : "%s %s cannot be reached: %s",
                            noun(reg->has_mode ? reg->mode : 0), reg->name, strerror(errno));
                return;
        }
        if (differs(reg, &st))
                blocker_add(b, "Put the files back as they were when the checkpoint was made",
                            "%s is a %s now, it was a %s", reg->name, noun(st.st_mode), noun(reg->mode));
        else if ((S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) && !(reg->flags & O_PATH) &&
                 !(S_ISCHR(st.st_mode) && is_plain_device(major(st.st_rdev), minor(st.st_rdev))))
                blocker_add(b, NULL, "%s is a device that ckpt does not know", reg->name);
        else if (reg->has_size && S_ISREG(st.st_mode) && (uint64_t)st.st_size != reg->size)
                blocker_add(b, "Put the files back as they were when the checkpoint was made",
                            "file %s has %lld bytes, it had %llu", reg->name, (long long)st.st_size,
                            (unsigned long long)reg->size);
        else if (reg->has_mode && !r->opts->skip_file_rwx_check && ((reg->mode ^ st.st_mode) & 0777) != 0)
                blocker_add(b, "Use --skip-file-rwx-check to accept files with other permissions",
                            "%s %s has the permissions %04o, it had %04o", noun(st.st_mode), reg->name,
                            st.st_mode & 0777, reg->mode & 0777);
}

static int open_exactly_at(int dir, const char *path, uint32_t flags) {
        struct open_how how = { .flags = flags & FLAGS_KNOWN & ~(uint32_t)(FLAGS_ONCE | O_ASYNC) };
        int fd;

        if (how.flags & O_PATH)
                how.flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW;
        /* openat(2) would add O_LARGEFILE, openat2(2) takes flags as they are. */
        how.flags |= O_CLOEXEC;
        fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
        return fd < 0 ? -errno : fd;
}

int fd_open_exactly(const char *path, uint32_t flags) {
        return open_exactly_at(AT_FDCWD, path, flags);
}

int reg_take(struct restore_file *file, int taken, struct ckpt_error *err) {
        const Img__RegFile *reg = file->msg->reg;
        _cleanup_close_ int fd = taken;

        if (reg->pos > 0 && !(reg->flags & O_PATH)) {
                off_t at = lseek(fd, (off_t)reg->pos, SEEK_SET);

                /* Devices that cannot be moved in were not, and the kernel's answers may have become shorter. */
                if (at != (off_t)reg->pos && !(reg->has_mode && S_ISCHR(reg->mode)) &&
                    !kernel_file_name(reg->name))
                        return ckpt_error_errno(err, at < 0 ? -errno : -EIO,
                                                "cannot move to offset %llu of %s",
                                                (unsigned long long)reg->pos, reg->name);
        }
        file->fd = TAKE_FD(fd);
        return 0;
}

static int open_at(struct restore_file *file, int dir, const char *path, struct ckpt_error *err) {
        const Img__RegFile *reg = file->msg->reg;
        bool file_proper = reg->has_mode && S_ISREG(reg->mode);
        int fd;

        /* A file of O_TMPFILE keeps the O_DIRECTORY that is part of it. */
        fd = open_exactly_at(dir, path, file_proper ? reg->flags & ~(uint32_t)O_DIRECTORY : reg->flags);
        if (fd < 0)
                return ckpt_error_errno(err, fd, "cannot open %s %s", noun(reg->has_mode ? reg->mode : 0),
                                        reg->name);
        return reg_take(file, fd, err);
}

int reg_open_at(struct restore_file *file, const char *path, struct ckpt_error *err) {
        return open_at(file, AT_FDCWD, path, err);
}

int reg_open_again(struct restore *r, const struct restore_file *file, uint32_t flags,
                   struct ckpt_error *err) {
        const char *path = file->msg->reg->name;
        char by_fd[32];
        int fd, rc;

        if (file->ghost) {
                rc = ghost_open(r, file->ghost, &fd, err);
                if (rc < 0)
                        return rc;
                snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", fd);
                path = by_fd;
                flags &= ~(uint32_t)O_NOFOLLOW;
        }
        fd = file->link ? linked_open(file, flags) : fd_open_exactly(path, flags);
        return fd < 0 ? ckpt_error_errno(err, fd, "cannot open %s", file->msg->reg->name) : fd;
}

static int reg_open(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        int fd;

        if (!file->ghost && !file->link)
                return reg_open_at(file, file->msg->reg->name, err);
        if (file->ghost) {
                fd = ghost_open(r, file->ghost, &fd, err);
                if (fd < 0 || file->fd >= 0)
                        return fd < 0 ? fd : 0;
        }
        fd = reg_open_again(r, file, file->msg->reg->flags, err);
        return fd < 0 ? fd : reg_take(file, fd, err);
}

/* Deleted files are found by what the tree has open. */
static bool reg_ahead(struct restore *r __attribute__((unused)), struct restore_file *file,
                      struct near_dir *near) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        const char *path;
        int dir;

        if (file->ghost || file->link)
                return false;
        dir = near_dir_find(near, file->msg->reg->name, &path);
        return open_at(file, dir, path, &err) == 0;
}

const struct fd_kind fd_kind_reg = {
        .type = IMG__FD_TYPES__REG,
        .name = "file",
        .match = reg_match,
        .look = reg_look,
        .dump = reg_dump,
        .check = reg_check,
        .ahead = reg_ahead,
        .open = reg_open,
};
