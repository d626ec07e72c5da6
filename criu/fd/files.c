/* SPDX-License-Identifier: GPL-2.0-only */
/* All open files of the tree that is dumped, each once, and files that are known by their path only. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/copy.h"
#include "fd/ghost.h"
#include "fd/kind.h"
#include "fd/linked.h"
#include "fd/same.h"
#include "lib/fault.h"
#include "macro.h"

enum { FLAG_LARGEFILE = 0100000 };

struct dump_files *dump_files(struct dump *d) {
        struct dump_files *files = d->files;
        pthread_mutexattr_t recursive;

        if (files)
                return files;
        files = calloc(1, sizeof(*files));
        ckpt_assert(files);
        pthread_mutexattr_init(&recursive);
        pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
        pthread_mutex_init(&files->lock, &recursive);
        pthread_mutexattr_destroy(&recursive);
        files->getting_by = -EBADF;
        files->groups = calloc(FILE_BUCKETS, sizeof(struct file_group *));
        files->paths = calloc(FILE_BUCKETS, sizeof(struct dump_path *));
        ckpt_assert(files->groups && files->paths);
        d->files = files;
        return files;
}

void fd_look_init(struct dump *d) {
        dump_files(d);
}

void fd_dump_free(struct dump *d) {
        struct dump_files *files = d->files;

        if (!files)
                return;
        linked_undo(files);
        for (size_t i = 0; i < FILE_BUCKETS; i++)
                for (struct file_group *g = files->groups[i]; g; g = g->next)
                        dump_file_vec_done(&g->files);
        free(files->groups);
        free(files->paths);
        dump_file_vec_done(&files->all);
        table_vec_done(&files->tables);
        table_vec_done(&files->fs);
        table_vec_done(&files->vm);
        fs_type_vec_done(&files->fs_types);
        foreign_seen_done(&files->foreign);
        ancestor_fd_vec_done(&files->ancestors);
        copy_readers_free(files);
        if (files->own)
                proc_close(files->own);
        safe_close(files->getting_by);
        arena_done(&files->arena);
        pthread_mutex_destroy(&files->lock);
        free(files);
        d->files = NULL;
}

static size_t bucket(uint64_t dev, uint64_t ino) {
        uint64_t h = (ino + dev) * 0x9e3779b97f4a7c15;

        return h >> 52; /* FILE_BUCKETS is 1 << 12 */
}

struct dump_file *dump_file_new(struct dump_files *files, const struct fd_kind *kind) {
        struct dump_file *f = arena_new(&files->arena, struct dump_file);

        f->kind = kind;
        f->id = ++files->last_id;
        f->fd = -1;
        f->msg = arena_message(&files->arena, Img__File, img__file__init);
        f->msg->type = kind->type;
        f->msg->id = f->id;
        ckpt_assert(dump_file_vec_push(&files->all, f) == 0);
        return f;
}

/* -1, 0, 1: less, equal, greater; other negative numbers: errno. kcmp(2) orders by where the kernel keeps them. */
static int compare_objects(pid_t a, pid_t b, int type, int fd_a, int fd_b, int *ret) {
        long r = syscall(SYS_kcmp, a, b, type, fd_a, fd_b);

        if (r < 0)
                return -errno;
        if (r > 2)
                return -EOPNOTSUPP; /* not ordered: the kernel says different, no more */
        *ret = r == 0 ? 0 : r == 1 ? -1 : 1;
        return 0;
}

static struct file_group *group_for(struct dump_files *files, uint64_t dev, uint64_t ino) {
        struct file_group **head = &files->groups[bucket(dev, ino)], *g;

        for (g = *head; g; g = g->next)
                if (g->ino == ino && g->dev == dev)
                        return g;
        g = arena_new(&files->arena, struct file_group);
        *g = (struct file_group){ .next = *head, .dev = dev, .ino = ino };
        *head = g;
        return g;
}

int dump_file_find(struct dump_files *files, const struct fd_probe *p, struct file_group **ret_group,
                   size_t *ret_at, struct dump_file **ret) {
        struct file_group *g = group_for(files, statx_dev(&p->st), p->st.stx_ino);
        size_t low = 0, high = g->files.n;

        *ret = NULL;
        while (low < high && !*ret) {
                size_t middle = low + (high - low) / 2;
                struct dump_file *f = g->files.v[middle];
                int order = 0, r;

                r = compare_objects(p->proc->pid, f->tid, KCMP_FILE, p->fd, f->fd, &order);
                if (r < 0)
                        return r;
                if (order == 0)
                        *ret = f;
                else if (order < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        *ret_group = g;
        *ret_at = low;
        return 0;
}

int table_add(struct table_vec *vec, struct dump_fds *t, int type, struct dump_fds **ret_shared) {
        size_t low = 0, high = vec->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                int order = 0, r;

                r = compare_objects(t->tid, vec->v[middle]->tid, type, 0, 0, &order);
                if (r < 0)
                        return r;
                if (order == 0) {
                        *ret_shared = vec->v[middle];
                        return 0;
                }
                if (order < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        if (table_vec_push(vec, t) < 0)
                return -ENOMEM;
        memmove(&vec->v[low + 1], &vec->v[low], (vec->n - 1 - low) * sizeof(*vec->v));
        vec->v[low] = t;
        *ret_shared = NULL;
        return 0;
}

/* ---- by path ---- */

static struct dump_path *known_path(struct dump_files *files, const struct fd_probe *p, uint32_t flags) {
        uint64_t dev = statx_dev(&p->st);
        struct dump_path *k = files->paths[bucket(dev, p->st.stx_ino)];

        while (k && (k->ino != p->st.stx_ino || k->dev != dev || k->flags != flags ||
                     strcmp(k->path, p->link) != 0))
                k = k->next;
        return k;
}

static void note_path(struct dump_files *files, const struct fd_probe *p, uint32_t flags, uint32_t id) {
        struct dump_path **head = &files->paths[bucket(statx_dev(&p->st), p->st.stx_ino)];
        struct dump_path *path = arena_new(&files->arena, struct dump_path);

        *path = (struct dump_path){
                .next = *head,
                .dev = statx_dev(&p->st),
                .ino = p->st.stx_ino,
                .flags = flags,
                .id = id,
                .path = arena_strdup(&files->arena, p->link),
        };
        *head = path;
}

static uint32_t add_path(struct dump_files *files, const struct fd_probe *p, const struct statx *st,
                         uint32_t flags) {
        struct dump_file *file = dump_file_new(files, &fd_kind_reg);

        file->msg->reg = arena_new(&files->arena, Img__RegFile);
        reg_fill(files, file->msg->reg, file->id, ghost_path(&files->arena, p), flags, 0, st,
                 arena_message(&files->arena, Img__Fown, img__fown__init));
        ghost_note(files, p, file->id);
        linked_note(files, p, file->id);
        note_path(files, p, flags, file->id);
        return file->id;
}

/* What has no path but can be mapped or executed all the same. */
static int add_without_path(struct dump_files *files, const struct fd_kind *kind, struct fd_probe *p,
                            uint32_t flags, uint32_t *ret, struct ckpt_error *err) {
        struct dump_file *file = dump_file_new(files, kind);
        int r = kind->dump_path(p, flags, file, err);

        if (r == 0) {
                note_path(files, p, flags, file->id);
                *ret = file->id;
        }
        return r;
}

int dump_path_id(struct fd_probe *p, uint32_t open_flags, struct blockers *b, uint32_t *ret,
                 struct ckpt_error *err) {
        struct dump_files *files = dump_files(p->task->dump);
        const struct fd_kind *kind;
        struct dump_path *known;
        struct statx st;
        int r = 0;

        pthread_mutex_lock(&files->lock);
        known = known_path(files, p, open_flags);
        if (known) {
                *ret = known->id;
        } else {
                kind = fd_kind_of(p);
                if (kind != &fd_kind_reg)
                        fd_kind_look(kind, p, b);
                else if (reg_path_leads_there(p, b, &st))
                        *ret = add_path(files, p, &st, open_flags);
                if (kind->dump_path && blockers_count(b) == 0)
                        r = add_without_path(files, kind, p, open_flags, ret, err);
        }
        pthread_mutex_unlock(&files->lock);
        return r;
}

/* A file by a link below /proc/PID. `link` is PATH_MAX bytes. */
static struct fd_probe path_probe(struct dump_task *t, const char *where, char *link, int *pidfd) {
        return (struct fd_probe){
                .task = t,
                .proc = &t->proc,
                .fd = -1,
                .where = where,
                .what = strcmp(where, "exe") == 0 ? "its program" : "a file that it has mapped",
                .link_buf = link,
                .pidfd = pidfd,
        };
}

void files_look_path(struct dump_task *t, const char *map_files, struct blockers *b) {
        char link[PATH_MAX];
        int pidfd = -EBADF;
        struct fd_probe p = path_probe(t, map_files, link, &pidfd);

        if (fd_probe_path(&p) < 0)
                return;
        fd_kind_look(fd_kind_of(&p), &p, b);
}

int files_add_path(struct dump_task *t, const char *map_files, uint32_t open_flags, uint32_t *ret_id,
                   struct ckpt_error *err) {
        _cleanup_(blockers_free) struct blockers *b = blockers_new();
        char link[PATH_MAX];
        int pidfd = -EBADF, r;
        struct fd_probe p = path_probe(t, map_files, link, &pidfd);
        bool exe = strcmp(map_files, "exe") == 0;
        uint32_t id = 0;

        if (exe && same_place_known(t, SAME_EXE, ret_id))
                return 0;
        r = fd_probe_stat(&p);
        if (r == 0 && exe && same_place_collected(&p, SAME_EXE, ret_id))
                return 0;
        if (r == 0)
                r = fd_probe_link(&p);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read where %s leads", dump_task_name(t),
                                        map_files);
        r = dump_path_id(&p, (open_flags & ~(uint32_t)O_CLOEXEC) | FLAG_LARGEFILE, b, &id, err);
        if (r == 0)
                r = blockers_to_error(b, "the tree runs on as before", err);
        if (r < 0)
                return r;
        if (exe)
                same_note_place_collected(&p, SAME_EXE, id);
        *ret_id = id;
        return 0;
}

/* ---- files.img ---- */

static int write_files(struct dump *d, struct ckpt_error *err) {
        struct dump_files *files = dump_files(d);
        _cleanup_image_file_ struct image_file *image = NULL;
        int r;

        r = fault_point_error(FAULT_DUMP_WRITE_IMAGE, err);
        if (r == 0)
                r = image_open_write(d->set, IMAGE_FILES, 0, &image, err);
        for (size_t i = 0; r == 0 && i < files->all.n; i++)
                r = image_write(image, &files->all.v[i]->msg->base, err);
        return r < 0 ? r : image_close(TAKE_PTR(image), err);
}

int fd_save_files(struct dump *d, struct ckpt_error *err) {
        const struct fd_kind *kind;
        int r = 0;

        for (size_t i = 0; r == 0 && (kind = fd_kind_row(i)); i++)
                if (kind->save)
                        r = kind->save(d, err);
        if (r == 0)
                r = ghost_save(d, err);
        if (r == 0)
                r = lock_save(d, err);
        return r < 0 ? r : write_files(d, err);
}
