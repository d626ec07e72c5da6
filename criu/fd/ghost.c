/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/ghost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/kernel_file.h"
#include "fd/linked.h"
#include "image/image.h"
#include "images/remap-file-path.pb-c.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "log.h"
#include "macro.h"

enum { COPY_SIZE = 1 << 20 };

static const char suffix[] = " (deleted)";

/* An inode. */
struct dump_ghost {
        struct dump_ghost *next;
        uint32_t id;
        struct statx st;
        const struct proc_dir *proc;
        const char *where; /* below proc: leads to it */
};

/* A RegFile that is one. */
struct ghost_user {
        struct ghost_user *next;
        uint32_t file_id;
        const struct dump_ghost *ghost;
};

struct dump_ghosts {
        struct dump_ghost *list;
        struct ghost_user *users;
        uint32_t last_id;
};

static bool has_suffix(const char *path) {
        size_t len = strlen(path), tail = sizeof(suffix) - 1;

        return len > tail && strcmp(path + len - tail, suffix) == 0;
}

bool ghost_is(const struct fd_probe *p) {
        return p->st.stx_nlink == 0 && p->link[0] == '/' && has_suffix(p->link);
}

/* Whose changes nobody would see any more. */
static bool is_held_outside(const struct fd_probe *p, struct blockers *b) {
        pid_t outside = ghost_foreign_holder(p);

        if (outside > 0)
                blocker_add(
                        b, "Include that process in the tree, or end it",
                        "%s is the deleted file %.*s, which pid %d outside of the tree has open or mapped, too",
                        fd_probe_name(p), (int)(strlen(p->link) - (sizeof(suffix) - 1)), p->link, outside);
        return outside > 0;
}

bool ghost_look(const struct fd_probe *p, struct blockers *b) {
        uint64_t size = p->st.stx_blocks * 512, limit = p->task->dump->opts->ghost_limit;

        if (!S_ISREG(p->st.stx_mode) && !S_ISDIR(p->st.stx_mode) && !S_ISFIFO(p->st.stx_mode)) {
                blocker_add(b, "Have the program close it",
                            "%s is %s, which is neither a file nor a directory, and cannot be made again",
                            fd_probe_name(p), p->link);
                return false;
        }
        if (fd_probe_fs_type(p) == HUGETLBFS_MAGIC) {
                blocker_add(b, "Have the program close it",
                            "%s is the deleted file %.*s of hugetlbfs, which cannot be written again",
                            fd_probe_name(p), (int)(strlen(p->link) - (sizeof(suffix) - 1)), p->link);
                return false;
        }
        if (S_ISREG(p->st.stx_mode) && size > limit) {
                blocker_add(
                        b, "Use --ghost-limit SIZE to save larger ones, or restart the program",
                        "%s has the deleted file %.*s open, whose %llu bytes are more than the limit of %llu",
                        dump_task_name(p->task), (int)(strlen(p->link) - (sizeof(suffix) - 1)), p->link,
                        (unsigned long long)size, (unsigned long long)limit);
                return false;
        }
        return !S_ISREG(p->st.stx_mode) || !is_held_outside(p, b);
}

char *ghost_path(struct arena *a, const struct fd_probe *p) {
        char *path = arena_strdup(a, p->link);

        if (ghost_is(p) || linked_is(p) || kernel_file_is_unhashed(p))
                path[strlen(path) - (sizeof(suffix) - 1)] = 0;
        return path;
}

static bool is_same(const struct dump_ghost *g, const struct statx *st) {
        return g->st.stx_ino == st->stx_ino && statx_dev(&g->st) == statx_dev(st);
}

void ghost_note(struct dump_files *files, const struct fd_probe *p, uint32_t id) {
        struct dump_ghosts *ghosts = files->ghosts;
        struct ghost_user *user;
        struct dump_ghost *g;

        if (!ghost_is(p))
                return;
        if (!ghosts)
                files->ghosts = ghosts = arena_new(&files->arena, struct dump_ghosts);
        for (g = ghosts->list; g && !is_same(g, &p->st); g = g->next)
                ;
        if (!g) {
                g = arena_new(&files->arena, struct dump_ghost);
                *g = (struct dump_ghost){
                        .next = ghosts->list,
                        .id = ++ghosts->last_id,
                        .st = p->st,
                        .proc = p->proc,
                        .where = arena_strdup(&files->arena, p->where),
                };
                ghosts->list = g;
        }
        user = arena_new(&files->arena, struct ghost_user);
        *user = (struct ghost_user){ .next = ghosts->users, .file_id = id, .ghost = g };
        ghosts->users = user;
}

/* ---- contents ---- */

static int copy_range(int fd, uint64_t from, uint64_t to, char *buf, struct image_file *image,
                      struct ckpt_error *err) {
        while (from < to) {
                size_t n = (size_t)MIN(to - from, (uint64_t)COPY_SIZE);
                ssize_t got = pread_full(fd, buf, n, (off_t)from);
                int r;

                if (got != (ssize_t)n)
                        return ckpt_error_errno(err, got < 0 ? (int)got : -EIO,
                                                "a deleted file cannot be read at %llu",
                                                (unsigned long long)from);
                r = image_write_raw(image, buf, n, err);
                if (r < 0)
                        return r;
                from += n;
        }
        return 0;
}

/*
 * The next part that is no hole; false: none. Filesystems that know of none call all of it one part, and so is what they
 * cannot tell about: reading it will show.
 */
static bool next_data(int fd, uint64_t from, uint64_t size, uint64_t *ret_from, uint64_t *ret_to) {
        off_t data = lseek(fd, (off_t)from, SEEK_DATA), hole;

        if (data < 0 && errno != ENXIO)
                data = (off_t)from;
        if (data < 0 || (uint64_t)data >= size)
                return false;
        hole = lseek(fd, data, SEEK_HOLE);
        *ret_from = (uint64_t)data;
        *ret_to = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
        return true;
}

/* The same by fiemap; its parts are extents, several of which may follow each other without a hole. */
static bool next_extent(int fd, uint64_t from, uint64_t size, uint64_t *ret_from, uint64_t *ret_to) {
        struct {
                struct fiemap map;
                struct fiemap_extent extent;
        } request;
        const struct fiemap_extent *e = &request.extent;

        for (uint64_t at = from; at < size; at = e->fe_logical + e->fe_length) {
                request.map = (struct fiemap){ .fm_start = at,
                                               .fm_length = size - at,
                                               .fm_flags = FIEMAP_FLAG_SYNC,
                                               .fm_extent_count = 1 };
                if (ioctl(fd, FS_IOC_FIEMAP, &request) < 0)
                        return next_data(fd, at, size, ret_from, ret_to);
                if (request.map.fm_mapped_extents == 0 || e->fe_logical >= size || e->fe_length == 0)
                        return false;
                if (e->fe_flags & FIEMAP_EXTENT_UNWRITTEN)
                        continue;
                *ret_from = MAX(e->fe_logical, at);
                *ret_to = MIN(e->fe_logical + e->fe_length, size);
                return true;
        }
        return false;
}

typedef bool (*find_data)(int fd, uint64_t from, uint64_t size, uint64_t *ret_from, uint64_t *ret_to);

static int save_data(int fd, find_data next, Img__GhostFile *msg, struct image_file *image,
                     struct ckpt_error *err) {
        _cleanup_free_ char *buf = malloc(COPY_SIZE);
        uint64_t from = 0, to = 0;
        int r;

        ckpt_assert(buf);
        msg->has_chunks = true;
        msg->chunks = msg->size > 0 && (!next(fd, 0, msg->size, &from, &to) || from > 0 || to < msg->size);
        r = image_write(image, &msg->base, err);
        if (r < 0 || !msg->chunks)
                return r < 0 ? r : copy_range(fd, 0, msg->size, buf, image, err);
        for (uint64_t at = 0; r == 0 && next(fd, at, msg->size, &from, &to); at = to) {
                Img__GhostChunk chunk = IMG__GHOST_CHUNK__INIT;

                chunk.off = from;
                chunk.len = to - from;
                r = image_write(image, &chunk.base, err);
                if (r == 0)
                        r = copy_range(fd, from, to, buf, image, err);
        }
        return r;
}

static uint32_t image_dev(const struct statx *st) {
        return (st->stx_dev_minor & 0xff) | st->stx_dev_major << 8 | (st->stx_dev_minor & ~0xffU) << 12;
}

static Img__Timeval timeval_of(const struct statx_timestamp *ts) {
        Img__Timeval tv = IMG__TIMEVAL__INIT;

        tv.tv_sec = (uint64_t)ts->tv_sec;
        tv.tv_usec = ts->tv_nsec / 1000;
        return tv;
}

/* Of labels of security modules, the new file gets its own. */
static bool is_label(const char *name) {
        return strncmp(name, XATTR_SECURITY_PREFIX, XATTR_SECURITY_PREFIX_LEN) == 0 &&
               strcmp(name, XATTR_NAME_CAPS) != 0;
}

static int read_xattr(const char *path, const char *name, struct arena *a, Img__GhostXattr **ret) {
        Img__GhostXattr *msg = arena_message(a, Img__GhostXattr, img__ghost_xattr__init);
        ssize_t n;

        msg->name = arena_strdup(a, name);
        n = getxattr(path, name, NULL, 0);
        if (n < 0)
                return -errno;
        msg->value.data = arena_new_array(a, uint8_t, (size_t)n + 1);
        n = getxattr(path, name, msg->value.data, (size_t)n);
        msg->value.len = n < 0 ? 0 : (size_t)n;
        *ret = msg;
        return n < 0 ? -errno : 0;
}

static int read_xattrs(struct dump *d, const struct dump_ghost *g, Img__GhostFile *msg) {
        _cleanup_close_ int fd = proc_openat(g->proc, g->where, O_PATH);
        struct arena *a = &dump_files(d)->arena;
        _cleanup_free_ char *names = NULL;
        char path[32];
        ssize_t size;
        size_t n = 0;
        int r = 0;

        if (fd < 0)
                return fd;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        size = listxattr(path, NULL, 0);
        if (size <= 0)
                return size == 0 || errno == EOPNOTSUPP ? 0 : -errno;
        names = calloc(1, (size_t)size + 1);
        ckpt_assert(names);
        size = listxattr(path, names, (size_t)size);
        if (size < 0)
                return -errno;
        msg->xattrs = arena_new_array(a, Img__GhostXattr *, (size_t)size);
        for (const char *name = names; r == 0 && name < names + size; name += strlen(name) + 1)
                if (!is_label(name))
                        r = read_xattr(path, name, a, &msg->xattrs[n++]);
        msg->n_xattrs = n;
        return r;
}

static int save_ghost(struct dump *d, const struct dump_ghost *g, struct ckpt_error *err) {
        Img__Timeval atim = timeval_of(&g->st.stx_atime), mtim = timeval_of(&g->st.stx_mtime);
        _cleanup_image_file_ struct image_file *image = NULL;
        Img__GhostFile msg = IMG__GHOST_FILE__INIT;
        _cleanup_close_ int fd = -EBADF;
        int r;

        msg.uid = g->st.stx_uid;
        msg.gid = g->st.stx_gid;
        msg.mode = g->st.stx_mode;
        msg.has_dev = msg.has_ino = true;
        msg.dev = image_dev(&g->st);
        msg.ino = g->st.stx_ino;
        msg.atim = &atim;
        msg.mtim = &mtim;
        r = S_ISLNK(g->st.stx_mode) ? 0 : read_xattrs(d, g, &msg);
        if (r < 0)
                return ckpt_error_errno(
                        err, r, "pid %d: cannot read the extended attributes of its deleted file (%s)",
                        g->proc->pid, g->where);
        if (S_ISREG(g->st.stx_mode)) {
                msg.has_size = true;
                msg.size = g->st.stx_size;
                fd = proc_openat(g->proc, g->where, O_RDONLY | O_NOATIME);
                if (fd < 0)
                        return ckpt_error_errno(err, fd, "pid %d: cannot open its deleted file (%s)",
                                                g->proc->pid, g->where);
        }
        r = fault_point_error(FAULT_DUMP_WRITE_IMAGE, err);
        if (r == 0)
                r = image_open_write(d->set, IMAGE_GHOST_FILE, g->id, &image, err);
        if (r == 0)
                r = S_ISREG(g->st.stx_mode) ? save_data(fd, d->opts->ghost_fiemap ? next_extent : next_data,
                                                        &msg, image, err)
                                            : image_write(image, &msg.base, err);
        if (r < 0)
                return ckpt_error_prefix(err, "pid %d: %s", g->proc->pid, g->where);
        return image_close(TAKE_PTR(image), err);
}

int ghost_save(struct dump *d, struct ckpt_error *err) {
        struct dump_ghosts *ghosts = dump_files(d)->ghosts;
        _cleanup_image_file_ struct image_file *image = NULL;
        int r;

        if (!ghosts && !linked_any(dump_files(d)))
                return 0;
        r = image_open_write(d->set, IMAGE_REMAP_FPATH, 0, &image, err);
        if (r == 0)
                r = linked_save(d, image, err);
        for (const struct ghost_user *u = ghosts ? ghosts->users : NULL; r == 0 && u; u = u->next) {
                Img__RemapFilePath remap = IMG__REMAP_FILE_PATH__INIT;

                remap.orig_id = u->file_id;
                remap.remap_id = u->ghost->id;
                remap.has_remap_type = true;
                remap.remap_type = IMG__REMAP_TYPE__GHOST;
                r = image_write(image, &remap.base, err);
        }
        if (r == 0)
                r = image_close(TAKE_PTR(image), err);
        for (const struct dump_ghost *g = ghosts ? ghosts->list : NULL; r == 0 && g; g = g->next)
                r = save_ghost(d, g, err);
        return r;
}
