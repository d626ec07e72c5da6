/* SPDX-License-Identifier: GPL-2.0-only */
/* Open files, what is in pipes, and the descriptor tables that refer to them. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "cleanup.h"
#include "images/core.pb-c.h"
#include "inspect/model.h"
#include "macro.h"

static int no_memory(struct inspect *in) {
        return ckpt_error(in->err, -ENOMEM, "not enough memory to read the images");
}

static int compare_u64(uint64_t x, uint64_t y) {
        return (x > y) - (x < y);
}

/* A type and an id within it, as one number to sort and search by. */
static uint64_t file_key(uint32_t type, uint32_t id) {
        return (uint64_t)type << 32 | id;
}

/* --- files.img and its older kin ------------------------------------------------------------------------ */

static int add_file(struct inspect *in, struct image_file *image, const Img__File *file) {
        const struct file_kind *kind = file_kind(file->type);

        if (kind && !file_message(file))
                return image_damaged(image, in->err, "file %u is of the type %s, but has no data of it",
                                     file->id, kind->name);
        /* A path stands in the output as often as it is referred to. */
        if (file->type == IMG__FD_TYPES__REG && strlen(file->reg->name) >= PATH_MAX)
                return image_damaged(image, in->err, "the path of file %u is too long", file->id);
        return file_vec_push(&in->files, file) < 0 ? no_memory(in) : 0;
}

static int read_files(struct inspect *in) {
        _cleanup_image_file_ struct image_file *image = NULL;
        int r;

        r = image_open_read(in->dir, IMAGE_FILES, 0, IMAGE_OPTIONAL, &image, in->err);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        for (;;) {
                Img__File *file = NULL;

                r = inspect_read(in, image, &img__file__descriptor, &file);
                if (r > 0)
                        r = add_file(in, image, file);
                else
                        return r;
                if (r < 0)
                        return r;
        }
}

/* Entries of reg-files.img and the like, wrapped as in files.img. */
static int read_old_files(struct inspect *in, const struct file_kind *kind) {
        _cleanup_image_file_ struct image_file *image = NULL;
        int r;

        r = image_open_read(in->dir, kind->old, 0, IMAGE_OPTIONAL, &image, in->err);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        for (;;) {
                ProtobufCMessage *message = NULL;
                Img__File *file;

                r = inspect_read(in, image, kind->descriptor, &message);
                if (r <= 0)
                        return r;
                file = arena_message(&in->arena, Img__File, img__file__init);
                file->type = (Img__FdTypes)kind->type;
                memcpy((char *)file + kind->offset, &message, sizeof(message));
                file->id = file_id(file);
                r = add_file(in, image, file);
                if (r < 0)
                        return r;
        }
}

static int compare_files(const void *a, const void *b) {
        const Img__File *x = *(const Img__File *const *)a, *y = *(const Img__File *const *)b;

        return compare_u64(file_key(x->type, x->id), file_key(y->type, y->id));
}

const Img__File *inspect_file(const struct inspect *in, uint32_t type, uint32_t id) {
        Img__File key = { .type = (Img__FdTypes)type, .id = id };
        const Img__File *p = &key, *const * found;

        if (in->files.n == 0)
                return NULL;
        found = bsearch(&p, in->files.v, in->files.n, sizeof(*in->files.v), compare_files);
        return found ? *found : NULL;
}

const char *inspect_path(const struct inspect *in, uint32_t id) {
        const Img__File *file = inspect_file(in, IMG__FD_TYPES__REG, id);

        return file ? file->reg->name : NULL;
}

/* --- pipes ---------------------------------------------------------------------------------------------- */

static uint32_t pipe_id(const Img__File *file) {
        return file->pipe->pipe_id;
}

static int compare_ends(const void *a, const void *b) {
        return compare_u64(pipe_id(*(const Img__File *const *)a), pipe_id(*(const Img__File *const *)b));
}

static int sort_pipe_ends(struct inspect *in) {
        for (size_t i = 0; i < in->files.n; i++)
                if (in->files.v[i]->type == IMG__FD_TYPES__PIPE &&
                    file_vec_push(&in->pipe_ends, in->files.v[i]) < 0)
                        return no_memory(in);
        if (in->pipe_ends.n > 0)
                qsort(in->pipe_ends.v, in->pipe_ends.n, sizeof(*in->pipe_ends.v), compare_ends);
        return 0;
}

/* The first end whose pipe_id is at least `id`. */
static size_t first_end(const struct inspect *in, uint64_t id) {
        size_t low = 0, high = in->pipe_ends.n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (pipe_id(in->pipe_ends.v[middle]) < id)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

const Img__File *const *inspect_pipe_ends(const struct inspect *in, uint32_t id, size_t *ret_n) {
        size_t first = first_end(in, id);

        *ret_n = first_end(in, (uint64_t)id + 1) - first;
        return in->pipe_ends.v + first;
}

static int compare_contents(const void *a, const void *b) {
        const struct pipe_content *x = a, *y = b;

        return compare_u64(x->pipe_id, y->pipe_id);
}

int inspect_skip_raw(struct inspect *in, struct image_file *image, uint64_t len) {
        char buf[4096];
        int r;

        for (; len > 0; len -= MIN(len, (uint64_t)sizeof(buf))) {
                r = image_read_raw(image, buf, (size_t)MIN(len, (uint64_t)sizeof(buf)), in->err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_contents(struct inspect *in, enum image_kind kind, struct pipe_content_vec *ret) {
        _cleanup_image_file_ struct image_file *image = NULL;
        int r;

        r = image_open_read(in->dir, kind, 0, IMAGE_OPTIONAL, &image, in->err);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        for (;;) {
                _cleanup_image_message_ Img__PipeData *data = NULL;
                struct pipe_content *content;

                r = image_read(image, &img__pipe_data__descriptor, &data, in->err);
                if (r <= 0)
                        break;
                r = inspect_skip_raw(in, image, data->bytes);
                if (r < 0)
                        return r;
                content = pipe_content_vec_add(ret);
                if (!content)
                        return no_memory(in);
                *content = (struct pipe_content){ .pipe_id = data->pipe_id,
                                                  .bytes = data->bytes,
                                                  .has_size = data->has_size,
                                                  .size = data->size };
        }
        if (r == 0 && ret->n > 0)
                qsort(ret->v, ret->n, sizeof(*ret->v), compare_contents);
        return r;
}

const struct pipe_content *inspect_pipe(const struct pipe_content_vec *pipes, uint32_t id) {
        const struct pipe_content key = { .pipe_id = id };

        return pipes->n > 0 ? bsearch(&key, pipes->v, pipes->n, sizeof(key), compare_contents) : NULL;
}

int inspect_load_files(struct inspect *in) {
        const struct file_kind *kind;
        int r;

        r = read_files(in);
        for (size_t i = 0; r == 0 && (kind = file_kind_at(i)); i++)
                if (kind->old != IMAGE_KIND_INVALID)
                        r = read_old_files(in, kind);
        if (r < 0)
                return r;
        if (in->files.n > 0)
                qsort(in->files.v, in->files.n, sizeof(*in->files.v), compare_files);
        for (size_t i = 1; i < in->files.n; i++)
                if (compare_files(&in->files.v[i - 1], &in->files.v[i]) == 0)
                        return ckpt_error(
                                in->err, -EBADMSG,
                                "the images in %s are damaged: there are two open files (%s) with the id %u",
                                in->path, file_type_name(in->files.v[i]->type), in->files.v[i]->id);
        r = sort_pipe_ends(in);
        if (r == 0)
                r = read_contents(in, IMAGE_PIPES_DATA, &in->pipes);
        return r < 0 ? r : read_contents(in, IMAGE_FIFO_DATA, &in->fifos);
}

/* --- descriptor tables ---------------------------------------------------------------------------------- */

static int compare_fds(const void *a, const void *b) {
        return compare_u64((*(Img__Fdinfo *const *)a)->fd, (*(Img__Fdinfo *const *)b)->fd);
}

DEFINE_VEC(fdinfo_vec, Img__Fdinfo *);

static int read_table(struct inspect *in, struct image_file *image, struct fd_table *table) {
        _cleanup_(fdinfo_vec_done) struct fdinfo_vec fds = { 0 };
        int r;

        for (;;) {
                Img__Fdinfo *fd = NULL;

                r = inspect_read(in, image, &img__fdinfo__descriptor, &fd);
                if (r < 0)
                        return r;
                if (r == 0)
                        break;
                if (fdinfo_vec_push(&fds, fd) < 0)
                        return no_memory(in);
        }
        if (fds.n > 0)
                qsort(fds.v, fds.n, sizeof(*fds.v), compare_fds);
        for (size_t i = 1; i < fds.n; i++)
                if (fds.v[i]->fd == fds.v[i - 1]->fd)
                        return image_damaged(image, in->err, "the descriptor %u is in it twice",
                                             fds.v[i]->fd);
        for (size_t i = 0; i < fds.n; i++) {
                const struct file_ref ref = {
                        .type = fds.v[i]->type, .file = fds.v[i]->id, .pid = table->owner, .fd = fds.v[i]->fd
                };

                if (file_ref_vec_push(&in->refs, ref) < 0)
                        return no_memory(in);
        }
        table->fds = arena_copy(&in->arena, fds.v, fds.n * sizeof(*fds.v));
        table->n_fds = fds.n;
        return 0;
}

int inspect_load_fds(struct inspect *in, struct task *task) {
        _cleanup_image_file_ struct image_file *image = NULL;
        bool per_id = image_dir_inventory(in->dir)->fdinfo_per_id;
        uint32_t id = per_id && task->ids ? task->ids->files_id : task->pid;
        struct fd_table *table;
        int r;

        if (per_id && !task->ids)
                return 0;
        /* Newest first: those who share one mostly follow each other. */
        for (size_t i = in->tables.n; i > 0; i--)
                if (in->tables.v[i - 1]->id == id) {
                        task->fds = in->tables.v[i - 1];
                        return 0;
                }
        r = image_open_read(in->dir, IMAGE_FDINFO, id, IMAGE_OPTIONAL, &image, in->err);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        table = arena_new(&in->arena, struct fd_table);
        *table = (struct fd_table){ .id = id, .owner = task->pid };
        r = read_table(in, image, table);
        if (r < 0)
                return r;
        if (fd_table_vec_push(&in->tables, table) < 0)
                return no_memory(in);
        task->fds = table;
        return 0;
}

static uint64_t ref_key(const struct file_ref *ref) {
        return file_key(ref->type, ref->file);
}

static int compare_refs(const void *a, const void *b) {
        const struct file_ref *x = a, *y = b;

        return compare_u64(ref_key(x), ref_key(y)) ?: compare_u64(x->pid, y->pid) ?: compare_u64(x->fd, y->fd);
}

void inspect_sort_refs(struct inspect *in) {
        if (in->refs.n > 0)
                qsort(in->refs.v, in->refs.n, sizeof(*in->refs.v), compare_refs);
}

/* The first reference to a file whose key is at least `key`; types are small, so `key` + 1 is one too. */
static size_t first_ref(const struct inspect *in, uint64_t key) {
        size_t low = 0, high = in->refs.n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (ref_key(&in->refs.v[middle]) < key)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

const struct file_ref *inspect_refs(const struct inspect *in, const Img__File *file, size_t *ret_n) {
        uint64_t key = file_key(file->type, file->id);
        size_t first = first_ref(in, key);

        *ret_n = first_ref(in, key + 1) - first;
        return in->refs.v + first;
}
