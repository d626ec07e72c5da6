/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A ghost has a name for a moment: until all who had it open by a name have opened it. Whoever maps it or works in it
 * opens it by a descriptor afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/ghost.h"
#include "fd/linked.h"
#include "images/remap-file-path.pb-c.h"
#include "lib/io.h"
#include "log.h"
#include "macro.h"

enum {
        COPY_SIZE = 1 << 20,
        FLAG_TMPFILE = 020000000, /* the kernel's __O_TMPFILE */
        GHOST_BIT_SHIFT = 31,     /* older images: in remap_id, instead of a type */
        PARENTS_MAX = 64,
};

struct restore_ghost {
        uint32_t id;
        Img__GhostFile *msg; /* owned */
        bool made;
        int fd;     /* O_PATH */
        char *path; /* under which it is made now, while it has a name */
        bool tmpfile;
};

struct ghost_user {
        uint32_t file_id, ghost_id;
};
DEFINE_VEC(ghost_user_vec, struct ghost_user);
DEFINE_VEC(ghost_vec, struct restore_ghost *);

struct restore_ghosts {
        struct ghost_user_vec users; /* sorted by file_id */
        struct ghost_vec v;          /* sorted by id */
};

/* ---- load ---- */

static int compare_users(const void *a, const void *b) {
        const struct ghost_user *x = a, *y = b;

        return (x->file_id > y->file_id) - (x->file_id < y->file_id);
}

static int compare_ghosts(const void *a, const void *b) {
        const struct restore_ghost *x = *(struct restore_ghost *const *)a,
                                   *y = *(struct restore_ghost *const *)b;

        return (x->id > y->id) - (x->id < y->id);
}

static struct restore_ghost *find_ghost(const struct restore_ghosts *ghosts, uint32_t id) {
        for (size_t low = 0, high = ghosts->v.n; low < high;) {
                size_t middle = low + (high - low) / 2;
                struct restore_ghost *g = ghosts->v.v[middle];

                if (g->id == id)
                        return g;
                if (g->id < id)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

struct restore_ghost *ghost_of(const struct restore_files *files, uint32_t id) {
        const struct restore_ghosts *ghosts = files->state[FD_STATE_GHOSTS];
        struct ghost_user key = { .file_id = id };
        const struct ghost_user *user;

        if (!ghosts || ghosts->users.n == 0)
                return NULL;
        user = bsearch(&key, ghosts->users.v, ghosts->users.n, sizeof(key), compare_users);
        return user ? find_ghost(ghosts, user->ghost_id) : NULL;
}

static int take_user(void *ctx, struct image_file *image __attribute__((unused)), void **message,
                     struct ckpt_error *err __attribute__((unused))) {
        const Img__RemapFilePath *remap = *message;
        struct ghost_user user = { remap->orig_id, remap->remap_id };
        Img__RemapType type = remap->remap_type;
        struct restore_files *files = ctx;
        struct restore_ghosts *ghosts = files->state[FD_STATE_GHOSTS];

        if (!remap->has_remap_type) {
                type = remap->remap_id >> GHOST_BIT_SHIFT ? IMG__REMAP_TYPE__GHOST : IMG__REMAP_TYPE__LINKED;
                user.ghost_id &= ~(1U << GHOST_BIT_SHIFT);
        }
        if (type == IMG__REMAP_TYPE__GHOST)
                ckpt_assert(ghost_user_vec_push(&ghosts->users, user) == 0);
        else if (type == IMG__REMAP_TYPE__LINKED)
                linked_add(files, user.file_id, user.ghost_id);
        else
                blocker_add(files->blockers, NULL,
                            "file %u is the /proc directory of a process, which cannot be restored yet",
                            remap->orig_id);
        return 0;
}

static int check_message(const Img__GhostFile *msg, struct image_file *image, struct ckpt_error *err) {
        if (!S_ISREG(msg->mode) && !S_ISDIR(msg->mode) && !S_ISFIFO(msg->mode))
                return image_damaged(image, err, "%#o is not the mode of a file, directory or named pipe",
                                     msg->mode);
        if (msg->has_size && msg->size > INT64_MAX)
                return image_damaged(image, err, "no file has %llu bytes", (unsigned long long)msg->size);
        if (msg->chunks && !msg->has_size)
                return image_damaged(image, err, "it has parts and no size");
        if (S_ISREG(msg->mode) && !msg->chunks && msg->has_size && image_remaining(image) != msg->size)
                return image_damaged(image, err, "%llu bytes follow, not %llu",
                                     (unsigned long long)image_remaining(image),
                                     (unsigned long long)msg->size);
        return 0;
}

static int open_image(struct restore *r, uint32_t id, struct image_file **ret, Img__GhostFile **ret_msg,
                      struct ckpt_error *err) {
        _cleanup_image_message_ Img__GhostFile *msg = NULL;
        _cleanup_image_file_ struct image_file *image = NULL;
        int rc;

        rc = image_open_read(r->dir, IMAGE_GHOST_FILE, id, 0, &image, err);
        if (rc == 0)
                rc = image_read_expected(image, &img__ghost_file__descriptor, &msg, err);
        if (rc == 0)
                rc = check_message(msg, image, err);
        if (rc < 0)
                return rc;
        *ret = TAKE_PTR(image);
        *ret_msg = TAKE_PTR(msg);
        return 0;
}

static int add_ghost(struct restore *r, struct restore_ghosts *ghosts, uint32_t id, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *image = NULL;
        struct restore_ghost *g;
        Img__GhostFile *msg;
        int rc;

        rc = open_image(r, id, &image, &msg, err);
        if (rc < 0)
                return rc;
        g = calloc(1, sizeof(*g));
        ckpt_assert(g && ghost_vec_push(&ghosts->v, g) == 0);
        *g = (struct restore_ghost){ .id = id, .msg = msg, .fd = -EBADF };
        return 0;
}

int ghost_load(struct restore *r, struct ckpt_error *err) {
        struct restore_ghosts *ghosts = calloc(1, sizeof(*ghosts));
        int rc;

        ckpt_assert(ghosts);
        r->files->state[FD_STATE_GHOSTS] = ghosts;
        rc = image_each(r->dir, IMAGE_REMAP_FPATH, 0, IMAGE_OPTIONAL, &img__remap_file_path__descriptor,
                        take_user, r->files, err);
        if (rc < 0 || ghosts->users.n == 0)
                return rc;
        qsort(ghosts->users.v, ghosts->users.n, sizeof(*ghosts->users.v), compare_users);
        for (size_t i = 1; i < ghosts->users.n; i++)
                if (ghosts->users.v[i - 1].file_id == ghosts->users.v[i].file_id)
                        return ckpt_error(err, -EBADMSG, "remap-fpath.img: file %u is there twice",
                                          ghosts->users.v[i].file_id);
        for (size_t i = 0; rc == 0 && i < ghosts->users.n; i++) {
                uint32_t id = ghosts->users.v[i].ghost_id;
                bool known = false;

                for (size_t j = 0; !known && j < ghosts->v.n; j++)
                        known = ghosts->v.v[j]->id == id;
                if (!known)
                        rc = add_ghost(r, ghosts, id, err);
        }
        if (ghosts->v.n > 0)
                qsort(ghosts->v.v, ghosts->v.n, sizeof(struct restore_ghost *), compare_ghosts);
        return rc;
}

int ghost_check(const struct restore_file *file, struct image_file *image, struct ckpt_error *err) {
        const Img__RegFile *reg = file->msg->reg;
        const Img__GhostFile *msg = file->ghost->msg;

        if (reg->has_mode && (reg->mode & S_IFMT) != (msg->mode & S_IFMT))
                return image_damaged(image, err, "file %u is not the kind of file that ghost-file-%x.img is",
                                     file->id, file->ghost->id);
        if (reg->flags & FLAG_TMPFILE && (!S_ISREG(msg->mode) || (reg->flags & O_ACCMODE) == O_RDONLY))
                return image_damaged(image, err,
                                     "file %u: the flags %#o cannot be those of a temporary file", file->id,
                                     reg->flags);
        return 0;
}

void ghost_free(struct restore_files *files) {
        struct restore_ghosts *ghosts = files->state[FD_STATE_GHOSTS];

        if (!ghosts)
                return;
        for (size_t i = 0; i < ghosts->v.n; i++) {
                struct restore_ghost *g = ghosts->v.v[i];

                safe_close(g->fd);
                free(g->path);
                img__ghost_file__free_unpacked(g->msg, NULL);
                free(g);
        }
        ghost_vec_done(&ghosts->v);
        ghost_user_vec_done(&ghosts->users);
        free(ghosts);
        files->state[FD_STATE_GHOSTS] = NULL;
}

/* ---- contents ---- */

static int copy_bytes(struct image_file *image, int fd, uint64_t at, uint64_t len, char *buf,
                      struct ckpt_error *err) {
        if (len > image_remaining(image))
                return image_damaged(image, err, "a part of %llu bytes is more than it has",
                                     (unsigned long long)len);
        while (len > 0) {
                size_t n = (size_t)MIN(len, (uint64_t)COPY_SIZE);
                int rc;

                rc = image_read_raw(image, buf, n, err);
                if (rc < 0)
                        return rc;
                rc = pwrite_full(fd, buf, n, (off_t)at);
                if (rc < 0)
                        return ckpt_error_errno(err, rc, "cannot write a deleted file");
                at += n;
                len -= n;
        }
        return 0;
}

static int fill(struct restore *r, const struct restore_ghost *g, int fd, struct ckpt_error *err) {
        _cleanup_image_message_ Img__GhostFile *msg = NULL;
        _cleanup_image_file_ struct image_file *image = NULL;
        _cleanup_free_ char *buf = malloc(COPY_SIZE);
        int rc;

        ckpt_assert(buf);
        rc = open_image(r, g->id, &image, &msg, err);
        if (rc < 0)
                return rc;
        if (!msg->chunks)
                return copy_bytes(image, fd, 0, image_remaining(image), buf, err);
        if (ftruncate(fd, (off_t)msg->size) < 0)
                return ckpt_error_errno(err, -errno, "cannot make a deleted file of %llu bytes",
                                        (unsigned long long)msg->size);
        while (rc >= 0) {
                _cleanup_image_message_ Img__GhostChunk *chunk = NULL;

                rc = image_read(image, &img__ghost_chunk__descriptor, &chunk, err);
                if (rc <= 0)
                        break;
                if (chunk->off > msg->size || chunk->len > msg->size - chunk->off)
                        return image_damaged(image, err, "a part from %llu on is beyond the end of the file",
                                             (unsigned long long)chunk->off);
                rc = copy_bytes(image, fd, chunk->off, chunk->len, buf, err);
        }
        return rc;
}

/* `fd` may be O_PATH. */
static int set_attributes(const struct restore_ghost *g, int fd, struct ckpt_error *err) {
        const Img__GhostFile *msg = g->msg;
        struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
        char path[32];

        if (msg->atim)
                times[0] = (struct timespec){ (time_t)msg->atim->tv_sec,
                                              (long)(msg->atim->tv_usec % 1000000 * 1000) };
        if (msg->mtim)
                times[1] = (struct timespec){ (time_t)msg->mtim->tv_sec,
                                              (long)(msg->mtim->tv_usec % 1000000 * 1000) };
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (chown(path, msg->uid, msg->gid) < 0 || chmod(path, msg->mode & 07777) < 0 ||
            utimensat(AT_FDCWD, path, times, 0) < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot give a deleted %s its owner, permissions and times",
                                        S_ISDIR(msg->mode) ? "directory" : "file");
        for (size_t i = 0; i < msg->n_xattrs; i++) {
                const Img__GhostXattr *x = msg->xattrs[i];

                if (setxattr(path, x->name, x->value.data, x->value.len, 0) < 0)
                        return ckpt_error_errno(err, -errno,
                                                "cannot give a deleted file its extended attribute %s",
                                                x->name);
        }
        return 0;
}

/* ---- the name ---- */

/* Directories that are made for a moment, because the ghost's own is gone. */
struct parents {
        char path[PATH_MAX];
        size_t end[PARENTS_MAX]; /* of those that were made, outermost first */
        size_t n;
};

static void remove_parents(struct parents *p) {
        while (p->n > 0) {
                p->path[p->end[--p->n]] = 0;
                if (rmdir(p->path) < 0)
                        log_warn("cannot remove %s, which was made for a deleted file: %s", p->path,
                                 strerror(errno));
        }
}

static int make_parents(const char *name, struct parents *ret) {
        char *at;

        snprintf(ret->path, sizeof(ret->path), "%s", name);
        at = ret->path;
        while ((at = strchr(at + 1, '/'))) {
                *at = 0;
                if (mkdir(ret->path, 0700) == 0) {
                        if (ret->n == PARENTS_MAX) {
                                rmdir(ret->path);
                                return -ENAMETOOLONG;
                        }
                        ret->end[ret->n++] = (size_t)(at - ret->path);
                } else if (errno != EEXIST && errno != EROFS && errno != EACCES) {
                        return -errno;
                }
                *at = '/';
        }
        return 0;
}

static void remove_name(struct restore_ghost *g) {
        if (!g->path)
                return;
        if ((S_ISDIR(g->msg->mode) ? rmdir(g->path) : unlink(g->path)) < 0)
                log_warn("cannot remove %s, the name of a deleted file: %s", g->path, strerror(errno));
        free(g->path);
        g->path = NULL;
}

static int create_at(const struct restore_ghost *g, const char *path) {
        int r;

        if (S_ISREG(g->msg->mode)) {
                r = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
                return r < 0 ? -errno : r;
        }
        r = S_ISDIR(g->msg->mode) ? mkdir(path, 0700) : mkfifo(path, 0600);
        if (r < 0)
                return -errno;
        r = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        return r < 0 ? -errno : r;
}

/* Under its name, or beside what has that name now, which nothing happens to. */
static int create(struct restore_ghost *g, const char *name, int *ret, struct ckpt_error *err) {
        int dir = (int)(strrchr(name, '/') - name), fd;
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s", name);
        fd = create_at(g, path);
        for (unsigned int i = 0; (fd == -EEXIST || fd == -ENAMETOOLONG) && i < 100; i++) {
                int n = fd == -EEXIST ? snprintf(path, sizeof(path), "%s.ckpt-ghost-%d-%x-%u", name,
                                                 getpid(), g->id, i)
                                      : snprintf(path, sizeof(path), "%.*s/.ckpt-ghost-%d-%x-%u", dir, name,
                                                 getpid(), g->id, i);

                fd = n < 0 || (size_t)n >= sizeof(path) ? -ENAMETOOLONG : create_at(g, path);
        }
        if (fd < 0)
                return ckpt_error_errno(
                        err, fd, "cannot make %s, which was deleted when it was dumped, for a moment", name);
        g->path = strdup(path);
        ckpt_assert(g->path);
        *ret = fd;
        return 0;
}

/* One that never had a name, and may get one yet. */
static int create_unnamed(const char *name, uint32_t flags, int *ret, struct ckpt_error *err) {
        struct open_how how = { .flags = (flags & ~(uint32_t)O_ASYNC) | O_TMPFILE | O_CLOEXEC,
                                .mode = 0600 };
        char dir[PATH_MAX];
        int fd;

        snprintf(dir, sizeof(dir), "%s", name);
        fd = (int)syscall(SYS_openat2, AT_FDCWD, dirname(dir), &how, sizeof(how));
        if (fd < 0)
                return ckpt_error_errno(err, -errno, "cannot make a temporary file in the directory of %s",
                                        name);
        *ret = fd;
        return 0;
}

/* ---- making one ---- */

static bool is_user(const struct restore_file *file, const struct restore_ghost *g) {
        return file->ghost == g && file->msg->type == IMG__FD_TYPES__REG;
}

static struct restore_file *find_user(struct restore *r, const struct restore_ghost *g, bool tmpfile) {
        for (size_t i = 0; i < r->files->n; i++) {
                struct restore_file *file = &r->files->v[i];

                if (is_user(file, g) &&
                    (!tmpfile || (file->msg->reg->flags & FLAG_TMPFILE && file->nr_slots > 0)))
                        return file;
        }
        return NULL;
}

/* fd_file_open() does so for the one that it opens, once more. */
static int give_owner(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        int rc = fown_restore(r->files, file, err);

        file->owner_waits = rc == -ESRCH;
        return file->owner_waits ? 0 : rc;
}

/* By the name it had, which may be another link to the same file. */
static int open_user(struct restore *r, struct restore_ghost *g, struct restore_file *file,
                     struct ckpt_error *err) {
        const char *name = file->msg->reg->name;
        bool linked = !g->tmpfile && S_ISREG(g->msg->mode) && strcmp(name, g->path) != 0 &&
                      link(g->path, name) == 0;
        char by_fd[32];
        int rc;

        snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", g->fd);
        if (g->tmpfile) {
                rc = fd_open_exactly(by_fd, file->msg->reg->flags & ~(uint32_t)(O_NOFOLLOW | O_DIRECTORY));
                rc = rc < 0 ? ckpt_error_errno(err, rc, "cannot open %s again", name)
                            : reg_take(file, rc, err);
        } else {
                rc = reg_open_at(file, linked ? name : g->path, err);
        }
        if (linked)
                unlink(name);
        return rc < 0 ? rc : give_owner(r, file, err);
}

static int open_users(struct restore *r, struct restore_ghost *g, struct ckpt_error *err) {
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < r->files->n; i++) {
                struct restore_file *file = &r->files->v[i];

                if (is_user(file, g) && file->nr_slots > 0 && file->fd < 0)
                        rc = open_user(r, g, file, err);
        }
        return rc;
}

/* The kernel calls those that never had a name by their inode number, also when they are opened again or mapped. */
static bool was_unnamed(const struct restore_ghost *g, const char *name) {
        const char *base = strrchr(name, '/') + 1;
        char text[24];

        snprintf(text, sizeof(text), "#%llu", (unsigned long long)g->msg->ino);
        return S_ISREG(g->msg->mode) && g->msg->has_ino && strcmp(base, text) == 0;
}

static int make_file(struct restore *r, struct restore_ghost *g, struct ckpt_error *err) {
        struct restore_file *owner = find_user(r, g, true), *first = owner ? owner : find_user(r, g, false);
        _cleanup_close_ int fd = -EBADF;
        char path[32];
        int rc;

        ckpt_assert(first);
        g->tmpfile = owner || was_unnamed(g, first->msg->reg->name);
        rc = g->tmpfile ? create_unnamed(first->msg->reg->name, owner ? owner->msg->reg->flags : O_RDWR, &fd,
                                         err)
                        : create(g, first->msg->reg->name, &fd, err);
        if (rc < 0)
                return rc;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        g->fd = open(path, O_PATH | O_CLOEXEC);
        if (g->fd < 0)
                return ckpt_error_errno(err, -errno, "cannot open a deleted file again");
        if (S_ISREG(g->msg->mode)) {
                _cleanup_close_ int writer = open(path, O_WRONLY | O_CLOEXEC);

                rc = writer < 0 ? ckpt_error_errno(err, -errno, "cannot write a deleted file")
                                : fill(r, g, writer, err);
        }
        if (rc == 0)
                rc = set_attributes(g, g->fd, err);
        if (rc == 0 && owner)
                rc = reg_take(owner, TAKE_FD(fd), err);
        if (rc == 0 && owner)
                rc = give_owner(r, owner, err);
        return rc < 0 ? rc : open_users(r, g, err);
}

int ghost_open(struct restore *r, struct restore_ghost *g, int *ret, struct ckpt_error *err) {
        struct parents parents = { .n = 0 };
        const struct restore_file *first = find_user(r, g, false);
        int rc;

        if (!g->made) {
                ckpt_assert(first);
                rc = make_parents(first->msg->reg->name, &parents);
                if (rc < 0)
                        ckpt_error_errno(
                                err, rc,
                                "cannot make the directory of %s, which was deleted when it was dumped",
                                first->msg->reg->name);
                else
                        rc = make_file(r, g, err);
                remove_name(g);
                remove_parents(&parents);
                if (rc < 0)
                        return rc;
                g->made = true;
        }
        *ret = g->fd;
        return 0;
}
