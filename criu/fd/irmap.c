/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/irmap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "proc/mountinfo.h"

#ifndef AT_HANDLE_FID /* 6.5 */
#define AT_HANDLE_FID 0x200
#endif

enum {
        BUCKETS = 1024,
        DEPTH_MAX = 64,
        ENTRIES_MAX = 4 * 1024 * 1024, /* of a scan */
};

struct known {
        struct known *next;
        uint32_t sdev;
        uint64_t ino;
        struct statx st; /* of the path, when it was found */
        const char *path;
};

struct mount {
        int id;
        uint32_t sdev;
        const char *mountpoint;
};

struct irmap {
        struct arena *arena;
        struct known *known[BUCKETS];
        struct mount *mounts;
        size_t nr_mounts;
};

struct handle {
        struct file_handle head;
        unsigned char data[PROC_FHANDLE_MAX];
};

int irmap_new(struct arena *arena, struct irmap **ret) {
        _cleanup_(proc_mount_vec_done) struct proc_mount_vec mounts = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        struct irmap *map;
        int r;

        r = proc_open(getpid(), &self);
        if (r == 0)
                r = proc_mountinfo_read(&self, &buf, &mounts);
        if (r < 0)
                return r;
        map = arena_new(arena, struct irmap);
        map->arena = arena;
        map->mounts = arena_new_array(arena, struct mount, mounts.n);
        for (size_t i = 0; i < mounts.n; i++)
                map->mounts[map->nr_mounts++] = (struct mount){
                        .id = mounts.v[i].id,
                        .sdev = mounts.v[i].dev_major << 20 | (mounts.v[i].dev_minor & 0xfffff),
                        .mountpoint = arena_strdup(arena, mounts.v[i].mountpoint),
                };
        *ret = map;
        return 0;
}

static int stat_path(int dirfd, const char *path, int flags, struct statx *ret) {
        flags |= AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
        return statx(dirfd, path, flags, STATX_TYPE | STATX_INO | STATX_MNT_ID, ret) < 0 ? -errno : 0;
}

static bool same_file(const struct statx *a, const struct statx *b) {
        return a->stx_ino == b->stx_ino && a->stx_dev_major == b->stx_dev_major &&
               a->stx_dev_minor == b->stx_dev_minor;
}

/* Of the superblock, which stat(2) does not always tell (btrfs, overlayfs). */
static bool is_on(const struct irmap *map, const struct statx *st, uint32_t sdev) {
        for (size_t i = 0; st->stx_mask & STATX_MNT_ID && i < map->nr_mounts; i++)
                if (map->mounts[i].id == (int)st->stx_mnt_id)
                        return map->mounts[i].sdev == sdev;
        return (st->stx_dev_major << 20 | st->stx_dev_minor) == sdev;
}

static void remember(struct irmap *map, const struct irmap_inode *inode, const struct statx *st,
                     const char *path) {
        struct known *k = arena_new(map->arena, struct known);

        *k = (struct known){
                .next = map->known[inode->ino % BUCKETS],
                .sdev = inode->sdev,
                .ino = inode->ino,
                .st = *st,
                .path = arena_strdup(map->arena, path),
        };
        map->known[inode->ino % BUCKETS] = k;
}

static const struct known *recall(const struct irmap *map, const struct irmap_inode *inode) {
        for (const struct known *k = map->known[inode->ino % BUCKETS]; k; k = k->next) {
                struct statx st;

                if (k->ino == inode->ino && k->sdev == inode->sdev &&
                    stat_path(AT_FDCWD, k->path, 0, &st) == 0 && same_file(&st, &k->st))
                        return k;
        }
        return NULL;
}

/* ---- by handle ---- */

/*
 * A descriptor on the filesystem, for open_by_handle_at(2); O_PATH does not do, and anything else is an event for
 * who watches that directory: so ckpt's working directory, if it will do.
 */
static int open_near(struct irmap *map, uint32_t sdev, int *ret) {
        struct statx st;

        if (stat_path(AT_FDCWD, ".", 0, &st) == 0 && is_on(map, &st, sdev)) {
                *ret = AT_FDCWD;
                return 0;
        }
        for (size_t i = 0; i < map->nr_mounts; i++) {
                _cleanup_close_ int fd = -EBADF;

                if (map->mounts[i].sdev != sdev)
                        continue;
                /* It may be hidden below a later mount, and it may be no directory. */
                if (stat_path(AT_FDCWD, map->mounts[i].mountpoint, 0, &st) < 0 || !is_on(map, &st, sdev) ||
                    (!S_ISDIR(st.stx_mode) && !S_ISREG(st.stx_mode)))
                        continue;
                fd = open(map->mounts[i].mountpoint, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0)
                        continue;
                *ret = TAKE_FD(fd);
                return 0;
        }
        return -ENODEV;
}

static int open_handle(struct irmap *map, const struct irmap_inode *inode) {
        struct handle h = { .head = { .handle_bytes = inode->handle->n,
                                      .handle_type = inode->handle->type } };
        int near, fd, r;

        if (!inode->handle->known || inode->handle->n > sizeof(h.data))
                return -EOPNOTSUPP;
        memcpy(h.head.f_handle, inode->handle->data, inode->handle->n);
        r = open_near(map, inode->sdev, &near);
        if (r < 0)
                return r;
        fd = open_by_handle_at(near, &h.head, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        r = fd < 0 ? -errno : fd;
        safe_close(near);
        if (r == -ESTALE)
                return -ENOENT;
        return r == -EINVAL || r == -ENOSYS || r == -EOVERFLOW ? -EOPNOTSUPP : r;
}

/* A file whose name nobody has asked for since it was read from disk has none; then the path does not lead there. */
static int find_by_handle(struct irmap *map, const struct irmap_inode *inode) {
        char link[32], path[PATH_MAX];
        _cleanup_close_ int fd = open_handle(map, inode);
        struct statx st, there;
        ssize_t n;
        int r;

        if (fd < 0)
                return fd;
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path) - 1);
        if (n <= 0 || path[0] != '/')
                return -ENOENT;
        path[n] = 0;
        r = stat_path(fd, "", AT_EMPTY_PATH, &there);
        if (r == 0)
                r = stat_path(AT_FDCWD, path, 0, &st);
        if (r < 0 || !same_file(&st, &there))
                return -ENOENT;
        remember(map, inode, &st, path);
        return 0;
}

int irmap_find(struct irmap *map, const struct irmap_inode *inode, bool scan_only, const char **ret,
               int *ret_mnt_id) {
        const struct known *k = recall(map, inode);
        int r;

        if (!k && scan_only)
                return -ENOENT;
        if (!k) {
                r = find_by_handle(map, inode);
                if (r < 0)
                        return r;
                k = recall(map, inode);
                if (!k)
                        return -ENOENT;
        }
        *ret = k->path;
        *ret_mnt_id = k->st.stx_mask & STATX_MNT_ID ? (int)k->st.stx_mnt_id : 0;
        return 0;
}

/* ---- by name ---- */

struct scan {
        struct irmap *map;
        const struct irmap_inode *inode;
        uint64_t mnt_id;
        size_t left; /* entries that may still be looked at */
        char path[PATH_MAX];
};

/* The handle is as fdinfo shows it; where there is none, the number has to do. */
static bool is_wanted(const struct scan *s, int dirfd, const char *name, const struct statx *st) {
        struct handle h = { .head.handle_bytes = sizeof(h.data) };
        int mnt_id, r;

        if (!is_on(s->map, st, s->inode->sdev))
                return false;
        if (!s->inode->handle->known)
                return st->stx_ino == s->inode->ino;
        r = name_to_handle_at(dirfd, name, &h.head, &mnt_id, AT_HANDLE_FID);
        if (r < 0 && errno == EINVAL) {
                h.head.handle_bytes = sizeof(h.data);
                r = name_to_handle_at(dirfd, name, &h.head, &mnt_id, 0);
        }
        if (r < 0)
                return st->stx_ino == s->inode->ino;
        return h.head.handle_bytes == s->inode->handle->n && h.head.handle_type == s->inode->handle->type &&
               memcmp(h.head.f_handle, s->inode->handle->data, h.head.handle_bytes) == 0;
}

static int scan_directory(struct scan *s, int dirfd, size_t len, unsigned int depth);

static int scan_entry(struct scan *s, int dirfd, const char *name, size_t len, unsigned int depth) {
        size_t add = strlen(name);
        struct statx st;
        int sub;

        if (s->left-- == 0)
                return -E2BIG;
        if (len + 1 + add >= sizeof(s->path))
                return -ENOENT;
        if (stat_path(dirfd, name, 0, &st) < 0 || (st.stx_mask & STATX_MNT_ID && st.stx_mnt_id != s->mnt_id))
                return -ENOENT;
        s->path[len] = '/';
        memcpy(s->path + len + 1, name, add + 1);
        /* Where the numbers of stat(2) are not those of inodes (overlayfs) handles tell; else they are cheaper. */
        if ((st.stx_ino == s->inode->ino ||
             !is_on(s->map, &st, st.stx_dev_major << 20 | st.stx_dev_minor)) &&
            is_wanted(s, dirfd, name, &st)) {
                remember(s->map, s->inode, &st, s->path);
                return 0;
        }
        if (!S_ISDIR(st.stx_mode) || depth >= DEPTH_MAX)
                return -ENOENT;
        sub = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
        return sub < 0 ? -ENOENT : scan_directory(s, sub, len + 1 + add, depth + 1);
}

/* Takes dirfd over. */
static int scan_directory(struct scan *s, int dirfd, size_t len, unsigned int depth) {
        _cleanup_closedir_ DIR *dir = fdopendir(dirfd);
        const struct dirent *e;
        int r = -ENOENT;

        if (!dir) {
                close(dirfd);
                return -ENOENT;
        }
        while (r == -ENOENT && (e = readdir(dir)))
                if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                        r = scan_entry(s, dirfd, e->d_name, len, depth);
        return r;
}

int irmap_scan(struct irmap *map, const struct irmap_inode *inode, const char *directory) {
        struct scan s = { .map = map, .inode = inode, .left = ENTRIES_MAX };
        size_t len = strlen(directory);
        struct statx st;
        int fd, r;

        while (len > 0 && directory[len - 1] == '/')
                len--;
        if (directory[0] != '/' || len >= sizeof(s.path))
                return -EINVAL;
        memcpy(s.path, directory, len);
        s.path[len] = 0;
        r = stat_path(AT_FDCWD, len > 0 ? s.path : "/", 0, &st);
        if (r < 0)
                return r;
        s.mnt_id = st.stx_mnt_id;
        if (is_wanted(&s, AT_FDCWD, len > 0 ? s.path : "/", &st)) {
                remember(map, inode, &st, len > 0 ? s.path : "/");
                return 0;
        }
        if (!S_ISDIR(st.stx_mode) || !is_on(map, &st, inode->sdev))
                return -ENOENT;
        fd = open(len > 0 ? s.path : "/", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return scan_directory(&s, fd, len, 0);
}
