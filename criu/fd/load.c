/* SPDX-License-Identifier: GPL-2.0-only */
/* Files, tables and directories from the images, checked against each other and against this machine. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cleanup.h"
#include "fd/ahead.h"
#include "fd/ghost.h"
#include "fd/kind.h"
#include "fd/linked.h"
#include "images/fs.pb-c.h"
#include "macro.h"

/* ---- files ---- */

/* Where each type has its message, and which file older writers kept it in. */
static const struct file_type {
        Img__FdTypes type;
        enum image_kind old;
        size_t offset; /* in Img__File */
        const ProtobufCMessageDescriptor *descriptor;
} file_types[] = {
#define TYPE(name, old_, field, message) \
        { IMG__FD_TYPES__##name, (old_), offsetof(Img__File, field), &img__##message##__descriptor }
        TYPE(REG, IMAGE_REG_FILES, reg, reg_file),
        TYPE(PIPE, IMAGE_PIPES, pipe, pipe),
        TYPE(FIFO, IMAGE_FIFO, fifo, fifo),
        TYPE(INETSK, IMAGE_INETSK, isk, inet_sk),
        TYPE(UNIXSK, IMAGE_UNIXSK, usk, unix_sk),
        TYPE(EVENTFD, IMAGE_EVENTFD_FILE, efd, eventfd_file),
        TYPE(EVENTPOLL, IMAGE_EVENTPOLL_FILE, epfd, eventpoll_file),
        TYPE(INOTIFY, IMAGE_INOTIFY_FILE, ify, inotify_file),
        TYPE(SIGNALFD, IMAGE_SIGNALFD, sgfd, signalfd),
        TYPE(PACKETSK, IMAGE_PACKETSK, psk, packet_sock),
        TYPE(TTY, IMAGE_TTY_FILES, tty, tty_file),
        TYPE(FANOTIFY, IMAGE_FANOTIFY_FILE, ffy, fanotify_file),
        TYPE(NETLINKSK, IMAGE_NETLINK_SK, nlsk, netlink_sk),
        TYPE(NS, IMAGE_NS_FILES, nsf, ns_file),
        TYPE(TUNF, IMAGE_TUNFILE, tunf, tunfile),
        TYPE(EXT, IMAGE_EXT_FILES, ext, ext_file),
        TYPE(TIMERFD, IMAGE_TIMERFD, tfd, timerfd),
        TYPE(MEMFD, IMAGE_KIND_INVALID, memfd, memfd_file),
        TYPE(BPFMAP, IMAGE_KIND_INVALID, bpf, bpfmap_file),
        TYPE(PIDFD, IMAGE_KIND_INVALID, pidfd, pidfd),
#undef TYPE
};

static const struct file_type *type_row(Img__FdTypes type) {
        for (size_t i = 0; i < ELEMENTSOF(file_types); i++)
                if (file_types[i].type == type)
                        return &file_types[i];
        return NULL;
}

static ProtobufCMessage *message_of(const Img__File *file, const struct file_type *type) {
        return *(ProtobufCMessage *const *)((const char *)file + type->offset);
}

/* All of these messages have a field `id`, the same as in the File around them. */
static uint32_t id_in(const ProtobufCMessage *message) {
        const ProtobufCFieldDescriptor *field =
                protobuf_c_message_descriptor_get_field_by_name(message->descriptor, "id");

        ckpt_assert(field && field->type == PROTOBUF_C_TYPE_UINT32);
        return *(const uint32_t *)((const char *)message + field->offset);
}

/* `msg` is in the arena of the files. */
static int add_file(struct restore *r, struct image_file *image, Img__File *msg, struct ckpt_error *err) {
        const struct fd_kind *kind = fd_kind_by_type(msg->type);
        const struct file_type *type = type_row(msg->type);
        struct restore_files *files = r->files;
        struct restore_file *file;

        if (files->n == files->cap) {
                size_t cap = files->cap ? files->cap * 2 : 64;
                struct restore_file *v = reallocarray(files->v, cap, sizeof(*v));

                ckpt_assert(v);
                files->v = v;
                files->cap = cap;
        }
        file = &files->v[files->n++];
        *file = (struct restore_file){
                .id = msg->id, .kind = kind, .msg = msg, .fd = -EBADF, .dir = -EBADF
        };
        if (!kind || !type || !message_of(msg, type) || id_in(message_of(msg, type)) != msg->id)
                return image_damaged(image, err, "file %u says it is of type %d, and is not", msg->id,
                                     msg->type);
        if (!kind->open) {
                blocker_add(files->blockers, NULL,
                            "the checkpoint has a file of a kind that cannot be restored yet: %s",
                            kind->name);
                return 0;
        }
        if (kind == &fd_kind_reg)
                file->ghost = ghost_of(files, file->id);
        return kind->check ? kind->check(r, file, image, err) : 0;
}

static int take_file(void *ctx, struct image_file *image, void **message, struct ckpt_error *err) {
        return add_file(ctx, image, *message, err);
}

/* Older images have a file for each type. */
struct old_files {
        struct restore *restore;
        const struct file_type *type;
};

static int take_old_file(void *ctx, struct image_file *image, void **message, struct ckpt_error *err) {
        const struct old_files *old = ctx;
        Img__File *msg = arena_message(&old->restore->files->arena, Img__File, img__file__init);

        msg->type = old->type->type;
        msg->id = id_in(*message);
        memcpy((char *)msg + old->type->offset, message, sizeof(*message));
        return add_file(old->restore, image, msg, err);
}

static int read_old_files(struct restore *r, struct ckpt_error *err) {
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < ELEMENTSOF(file_types); i++) {
                struct old_files old = { r, &file_types[i] };

                if (old.type->old != IMAGE_KIND_INVALID)
                        rc = image_each_kept(r->dir, old.type->old, 0, IMAGE_OPTIONAL, old.type->descriptor,
                                             &r->files->arena, take_old_file, &old, err);
        }
        return rc;
}

static int compare_files(const void *a, const void *b) {
        const struct restore_file *x = a, *y = b;

        return (x->id > y->id) - (x->id < y->id);
}

struct restore_file *restore_find_file(const struct restore_files *files, uint32_t id) {
        struct restore_file key = { .id = id };

        return files->n > 0 ? bsearch(&key, files->v, files->n, sizeof(key), compare_files) : NULL;
}

static bool in_order(const struct restore_files *files) {
        for (size_t i = 1; i < files->n; i++)
                if (files->v[i - 1].id >= files->v[i].id)
                        return false;
        return true;
}

static int sort_files(struct restore_files *files, struct ckpt_error *err) {
        if (in_order(files))
                return 0;
        qsort(files->v, files->n, sizeof(*files->v), compare_files);
        for (size_t i = 1; i < files->n; i++)
                if (files->v[i - 1].id == files->v[i].id)
                        return ckpt_error(err, -EBADMSG, "files.img: there are two files with the id %u",
                                          files->v[i].id);
        return 0;
}

int fd_load_files(struct restore *r, struct ckpt_error *err) {
        const struct fd_kind *kind;
        int rc = 0;

        r->files = calloc(1, sizeof(*r->files));
        ckpt_assert(r->files);
        r->files->blockers = blockers_new();
        rc = ghost_load(r, err);
        if (rc == 0 && image_dir_has(r->dir, IMAGE_FILES, 0))
                rc = image_each_kept(r->dir, IMAGE_FILES, 0, 0, &img__file__descriptor, &r->files->arena,
                                     take_file, r, err);
        else if (rc == 0)
                rc = read_old_files(r, err);
        if (rc == 0)
                rc = sort_files(r->files, err);
        if (rc == 0)
                rc = linked_load(r, err);
        ahead_checked(r);
        if (rc == 0)
                rc = blockers_to_error(r->files->blockers, "nothing was created", err);
        for (size_t i = 0; rc == 0 && (kind = fd_kind_row(i)); i++)
                if (kind->load)
                        rc = kind->load(r, err);
        return rc < 0 ? rc : lock_load(r, err);
}

void fd_restore_free(struct restore *r) {
        struct restore_files *files = r->files;
        const struct fd_kind *kind;

        for (size_t i = 0; i < r->nr_tasks; i++) {
                if (r->tasks[i]->fds)
                        restore_slot_vec_done(&r->tasks[i]->fds->slots);
                r->tasks[i]->fds = NULL;
        }
        if (!files)
                return;
        for (size_t i = 0; (kind = fd_kind_row(i)); i++)
                if (kind->free)
                        kind->free(files);
        ghost_free(files);
        linked_free(files);
        lock_free(files);
        for (size_t i = 0; i < files->n; i++) {
                safe_close(files->v[i].fd);
                safe_close(files->v[i].dir);
        }
        blockers_free(&files->blockers);
        arena_done(&files->arena);
        free(files->v);
        free(files);
        r->files = NULL;
}

/* ---- tables ---- */

/* A number must fit with what ckpt may open; raising the limit works for some. */
static int check_highest(uint32_t fd, struct ckpt_error *err) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return ckpt_error_errno(err, -errno, "cannot read the limit on open files");
        if (fd < limit.rlim_max)
                return 0;
        limit.rlim_cur = limit.rlim_max = fd + 1024;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
                return 0;
        getrlimit(RLIMIT_NOFILE, &limit);
        ckpt_error(err, -EMFILE,
                   "a process has descriptor %u, and ckpt may only open %llu; nothing was created", fd,
                   (unsigned long long)limit.rlim_max);
        return ckpt_error_hint(
                err, "Raise the hard limit on open files (ulimit -Hn), or give ckpt CAP_SYS_RESOURCE");
}

static int add_slot(struct restore_task *t, struct image_file *image, const Img__Fdinfo *entry,
                    struct ckpt_error *err) {
        struct restore_file *file = restore_find_file(t->restore->files, entry->id);
        struct restore_slot *slot;

        if (!file)
                return image_damaged(image, err, "descriptor %u is file %u, which is not in the images",
                                     entry->fd, entry->id);
        if (entry->type != file->msg->type)
                return image_damaged(image, err, "descriptor %u is of type %d, its file %u is of type %d",
                                     entry->fd, entry->type, entry->id, file->msg->type);
        if (entry->flags & ~(uint32_t)FD_CLOEXEC)
                return image_damaged(image, err, "descriptor %u has the flags %#x", entry->fd, entry->flags);
        if (entry->fd > (uint32_t)INT32_MAX / 2)
                return image_damaged(image, err, "%u is no number of a descriptor", entry->fd);
        slot = restore_slot_vec_add(&t->fds->slots);
        ckpt_assert(slot);
        *slot = (struct restore_slot){ (int)entry->fd, (entry->flags & FD_CLOEXEC) != 0, file };
        file->nr_slots++;
        return 0;
}

static int compare_slots(const void *a, const void *b) {
        const struct restore_slot *x = a, *y = b;

        return (x->fd > y->fd) - (x->fd < y->fd);
}

struct restore_slot *restore_find_slot(const struct restore_fds *fds, int fd) {
        struct restore_slot key = { .fd = fd };

        return fds->slots.n > 0 ? bsearch(&key, fds->slots.v, fds->slots.n, sizeof(key), compare_slots)
                                : NULL;
}

static int read_table(struct restore_task *t, unsigned long id, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *image = NULL;
        struct restore_slot_vec *slots = &t->fds->slots;
        int rc;

        rc = image_open_read(t->restore->dir, IMAGE_FDINFO, id, IMAGE_OPTIONAL, &image, err);
        if (rc == -ENOENT)
                return 0;
        while (rc >= 0) {
                _cleanup_image_message_ Img__Fdinfo *entry = NULL;

                rc = image_read(image, &img__fdinfo__descriptor, &entry, err);
                if (rc <= 0)
                        break;
                rc = add_slot(t, image, entry, err);
        }
        if (rc < 0)
                return rc;
        if (slots->n > 0)
                qsort(slots->v, slots->n, sizeof(*slots->v), compare_slots);
        for (size_t i = 1; i < slots->n; i++)
                if (slots->v[i - 1].fd == slots->v[i].fd)
                        return image_damaged(image, err, "descriptor %d is there twice", slots->v[i].fd);
        return slots->n > 0 ? check_highest((uint32_t)slots->v[slots->n - 1].fd, err) : 0;
}

static int find_directory(struct restore_task *t, uint32_t id, struct restore_file **ret,
                          struct ckpt_error *err) {
        struct restore_file *file = restore_find_file(t->restore->files, id);
        const Img__RegFile *reg = file && file->msg->type == IMG__FD_TYPES__REG ? file->msg->reg : NULL;

        if (!reg || (reg->has_mode && !S_ISDIR(reg->mode)))
                return ckpt_error(err, -EBADMSG, "fs-%d.img: file %u is no directory", t->pid, id);
        file->dir_users++;
        *ret = file;
        return 0;
}

static int read_fs(struct restore_task *t, struct ckpt_error *err) {
        int r;

        r = image_load(t->restore->dir, IMAGE_FS, (unsigned long)t->pid, 0, &img__fs__descriptor, &t->fs,
                       err);
        if (r == 0)
                r = find_directory(t, t->fs->cwd_id, &t->fds->cwd, err);
        if (r == 0)
                r = find_directory(t, t->fs->root_id, &t->fds->root, err);
        if (r == 0 && t->fs->has_umask && t->fs->umask > 0777)
                r = ckpt_error(err, -EBADMSG, "fs-%d.img: %#o is no umask", t->pid, t->fs->umask);
        return r;
}

/* Who came before and has the same table, or directories; NULL. */
static struct restore_task *sharer(const struct restore_task *t, bool fs) {
        const struct restore *r = t->restore;

        for (size_t i = 0; i < r->nr_tasks && r->tasks[i] != t; i++) {
                struct restore_task *other = r->tasks[i];

                if (other->kind != RESTORE_TASK_LIVE || !other->ids || !t->ids)
                        continue;
                if (fs ? other->ids->fs_id == t->ids->fs_id : other->ids->files_id == t->ids->files_id)
                        return other;
        }
        return NULL;
}

/* Working directory, root and umask are in the image of each of them, and are set by each. */
static int check_same_fs(const struct restore_task *t, struct ckpt_error *err) {
        const struct restore_task *other = sharer(t, true);

        if (!other || (t->fs->cwd_id == other->fs->cwd_id && t->fs->root_id == other->fs->root_id &&
                       t->fs->has_umask == other->fs->has_umask && t->fs->umask == other->fs->umask))
                return 0;
        return ckpt_error(err, -EBADMSG,
                          "fs-%d.img and fs-%d.img differ, but the two processes share all of it", t->pid,
                          other->pid);
}

int fd_load_task(struct restore_task *t, struct ckpt_error *err) {
        const Img__Inventory *inventory = image_dir_inventory(t->restore->dir);
        bool per_id = inventory->has_fdinfo_per_id && inventory->fdinfo_per_id && t->ids;
        int r = 0;

        ckpt_assert(t->restore->files && !t->fds);
        t->fds = arena_new(&t->arena, struct restore_fds);
        t->fds->shared = sharer(t, false);
        if (!t->fds->shared)
                r = read_table(t, per_id ? t->ids->files_id : (unsigned long)t->pid, err);
        if (r == 0)
                r = read_fs(t, err);
        if (r == 0)
                r = check_same_fs(t, err);
        return r < 0 ? r : lock_load_task(t, err);
}

int fd_highest(const struct restore *r) {
        int highest = -1;

        for (size_t i = 0; i < r->nr_tasks; i++) {
                const struct restore_fds *fds = r->tasks[i]->fds;

                if (fds && fds->slots.n > 0)
                        highest = MAX(highest, fds->slots.v[fds->slots.n - 1].fd);
        }
        return highest;
}
