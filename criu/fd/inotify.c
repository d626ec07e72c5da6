/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * inotify(7). The kernel tells which inodes are watched, not by which paths, and takes paths: irmap.c finds them.
 * Events that are waiting to be read can neither be looked at without taking them nor be put back, so their
 * program has to read them first.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/anon.h"
#include "fd/irmap.h"
#include "macro.h"

#define SET_NEXT_WD _IOW('I', 0, int32_t) /* INOTIFY_IOC_SETNEXTWD, 4.18 */

enum {
        MASK_KNOWN = IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT,
        HANDLE_WORDS = 16, /* that an Fh has at least */
        READ_TRIES = 20,   /* a program that runs is waited for this often ... */
        READ_PAUSE_MS = 5, /* ... and this long to read its events */
};

/* Where programs with watches usually have them, besides their working directories. */
static const char *const hints[] = { "/etc", "/var/log", "/var/spool", "/usr/share", "/run", "/lib/udev" };

static struct irmap_inode inode_of(const struct proc_inotify_watch *w) {
        return (struct irmap_inode){ .sdev = w->sdev, .ino = w->ino, .handle = &w->handle };
}

/* `files` is locked by these two. */
static int get_map(struct dump_files *files, struct irmap **ret) {
        int r = 0;

        if (!files->irmap)
                r = irmap_new(&files->arena, &files->irmap);
        if (r == 0)
                *ret = files->irmap;
        return r;
}

static int find_path(struct dump *d, const struct proc_inotify_watch *w, const char **ret, int *ret_mnt_id) {
        struct irmap_inode inode = inode_of(w);
        struct irmap *map = NULL;
        int r;

        r = get_map(dump_files(d), &map);
        return r < 0 ? r : irmap_find(map, &inode, d->opts->force_irmap, ret, ret_mnt_id);
}

static int scan_for(struct dump *d, const struct proc_inotify_watch *w) {
        const struct option_strings *asked = &d->opts->irmap_scan_path;
        struct irmap_inode inode = inode_of(w);
        struct irmap *map = NULL;
        int r;

        r = get_map(dump_files(d), &map);
        if (r < 0 || (!d->opts->force_irmap && asked->n == 0))
                return r < 0 ? r : -ENOENT;
        r = -ENOENT;
        for (size_t i = 0; r != 0 && i < asked->n; i++)
                r = irmap_scan(map, &inode, asked->v[i]);
        for (size_t i = 0; r != 0 && i < d->nr_tasks; i++) {
                _cleanup_free_ char *cwd = NULL;

                if (proc_readlink(&d->tasks[i]->proc, "cwd", &cwd) == 0)
                        r = irmap_scan(map, &inode, cwd);
        }
        for (size_t i = 0; r != 0 && i < ELEMENTSOF(hints); i++)
                r = irmap_scan(map, &inode, hints[i]);
        return r;
}

static void look_watch(struct fd_probe *p, const struct proc_inotify_watch *w, struct blockers *b) {
        struct dump *d = p->task->dump;
        struct dump_files *files = dump_files(d);
        const char *path;
        int r, mnt_id;

        pthread_mutex_lock(&files->lock);
        r = find_path(d, w, &path, &mnt_id);
        if (r < 0 && scan_for(d, w) == 0)
                r = find_path(d, w, &path, &mnt_id);
        pthread_mutex_unlock(&files->lock);
        if (r == 0)
                return;
        blocker_add(
                b,
                r == -ENODEV
                        ? "Run ckpt where that filesystem is mounted"
                        : "If the file has a name, --force-irmap and --irmap-scan-path DIRECTORY look for it",
                "%s is an inotify instance whose watch %d is on inode %llu of device %u:%u, which %s",
                fd_probe_name(p), w->wd, (unsigned long long)w->ino, w->sdev >> 20, w->sdev & 0xfffff,
                r == -ENODEV ? "ckpt does not see" : "no path is known for: it may have been deleted");
}

/* Bytes of events that wait to be read. */
static int unread(const struct fd_probe *p, int *ret) {
        _cleanup_close_ int fd = fd_probe_get(p);

        if (fd < 0)
                return fd;
        return ioctl(fd, FIONREAD, ret) < 0 ? -errno : 0;
}

static bool is_frozen(const struct dump_task *t) {
        return t->nr_threads > 0 && t->threads[0].stop.stopped;
}

static void look_unread(struct fd_probe *p, struct blockers *b) {
        struct timespec pause = { 0, READ_PAUSE_MS * 1000000L };
        int n = 0;

        for (int try = 0; try < READ_TRIES; try++) {
                if (unread(p, &n) < 0 || n == 0)
                        return;
                if (is_frozen(p->task))
                        break;
                nanosleep(&pause, NULL);
        }
        blocker_add(
                b, "Try again when the program has read them",
                "%s is an inotify instance with events that have not been read yet (%d bytes), which could only be "
                "lost",
                fd_probe_name(p), n);
}

static void inotify_look(struct fd_probe *p, struct blockers *b) {
        if (!anon_look(p, PROC_FDINFO_INOTIFY, b))
                return;
        look_unread(p, b);
        for (size_t i = 0; i < p->info.inotify.n; i++)
                look_watch(p, &p->info.inotify.v[i], b);
}

/* s_dev of the kernel, as the images have it. */
static uint32_t image_dev(uint32_t sdev) {
        uint32_t dev_major = sdev >> 20, dev_minor = sdev & 0xfffff;

        return (dev_minor & 0xff) | dev_major << 8 | (dev_minor & ~0xffU) << 12;
}

static Img__Fh *make_handle(struct arena *a, const struct proc_fhandle *handle, const char *path,
                            int mnt_id) {
        Img__Fh *fh = arena_message(a, Img__Fh, img__fh__init);

        fh->n_handle = MAX((size_t)HANDLE_WORDS, (handle->n + 7) / sizeof(uint64_t));
        fh->handle = arena_new_array(a, uint64_t, fh->n_handle);
        if (handle->known) {
                fh->bytes = handle->n;
                fh->type = (uint32_t)handle->type;
                memcpy(fh->handle, handle->data, handle->n);
        }
        fh->path = arena_strdup(a, path);
        fh->has_mnt_id = mnt_id > 0;
        fh->mnt_id = (uint32_t)mnt_id;
        return fh;
}

static int inotify_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        struct arena *a = &dump_files(d)->arena;
        Img__InotifyFile *msg = arena_message(a, Img__InotifyFile, img__inotify_file__init);
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = anon_dump(d, p, PROC_FDINFO_INOTIFY, &msg->fown, &msg->flags, &fd, err);
        if (r < 0)
                return r;
        msg->id = file->id;
        msg->wd = arena_new_array(a, Img__InotifyWd *, p->info.inotify.n);
        for (size_t i = 0; i < p->info.inotify.n; i++) {
                const struct proc_inotify_watch *w = &p->info.inotify.v[i];
                Img__InotifyWd *wd = arena_message(a, Img__InotifyWd, img__inotify_wd__init);
                const char *path;
                int mnt_id;

                r = find_path(d, w, &path, &mnt_id);
                if (r < 0)
                        return ckpt_error_errno(err, r, "%s: cannot find the path of watch %d",
                                                fd_probe_name(p), w->wd);
                wd->id = file->id;
                wd->i_ino = w->ino;
                wd->mask = w->mask;
                wd->s_dev = image_dev(w->sdev);
                wd->wd = (uint32_t)w->wd;
                wd->f_handle = make_handle(a, &w->handle, path, mnt_id);
                msg->wd[msg->n_wd++] = wd;
        }
        file->msg->ify = msg;
        return 0;
}

/* ---- restore ---- */

static int compare_wd(const void *a, const void *b) {
        const Img__InotifyWd *x = *(Img__InotifyWd *const *)a, *y = *(Img__InotifyWd *const *)b;

        return (x->wd > y->wd) - (x->wd < y->wd);
}

/* Images of other tools may have the handle only, which finds the file as long as it is the same filesystem. */
static int find_by_image(struct arena *keep, Img__InotifyWd *wd) {
        uint32_t dev_major = wd->s_dev >> 8 & 0xfff,
                 dev_minor = (wd->s_dev & 0xff) | (wd->s_dev >> 12 & ~0xffU);
        struct proc_fhandle handle = { .known = wd->f_handle->bytes > 0, .n = wd->f_handle->bytes };
        struct irmap_inode inode = { dev_major << 20 | dev_minor, wd->i_ino, &handle };
        _cleanup_(arena_done) struct arena arena = { 0 };
        struct irmap *map = NULL;
        const char *path;
        int rc, mnt_id;

        handle.type = (int)wd->f_handle->type;
        memcpy(handle.data, wd->f_handle->handle, handle.n);
        rc = irmap_new(&arena, &map);
        if (rc == 0)
                rc = irmap_find(map, &inode, false, &path, &mnt_id);
        if (rc < 0)
                return rc;
        wd->f_handle->path = arena_strdup(keep, path);
        return 0;
}

static int check_watch(struct restore *r, const struct restore_file *file, Img__InotifyWd *wd,
                       struct image_file *image, struct ckpt_error *err) {
        const Img__Fh *fh = wd->f_handle;
        struct stat st;
        int rc;

        if (wd->wd == 0 || wd->wd > INT32_MAX || wd->mask & ~(uint32_t)MASK_KNOWN ||
            !(wd->mask & MASK_KNOWN))
                return image_damaged(image, err, "file %u: watch %u with the mask %#x makes no sense",
                                     file->id, wd->wd, wd->mask);
        if (fh->bytes > PROC_FHANDLE_MAX || fh->bytes > fh->n_handle * sizeof(uint64_t) ||
            fh->type > INT32_MAX)
                return image_damaged(image, err,
                                     "file %u: watch %u has a file handle of %u bytes that it has not",
                                     file->id, wd->wd, fh->bytes);
        if (fh->path && (fh->path[0] != '/' || strlen(fh->path) >= PATH_MAX))
                return image_damaged(image, err, "file %u: watch %u is on what is no absolute path",
                                     file->id, wd->wd);
        if (!fh->path) {
                rc = find_by_image(&r->files->arena, wd);
                if (rc < 0)
                        blocker_add(
                                r->files->blockers, "Restore where the dump was made",
                                "the file that watch %u of an inotify instance is on cannot be found by its handle: %s",
                                wd->wd, strerror(-rc));
        } else if (lstat(fh->path, &st) < 0) {
                blocker_add(r->files->blockers,
                            "Put the files back as they were when the checkpoint was made",
                            errno == ENOENT ? "%s, which is watched by inotify, is missing"
                                            : "%s, which is watched by inotify, cannot be reached: %s",
                            fh->path, strerror(errno));
        }
        return 0;
}

static int inotify_check(struct restore *r, struct restore_file *file, struct image_file *image,
                         struct ckpt_error *err) {
        Img__InotifyFile *msg = file->msg->ify;
        int rc = 0;

        if (msg->n_wd > 0)
                qsort(msg->wd, msg->n_wd, sizeof(*msg->wd), compare_wd);
        for (size_t i = 0; rc == 0 && i < msg->n_wd; i++) {
                rc = check_watch(r, file, msg->wd[i], image, err);
                if (rc == 0 && i > 0 && msg->wd[i - 1]->wd == msg->wd[i]->wd)
                        rc = image_damaged(image, err, "file %u: watch %u is there twice", file->id,
                                           msg->wd[i]->wd);
        }
        return rc < 0 ? rc : anon_check_flags(file, image, msg->flags, 0, err);
}

static int inotify_open(struct restore *r __attribute__((unused)), struct restore_file *file,
                        struct ckpt_error *err) {
        return anon_opened(file, inotify_init1(IN_CLOEXEC), file->msg->ify->flags, err);
}

/* Late, so that the opening of files is no event. The numbers that follow the last are those that would have followed. */
static int inotify_finish(struct restore *r __attribute__((unused)), struct restore_file *file,
                          struct ckpt_error *err) {
        const Img__InotifyFile *msg = file->msg->ify;

        for (size_t i = 0; i < msg->n_wd; i++) {
                const Img__InotifyWd *w = msg->wd[i];
                int wd;

                if (ioctl(file->fd, SET_NEXT_WD, (int32_t)w->wd) < 0)
                        return ckpt_error_errno(err, -errno,
                                                "file %u: cannot choose the number of an inotify watch",
                                                file->id);
                wd = inotify_add_watch(file->fd, w->f_handle->path, w->mask | IN_DONT_FOLLOW);
                if (wd < 0)
                        return ckpt_error_errno(err, -errno, "file %u: cannot watch %s", file->id,
                                                w->f_handle->path);
                if (wd != (int)w->wd)
                        return ckpt_error(
                                err, -EBADMSG,
                                "file %u: %s is watched twice, by watch %d and by %u; it was another file when "
                                "the checkpoint was made",
                                file->id, w->f_handle->path, wd, w->wd);
        }
        return 0;
}

const struct fd_kind fd_kind_inotify = {
        .type = IMG__FD_TYPES__INOTIFY,
        .name = "inotify",
        .link = "anon_inode:inotify",
        .look = inotify_look,
        .dump = inotify_dump,
        .check = inotify_check,
        .open = inotify_open,
        .finish = inotify_finish,
};
