/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * memfd_create(2): files in memory without a name. Each inode is an entry of memfd.img, its content is saved with the
 * shared memory; descriptors and mappings are entries of files.img that refer to it. On restore the inode is made
 * and filled in ckpt, and opened again for each of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/anon.h"
#include "fd/kind.h"
#include "fd/memfd.h"
#include "images/memfd.pb-c.h"
#include "lib/fault.h"
#include "macro.h"
#include "mem/mem.h"

#ifndef MFD_EXEC /* 6.3 */
#define MFD_EXEC 0x10U
#endif
#ifndef F_SEAL_EXEC /* 6.3 */
#define F_SEAL_EXEC 0x20
#endif

static const char prefix[] = "/memfd:", suffix[] = " (deleted)";

enum {
        NAME_MAX_LENGTH = 249,    /* of memfd_create(2) */
        FLAG_LARGEFILE = 0100000, /* the kernel's */
        FLAGS_KNOWN = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_ASYNC | O_DIRECT | FLAG_LARGEFILE |
                      O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_SYNC | O_PATH,
        SEALS_KNOWN =
                F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC,
        SIZE_BITS = MFD_HUGE_MASK << MFD_HUGE_SHIFT,
};

static int create(const char *name, uint32_t flags) {
        int fd;

        flags |= MFD_CLOEXEC | MFD_ALLOW_SEALING;
        fd = memfd_create(name, flags | MFD_EXEC);
        if (fd < 0 && errno == EINVAL)
                fd = memfd_create(name, flags);
        return fd < 0 ? -errno : fd;
}

/* ---- dump ---- */

struct dump_memfd {
        struct dump_memfd *next;
        uint64_t dev, ino;
        Img__MemfdInode *msg;
};

struct dump_memfds {
        struct dump_memfd *list;
        uint64_t dev;   /* of the filesystem of memfds ... */
        uint64_t *huge; /* ... and of those with huge pages, by the logarithm of their size */
};

static uint64_t device_of(uint32_t flags) {
        _cleanup_close_ int fd = create("ckpt", flags);
        struct statx st;

        return fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_INO, &st) < 0 ? 0 : statx_dev(&st);
}

static struct dump_memfds *memfds_of(struct dump *d) {
        struct dump_files *files = dump_files(d);

        if (!files->memfds) {
                files->memfds = arena_new(&files->arena, struct dump_memfds);
                files->memfds->dev = device_of(0);
                files->memfds->huge = arena_new_array(&files->arena, uint64_t, 64);
        }
        return files->memfds;
}

static uint32_t log2_of(uint64_t size) {
        return size > 0 ? 63 - (uint32_t)__builtin_clzll(size) : 0;
}

/* Any file can be called so and be deleted; only memfds are on these filesystems, which nobody can mount. */
static bool memfd_match(struct fd_probe *p) {
        struct dump_memfds *memfds = memfds_of(p->task->dump);
        uint32_t shift = log2_of(p->st.stx_blksize);

        if (p->st.stx_nlink != 0 || !S_ISREG(p->st.stx_mode))
                return false;
        if (fd_probe_fs_type(p) != HUGETLBFS_MAGIC)
                return statx_dev(&p->st) == memfds->dev;
        if (memfds->huge[shift] == 0)
                memfds->huge[shift] = device_of(MFD_HUGETLB | shift << MFD_HUGE_SHIFT);
        return statx_dev(&p->st) == memfds->huge[shift];
}

/* Of what can never change, everybody may have a copy. */
static bool is_constant(const struct fd_probe *p) {
        const int all = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
        _cleanup_close_ int fd = proc_openat(p->proc, p->where, O_RDONLY);
        int seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);

        return seals >= 0 && (seals & all) == all;
}

static void memfd_look(struct fd_probe *p, struct blockers *b) {
        pid_t outside = memfd_foreign_holder(p);

        if (outside > 0 && !is_constant(p))
                blocker_add(b, "Include that process in the tree, or end it",
                            "%s is the memfd %s, which pid %d outside of the tree has open or mapped, too",
                            fd_probe_name(p), p->link + sizeof(prefix) - 1, outside);
        if (p->fd >= 0)
                lock_look(p, b);
}

static char *name_of(struct arena *a, const struct fd_probe *p) {
        char *name = arena_strdup(a, p->link + sizeof(prefix) - 1);
        size_t len = strlen(name), tail = sizeof(suffix) - 1;

        if (len >= tail && strcmp(name + len - tail, suffix) == 0)
                name[len - tail] = 0;
        return name;
}

static int add_inode(struct dump *d, const struct fd_probe *p, struct dump_memfd **ret,
                     struct ckpt_error *err) {
        _cleanup_close_ int fd = proc_openat(p->proc, p->where, O_RDONLY);
        struct dump_files *files = dump_files(d);
        struct dump_memfds *memfds = memfds_of(d);
        Img__MemfdInode *msg = arena_message(&files->arena, Img__MemfdInode, img__memfd_inode__init);
        struct dump_memfd *m = arena_new(&files->arena, struct dump_memfd);
        struct stat st;
        int r = fd, seals = 0;

        if (r >= 0)
                r = fstat(fd, &st) < 0 || (seals = fcntl(fd, F_GET_SEALS)) < 0 ? -errno : 0;
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot look at this memfd", fd_probe_name(p));
        if (seals & ~SEALS_KNOWN)
                return ckpt_error(err, -ENOTSUP,
                                  "%s is a memfd with seals that this ckpt does not know (%#x)",
                                  fd_probe_name(p), (unsigned int)(seals & ~SEALS_KNOWN));
        r = mem_add_object(p->task, p->proc, p->where, &st, &msg->shmid, err);
        if (r < 0)
                return r;
        msg->name = name_of(&files->arena, p);
        msg->uid = st.st_uid;
        msg->gid = st.st_gid;
        msg->size = (uint64_t)st.st_size;
        msg->seals = (uint32_t)seals;
        msg->inode_id = msg->shmid;
        msg->has_mode = true;
        msg->mode = st.st_mode;
        msg->has_hugetlb_flag = fd_probe_fs_type(p) == HUGETLBFS_MAGIC;
        if (msg->has_hugetlb_flag)
                msg->hugetlb_flag = MFD_HUGETLB | log2_of((uint64_t)st.st_blksize) << MFD_HUGE_SHIFT;
        *m = (struct dump_memfd){ memfds->list, statx_dev(&p->st), p->st.stx_ino, msg };
        memfds->list = *ret = m;
        return 0;
}

static int find_inode(struct dump *d, const struct fd_probe *p, uint32_t *ret, struct ckpt_error *err) {
        struct dump_memfd *m = memfds_of(d)->list;
        int r = 0;

        while (m && (m->ino != p->st.stx_ino || m->dev != statx_dev(&p->st)))
                m = m->next;
        if (!m)
                r = add_inode(d, p, &m, err);
        if (r == 0)
                *ret = (uint32_t)m->msg->inode_id;
        return r;
}

static Img__MemfdFile *new_message(struct dump *d, struct dump_file *file) {
        struct arena *a = &dump_files(d)->arena;
        Img__MemfdFile *msg = arena_message(a, Img__MemfdFile, img__memfd_file__init);

        msg->id = file->id;
        msg->fown = arena_message(a, Img__Fown, img__fown__init);
        file->msg->memfd = msg;
        return msg;
}

static int memfd_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        Img__MemfdFile *msg = new_message(d, file);
        int r = 0;

        msg->flags = fd_probe_flags(p);
        if (!(msg->flags & O_PATH)) {
                r = fown_dump_probe(p, -EBADF, msg->fown, err);
                msg->pos = p->info.pos > 0 ? (uint64_t)p->info.pos : 0;
        }
        return r < 0 ? r : find_inode(d, p, &msg->inode_id, err);
}

static int memfd_dump_path(struct fd_probe *p, uint32_t flags, struct dump_file *file,
                           struct ckpt_error *err) {
        Img__MemfdFile *msg = new_message(p->task->dump, file);

        msg->flags = flags;
        return find_inode(p->task->dump, p, &msg->inode_id, err);
}

static int memfd_save(struct dump *d, struct ckpt_error *err) {
        const struct dump_memfds *memfds = dump_files(d)->memfds;
        _cleanup_image_file_ struct image_file *image = NULL;
        int r;

        if (!memfds || !memfds->list)
                return 0;
        r = fault_point_error(FAULT_DUMP_WRITE_IMAGE, err);
        if (r == 0)
                r = image_open_write(d->set, IMAGE_MEMFD_INODE, 0, &image, err);
        for (const struct dump_memfd *m = memfds->list; r == 0 && m; m = m->next)
                r = image_write(image, &m->msg->base, err);
        return r < 0 ? r : image_close(TAKE_PTR(image), err);
}

/* ---- restore ---- */

struct restore_memfd {
        Img__MemfdInode *msg; /* owned */
        int fd;               /* the inode, once it is made; writable as long as seals are missing */
        bool unsealed;
};
DEFINE_VEC(restore_memfd_vec, struct restore_memfd);

static int compare_inodes(const void *a, const void *b) {
        const Img__MemfdInode *x = ((const struct restore_memfd *)a)->msg,
                              *y = ((const struct restore_memfd *)b)->msg;

        return (x->inode_id > y->inode_id) - (x->inode_id < y->inode_id);
}

static struct restore_memfd *find_memfd(const struct restore_files *files, uint32_t inode_id) {
        const struct restore_memfd_vec *v = files->state[FD_STATE_MEMFD];
        Img__MemfdInode msg = { .inode_id = inode_id };
        struct restore_memfd key = { .msg = &msg };

        return v && v->n > 0 ? bsearch(&key, v->v, v->n, sizeof(key), compare_inodes) : NULL;
}

static int memfd_check(struct restore *r __attribute__((unused)), struct restore_file *file,
                       struct image_file *image, struct ckpt_error *err) {
        const Img__MemfdFile *msg = file->msg->memfd;

        if (msg->flags & ~(uint32_t)FLAGS_KNOWN)
                return image_damaged(image, err, "file %u: the flags %#o cannot be those of a memfd",
                                     file->id, msg->flags);
        if (msg->pos > INT64_MAX)
                return image_damaged(image, err, "file %u stands at the impossible offset %llu", file->id,
                                     (unsigned long long)msg->pos);
        return 0;
}

static uint64_t huge_page(const Img__MemfdInode *msg) {
        return msg->has_hugetlb_flag && msg->hugetlb_flag != 0
                       ? 1ULL << (msg->hugetlb_flag >> MFD_HUGE_SHIFT & MFD_HUGE_MASK)
                       : 0;
}

static int check_inode(const Img__MemfdInode *msg, struct image_file *image, struct ckpt_error *err) {
        uint32_t huge = msg->has_hugetlb_flag ? msg->hugetlb_flag : 0;
        uint64_t page = huge_page(msg);

        if (strlen(msg->name) > NAME_MAX_LENGTH)
                return image_damaged(image, err, "no memfd can have a name of %zu bytes", strlen(msg->name));
        if (msg->size > INT64_MAX)
                return image_damaged(image, err, "the memfd %s cannot have %llu bytes", msg->name,
                                     (unsigned long long)msg->size);
        if (msg->seals & ~(uint32_t)SEALS_KNOWN)
                return image_damaged(image, err, "the memfd %s has the unknown seals %#x", msg->name,
                                     msg->seals);
        if (msg->has_mode && (msg->mode & ~07777U) != 0 && (msg->mode & ~07777U) != S_IFREG)
                return image_damaged(image, err, "the memfd %s cannot have the mode %#o", msg->name,
                                     msg->mode);
        if (huge != 0 &&
            ((huge & ~(uint32_t)SIZE_BITS) != MFD_HUGETLB || page <= PAGE_SIZE || msg->size % page != 0))
                return image_damaged(image, err, "the memfd %s cannot have such huge pages (%#x)", msg->name,
                                     huge);
        return 0;
}

static int read_inodes(struct restore *r, struct restore_memfd_vec *v, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *image = NULL;
        int rc;

        rc = image_open_read(r->dir, IMAGE_MEMFD_INODE, 0, IMAGE_OPTIONAL, &image, err);
        if (rc == -ENOENT)
                return 0;
        while (rc >= 0) {
                struct restore_memfd m = { .fd = -EBADF };

                rc = image_read(image, &img__memfd_inode__descriptor, &m.msg, err);
                if (rc <= 0)
                        break;
                ckpt_assert(restore_memfd_vec_push(v, m) == 0);
                rc = check_inode(m.msg, image, err);
                if (rc == 0)
                        rc = mem_check_object(r, m.msg->shmid, m.msg->size, err);
        }
        if (rc < 0)
                return rc;
        if (v->n > 0)
                qsort(v->v, v->n, sizeof(*v->v), compare_inodes);
        for (size_t i = 1; i < v->n; i++)
                if (v->v[i - 1].msg->inode_id == v->v[i].msg->inode_id)
                        return image_damaged(image, err, "there are two memfds with the number %llu",
                                             (unsigned long long)v->v[i].msg->inode_id);
        return 0;
}

static int memfd_load(struct restore *r, struct ckpt_error *err) {
        struct restore_memfd_vec *v = calloc(1, sizeof(*v));
        int rc;

        ckpt_assert(v);
        r->files->state[FD_STATE_MEMFD] = v;
        rc = read_inodes(r, v, err);
        for (size_t i = 0; rc == 0 && i < r->files->n; i++) {
                const Img__File *msg = r->files->v[i].msg;

                if (msg->type == IMG__FD_TYPES__MEMFD && !find_memfd(r->files, msg->memfd->inode_id))
                        return ckpt_error(err, -EBADMSG,
                                          "files.img: file %u is the memfd %u, which is not in memfd.img",
                                          msg->id, msg->memfd->inode_id);
        }
        for (size_t i = 0; rc == 0 && i < v->n; i++) {
                uint64_t page = huge_page(v->v[i].msg);

                if (page > 0 && device_of(v->v[i].msg->hugetlb_flag) == 0)
                        return ckpt_error(
                                err, -ENOTSUP,
                                "the memfd %s has huge pages of %llu KiB, which this kernel does not "
                                "have; nothing was created",
                                v->v[i].msg->name, (unsigned long long)page >> 10);
        }
        return rc;
}

/* Its owner first: that takes away the bits of setuid. */
static int give_attributes(int fd, const Img__MemfdInode *msg, struct ckpt_error *err) {
        if (fchown(fd, msg->uid, msg->gid) < 0 || (msg->has_mode && fchmod(fd, msg->mode & 07777) < 0) ||
            ftruncate(fd, (off_t)msg->size) < 0)
                return ckpt_error_errno(
                        err, -errno, "cannot give the memfd %s its owner, permissions and size", msg->name);
        return 0;
}

static int add_seals(const struct restore_memfd *m, struct ckpt_error *err) {
        int seals = (int)m->msg->seals;

        if (fcntl(m->fd, F_ADD_SEALS, seals) < 0 || fcntl(m->fd, F_GET_SEALS) != seals)
                return ckpt_error_errno(err, errno ? -errno : -EIO,
                                        "cannot give the memfd %s its seals (%#x)", m->msg->name,
                                        m->msg->seals);
        return 0;
}

/* A writer would keep it from being executed. */
static int reopen_readable(struct restore_memfd *m, struct ckpt_error *err) {
        char path[32];
        int fd;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return ckpt_error_errno(err, -errno, "cannot open the memfd %s again", m->msg->name);
        safe_close(m->fd);
        m->fd = fd;
        return 0;
}

/* Who mapped it before F_SEAL_FUTURE_WRITE may write still, so that has to wait until it is mapped everywhere. */
static bool seals_later(const Img__MemfdInode *msg) {
        return msg->seals & F_SEAL_FUTURE_WRITE && !(msg->seals & F_SEAL_WRITE);
}

static int make(struct restore *r, struct restore_memfd *m, struct ckpt_error *err) {
        const Img__MemfdInode *msg = m->msg;
        uint64_t page = huge_page(msg);
        int rc;

        m->fd = create(msg->name, msg->has_hugetlb_flag ? msg->hugetlb_flag : 0);
        if (m->fd < 0)
                return ckpt_error_errno(err, m->fd, "cannot make the memfd %s", msg->name);
        rc = give_attributes(m->fd, msg, err);
        if (rc == 0)
                rc = mem_fill_file(r, msg->shmid, msg->size, page > 0 ? page : PAGE_SIZE, m->fd, err);
        if (rc < 0)
                return ckpt_error_prefix(err, "memfd %s", msg->name);
        m->unsealed = seals_later(msg);
        if (!m->unsealed)
                rc = add_seals(m, err);
        return rc < 0 || m->unsealed ? rc : reopen_readable(m, err);
}

int memfd_open_again(struct restore *r, const struct restore_file *file, uint32_t flags,
                     struct ckpt_error *err) {
        struct restore_memfd *m = find_memfd(r->files, file->msg->memfd->inode_id);
        char path[32];
        int rc = 0;

        ckpt_assert(m);
        if (m->fd < 0)
                rc = make(r, m, err);
        if (rc < 0) {
                m->fd = safe_close(m->fd);
                return rc;
        }
        snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
        rc = fd_open_exactly(path, flags & ~(uint32_t)O_NOFOLLOW);
        return rc < 0 ? ckpt_error_errno(err, rc, "cannot open the memfd %s", m->msg->name) : rc;
}

static int memfd_open(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        const Img__MemfdFile *msg = file->msg->memfd;
        _cleanup_close_ int fd = memfd_open_again(r, file, msg->flags, err);

        if (fd < 0)
                return fd;
        if (msg->pos > 0 && !(msg->flags & O_PATH) &&
            lseek(fd, (off_t)msg->pos, SEEK_SET) != (off_t)msg->pos)
                return ckpt_error_errno(err, -errno, "file %u: cannot move to offset %llu of a memfd",
                                        file->id, (unsigned long long)msg->pos);
        file->fd = TAKE_FD(fd);
        return 0;
}

static int memfd_complete(struct restore *r, struct ckpt_error *err) {
        struct restore_memfd_vec *v = r->files->state[FD_STATE_MEMFD];
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < v->n; i++) {
                if (v->v[i].unsealed)
                        rc = add_seals(&v->v[i], err);
                v->v[i].fd = safe_close(v->v[i].fd);
        }
        return rc;
}

static void memfd_free(struct restore_files *files) {
        struct restore_memfd_vec *v = files->state[FD_STATE_MEMFD];

        for (size_t i = 0; v && i < v->n; i++) {
                safe_close(v->v[i].fd);
                img__memfd_inode__free_unpacked(v->v[i].msg, NULL);
        }
        if (v)
                restore_memfd_vec_done(v);
        free(v);
        files->state[FD_STATE_MEMFD] = NULL;
}

const struct fd_kind fd_kind_memfd = {
        .type = IMG__FD_TYPES__MEMFD,
        .name = "memfd",
        .link = prefix,
        .match = memfd_match,
        .look = memfd_look,
        .dump = memfd_dump,
        .dump_path = memfd_dump_path,
        .save = memfd_save,
        .check = memfd_check,
        .load = memfd_load,
        .open = memfd_open,
        .complete = memfd_complete,
        .free = memfd_free,
};
