/* SPDX-License-Identifier: GPL-2.0-only */
/* What is in a pipe: read without taking it out, written as it was; and who else has the pipe. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/pipe.h"
#include "lib/io.h"
#include "log.h"
#include "macro.h"

enum {
        CAPACITY_DEFAULT = 65536,
        PAGE = 4096,
        CAPACITY_MAX = 1 << 30,
};

/* ---- dump ---- */

static int compare_ends(const void *a, const void *b) {
        const struct pipe_ends *x = a, *y = b;

        return (x->pipe_id > y->pipe_id) - (x->pipe_id < y->pipe_id);
}

static void merge(struct pipe_ends_vec *ends) {
        size_t n = 0;

        for (size_t i = 0; i < ends->n; i++) {
                struct pipe_ends *e = &ends->v[i];

                if (n > 0 && ends->v[n - 1].pipe_id == e->pipe_id) {
                        if (!ends->v[n - 1].reader)
                                ends->v[n - 1].reader = e->reader;
                        if (!ends->v[n - 1].writer)
                                ends->v[n - 1].writer = e->writer;
                } else {
                        ends->v[n++] = *e;
                }
        }
        ends->n = n;
}

void pipe_group(struct dump *d, const struct fd_kind *kind, uint32_t (*id_of)(const struct dump_file *f),
                struct pipe_ends_vec *ret) {
        struct dump_files *files = dump_files(d);

        for (size_t i = 0; i < files->all.n; i++) {
                const struct dump_file *f = files->all.v[i];
                struct pipe_ends *e;
                uint32_t mode;

                if (f->kind != kind)
                        continue;
                e = pipe_ends_vec_add(ret);
                ckpt_assert(e);
                mode = (f->path ? f->path->flags : f->msg->pipe->flags) & O_ACCMODE;
                *e = (struct pipe_ends){ .pipe_id = id_of(f),
                                         .reader = mode != O_WRONLY ? f : NULL,
                                         .writer = mode != O_RDONLY ? f : NULL };
        }
        if (ret->n > 0)
                qsort(ret->v, ret->n, sizeof(*ret->v), compare_ends);
        merge(ret);
}

void pipe_content_done(struct pipe_content *c) {
        free(c->packets);
        free(c->data);
        *c = (struct pipe_content){ 0 };
}

/* tee(2) copies whole buffers of a pipe; the scratch pipe needs as many as the other. */
static int prepare_scratch(int scratch[2], int capacity) {
        int now;

        if (scratch[0] < 0 && pipe2(scratch, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        now = fcntl(scratch[1], F_GETPIPE_SZ);
        if (now < 0)
                return -errno;
        if (now < capacity)
                (void)!fcntl(scratch[1], F_SETPIPE_SZ, capacity); /* what does not fit is noticed below */
        return 0;
}

/* Reading a packet ends a read(2), so that each read gives one; other data comes as much as there is. */
static int read_packets(int fd, size_t total, struct pipe_content *c) {
        size_t cap = 0;

        c->data = malloc(total);
        if (!c->data)
                return -ENOMEM;
        while (c->size < total) {
                ssize_t n = read(fd, c->data + c->size, total - c->size);

                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                if (c->nr_packets == cap) {
                        uint32_t *packets;

                        cap = cap ? cap * 2 : 16;
                        packets = reallocarray(c->packets, cap, sizeof(*packets));
                        if (!packets)
                                return -ENOMEM;
                        c->packets = packets;
                }
                c->packets[c->nr_packets++] = (uint32_t)n;
                c->size += (size_t)n;
        }
        return 0;
}

int pipe_peek(int fd, int scratch[2], struct pipe_content *ret, struct ckpt_error *err) {
        _cleanup_(pipe_content_done) struct pipe_content c = { 0 };
        int capacity, available = 0, r;
        ssize_t n;

        capacity = fcntl(fd, F_GETPIPE_SZ);
        if (capacity < 0 || ioctl(fd, FIONREAD, &available) < 0)
                return ckpt_error_errno(err, -errno, "cannot ask the pipe what is in it");
        c.capacity = (uint32_t)capacity;
        if (available > 0) {
                r = prepare_scratch(scratch, capacity);
                if (r < 0)
                        return ckpt_error_errno(err, r, "cannot make a pipe to copy to");
                n = tee(fd, scratch[1], INT_MAX, SPLICE_F_NONBLOCK);
                if (n < 0)
                        return ckpt_error_errno(err, -errno, "cannot copy what is in the pipe");
                if (n < available) {
                        ckpt_error(err, -EPERM, "it is a pipe with %d bytes in it, more than ckpt can copy",
                                   available);
                        return ckpt_error_hint(err,
                                               "Run ckpt with CAP_SYS_RESOURCE, or raise fs.pipe-max-size");
                }
                r = read_packets(scratch[0], (size_t)n, &c);
                if (r < 0)
                        return ckpt_error_errno(err, r, "cannot read what is in the pipe");
        }
        *ret = c;
        c = (struct pipe_content){ 0 };
        return 0;
}

int pipe_peek_capacity(int fd, struct pipe_content *ret, struct ckpt_error *err) {
        int capacity = fcntl(fd, F_GETPIPE_SZ);

        if (capacity < 0)
                return ckpt_error_errno(err, -errno, "cannot ask the pipe for its capacity");
        *ret = (struct pipe_content){ .capacity = (uint32_t)capacity };
        return 0;
}

int pipe_write_content(struct image_file *image, uint32_t pipe_id, const struct pipe_content *c,
                       struct ckpt_error *err) {
        Img__PipeData entry = IMG__PIPE_DATA__INIT;
        size_t at = 0, i = 0;
        int r;

        entry.pipe_id = pipe_id;
        entry.has_size = true;
        entry.size = c->capacity;
        do {
                entry.bytes = c->nr_packets > 0 ? c->packets[i] : 0;
                r = image_write(image, &entry.base, err);
                if (r == 0 && entry.bytes > 0)
                        r = image_write_raw(image, c->data + at, entry.bytes, err);
                at += entry.bytes;
        } while (r == 0 && ++i < c->nr_packets);
        return r;
}

/* ---- restore ---- */

static int compare_rebuild(const void *a, const void *b) {
        const struct pipe_rebuild *x = a, *y = b;

        return (x->pipe_id > y->pipe_id) - (x->pipe_id < y->pipe_id);
}

static uint32_t pipe_id_of(const struct restore_file *file) {
        return file->msg->type == IMG__FD_TYPES__PIPE ? file->msg->pipe->pipe_id : file->msg->fifo->pipe_id;
}

static struct pipe_rebuild *find(struct pipe_rebuild_set *set, uint32_t pipe_id) {
        struct pipe_rebuild key = { .pipe_id = pipe_id };

        return set->n > 0 ? bsearch(&key, set->v, set->n, sizeof(key), compare_rebuild) : NULL;
}

/* The images name every pipe; which of its ends some task has is known when all tables are read. */
static void make_set(struct restore_files *files, Img__FdTypes type, struct pipe_rebuild_set *set) {
        size_t n = 0;

        set->v = calloc(files->n + 1, sizeof(*set->v));
        ckpt_assert(set->v);
        for (size_t i = 0; i < files->n; i++) {
                const struct restore_file *file = &files->v[i];

                if (file->msg->type == type)
                        set->v[set->n++] = (struct pipe_rebuild){
                                .pipe_id = pipe_id_of(file),
                                .ends = { -EBADF, -EBADF },
                                .door = -EBADF,
                        };
        }
        if (set->n > 0)
                qsort(set->v, set->n, sizeof(*set->v), compare_rebuild);
        for (size_t i = 0; i < set->n; i++)
                if (n == 0 || set->v[n - 1].pipe_id != set->v[i].pipe_id)
                        set->v[n++] = set->v[i];
        set->n = n;
}

static void count_ends(struct restore_files *files, Img__FdTypes type, struct pipe_rebuild_set *set) {
        for (size_t i = 0; i < files->n; i++) {
                const struct restore_file *file = &files->v[i];
                uint32_t flags = fd_flags_of(files, file);
                struct pipe_rebuild *p;

                if (file->msg->type != type || file->nr_slots == 0)
                        continue;
                p = find(set, pipe_id_of(file));
                p->nr_files[flags & O_ACCMODE]++;
                p->nr_large += (flags & 0100000) != 0;
                p->nr_waiting++;
                if ((flags & O_ACCMODE) != O_RDONLY && flags & O_DIRECT)
                        p->packet_mode = true;
        }
        set->counted = true;
}

struct pipe_rebuild *pipe_rebuild_find(struct restore *r, enum fd_state state,
                                       const struct restore_file *file) {
        struct pipe_rebuild_set *set = r->files->state[state];

        if (!set->counted)
                count_ends(r->files, file->msg->type, set);
        return find(set, pipe_id_of(file));
}

/* `p` may be NULL: a pipe that no task has. */
static int read_entry(struct image_file *image, const Img__PipeData *entry, struct pipe_rebuild *p,
                      struct ckpt_error *err) {
        struct pipe_content *c = p ? &p->content : NULL;
        uint32_t *packets;
        char *data;

        if (entry->bytes > image_remaining(image))
                return image_damaged(image, err, "pipe %u is said to hold %u bytes, more than the file has",
                                     entry->pipe_id, entry->bytes);
        if (entry->bytes > CAPACITY_MAX || (entry->has_size && entry->size > CAPACITY_MAX))
                return image_damaged(image, err, "pipe %u is impossibly large", entry->pipe_id);
        data = realloc(c ? c->data : NULL, (c ? c->size : 0) + entry->bytes + 1);
        if (!data)
                return ckpt_error(err, -ENOMEM, "not enough memory for what is in the pipes");
        if (!c) {
                _cleanup_free_ char *ignored = data;

                return image_read_raw(image, ignored, entry->bytes, err);
        }
        c->data = data;
        p->has_content = true;
        if (entry->has_size)
                c->capacity = entry->size;
        if (entry->bytes == 0)
                return 0;
        packets = reallocarray(c->packets, c->nr_packets + 1, sizeof(*packets));
        if (!packets)
                return ckpt_error(err, -ENOMEM, "not enough memory for what is in the pipes");
        c->packets = packets;
        c->packets[c->nr_packets++] = entry->bytes;
        c->size += entry->bytes;
        return image_read_raw(image, c->data + c->size - entry->bytes, entry->bytes, err);
}

static int take_entry(void *ctx, struct image_file *image, void **message, struct ckpt_error *err) {
        const Img__PipeData *entry = *message;

        return read_entry(image, entry, find(ctx, entry->pipe_id), err);
}

void pipe_rebuild_close(struct pipe_rebuild *p) {
        p->ends[0] = safe_close(p->ends[0]);
        p->ends[1] = safe_close(p->ends[1]);
        p->door = safe_close(p->door);
}

void pipe_rebuild_free(struct restore_files *files, enum fd_state state) {
        struct pipe_rebuild_set *set = files->state[state];

        if (!set)
                return;
        for (size_t i = 0; i < set->n; i++) {
                pipe_rebuild_close(&set->v[i]);
                pipe_content_done(&set->v[i].content);
        }
        free(set->v);
        free(set);
        files->state[state] = NULL;
}

int pipe_set_capacity(const struct pipe_rebuild *p, int fd, struct ckpt_error *err) {
        int want = (int)p->content.capacity, now = fcntl(fd, F_GETPIPE_SZ);

        if (now < 0)
                return ckpt_error_errno(err, -errno, "cannot ask the capacity of pipe %u", p->pipe_id);
        if (want == 0)
                want = CAPACITY_DEFAULT;
        if (now == want || fcntl(fd, F_SETPIPE_SZ, want) == want)
                return 0;
        if (errno != EPERM)
                return ckpt_error_errno(err, -errno, "cannot give pipe %u a capacity of %d bytes",
                                        p->pipe_id, want);
        /* Beyond fs.pipe-max-size it takes CAP_SYS_RESOURCE. What is in the pipe decides whether less will do. */
        while (want > now && fcntl(fd, F_SETPIPE_SZ, want) < 0)
                want /= 2;
        log_warn("pipe %u had a capacity of %u bytes and gets %d: more takes CAP_SYS_RESOURCE", p->pipe_id,
                 p->content.capacity, fcntl(fd, F_GETPIPE_SZ));
        return 0;
}

int pipe_fill(const struct pipe_rebuild *p, int fd, struct ckpt_error *err) {
        const struct pipe_content *c = &p->content;
        bool packets = c->nr_packets > 1 || p->packet_mode;
        size_t at = 0;
        int r;

        r = pipe_set_capacity(p, fd, err);
        if (r < 0)
                return r;
        if (fcntl(fd, F_SETFL, O_NONBLOCK | (packets ? O_DIRECT : 0)) < 0)
                return ckpt_error_errno(err, -errno, "cannot set the mode of pipe %u", p->pipe_id);
        for (size_t i = 0; i < c->nr_packets; i++) {
                r = write_full(fd, c->data + at, c->packets[i]);
                if (r < 0)
                        return ckpt_error_errno(err, r,
                                                "cannot put %zu bytes into pipe %u, which has room for %d",
                                                c->size, p->pipe_id, fcntl(fd, F_GETPIPE_SZ));
                at += c->packets[i];
        }
        return 0;
}

/* Each packet begins a page. */
static size_t pages_of(const struct pipe_content *c) {
        size_t n = 0;

        for (size_t i = 0; i < c->nr_packets; i++)
                n += (c->packets[i] + PAGE - 1) / PAGE;
        return n;
}

/* Will what is in it find room, with the capacity that ckpt may give it? By trial, where that is in doubt. */
static int try_room(const struct pipe_rebuild *p, struct ckpt_error *err) {
        _cleanup_close_ int in = -EBADF, out = -EBADF;
        int want = p->content.capacity > 0 ? (int)p->content.capacity : CAPACITY_DEFAULT, ends[2], r;
        bool fits = pages_of(&p->content) <= (size_t)want / PAGE;

        if (fits && want <= CAPACITY_DEFAULT)
                return 0;
        if (pipe2(ends, O_CLOEXEC) < 0)
                return ckpt_error_errno(err, -errno, "cannot make a pipe");
        out = ends[0];
        in = ends[1];
        if (fits && (fcntl(in, F_SETPIPE_SZ, want) == want || errno != EPERM))
                return 0;
        r = pipe_fill(p, in, err);
        if (r < 0 && fits)
                ckpt_error_hint(err, "Give ckpt CAP_SYS_RESOURCE, or raise fs.pipe-max-size");
        return r;
}

int pipe_rebuild_load(struct restore *r, enum fd_state state, Img__FdTypes type, enum image_kind kind,
                      struct ckpt_error *err) {
        struct pipe_rebuild_set *set = calloc(1, sizeof(*set));
        int rc;

        ckpt_assert(set);
        r->files->state[state] = set;
        make_set(r->files, type, set);
        rc = image_each(r->dir, kind, 0, IMAGE_OPTIONAL, &img__pipe_data__descriptor, take_entry, set, err);
        for (size_t i = 0; rc == 0 && i < set->n; i++)
                rc = try_room(&set->v[i], err);
        return rc;
}
