/* SPDX-License-Identifier: GPL-2.0-only */
/* What pipes and named pipes have in common: their contents, and who else has them open. */
#pragma once

#include "fd/kind.h"

/* ---- dump ---- */

/* The ends of one pipe that the tree has. */
struct pipe_ends {
        uint32_t pipe_id;
        const struct dump_file *reader, *writer; /* one of each, NULL if the tree has none; O_RDWR is both */
};
DEFINE_VEC(pipe_ends_vec, struct pipe_ends);

/* Group the collected files of this kind; `id_of` gives the pipe_id of one. Sorted by pipe_id. */
void pipe_group(struct dump *d, const struct fd_kind *kind, uint32_t (*id_of)(const struct dump_file *f),
                struct pipe_ends_vec *ret);

struct pipe_content {
        uint32_t capacity; /* bytes */
        uint32_t *packets; /* sizes, in order; a pipe that is no packet pipe has one at most */
        size_t nr_packets;
        char *data;
        size_t size;
};

void pipe_content_done(struct pipe_content *c);

/*
 * Read what is in the pipe behind `fd` (able to read), without taking it out. `scratch` is a pipe for it, made at
 * the first call and the caller's to close.
 */
int pipe_peek(int fd, int scratch[2], struct pipe_content *ret, struct ckpt_error *err);

/* Only its capacity, by any end. */
int pipe_peek_capacity(int fd, struct pipe_content *ret, struct ckpt_error *err);

/* One entry for each packet. */
int pipe_write_content(struct image_file *image, uint32_t pipe_id, const struct pipe_content *c,
                       struct ckpt_error *err);

/* A process outside of the tree that has `p`, a pipe or named pipe, open; 0: nobody. */
pid_t pipe_foreign_holder(const struct fd_probe *p);

/* The same of the socket with this inode. */
pid_t sock_foreign_holder(struct dump *d, uint64_t ino);

/* ---- restore ---- */

/* One pipe being restored. */
struct pipe_rebuild {
        uint32_t pipe_id;
        bool has_content; /* the image has something about it, be it only its capacity */
        bool packet_mode; /* one of its writers is in it */
        bool made;
        struct pipe_content content;
        size_t nr_files[4]; /* by access mode */
        size_t nr_large;    /* files with O_LARGEFILE: opened by path, not made by pipe(2) */
        size_t nr_waiting;  /* files that are still to be opened */
        int ends[2];        /* as they were made, until they have become somebody's */
        int door;           /* O_PATH: to open further ends by */
};

struct pipe_rebuild_set {
        struct pipe_rebuild *v; /* sorted by pipe_id */
        size_t n;
        bool counted;
};

/* One pipe_rebuild for each pipe_id among the files of `type`, with its contents from the image. */
int pipe_rebuild_load(struct restore *r, enum fd_state state, Img__FdTypes type, enum image_kind kind,
                      struct ckpt_error *err);

/* The pipe of this file; when all tables are loaded. */
struct pipe_rebuild *pipe_rebuild_find(struct restore *r, enum fd_state state,
                                       const struct restore_file *file);

/* Close what it holds: all of its files are open. */
void pipe_rebuild_close(struct pipe_rebuild *p);
void pipe_rebuild_free(struct restore_files *files, enum fd_state state);

/* Set the capacity and write the contents through `fd`, which is non-blocking and can be written to. */
int pipe_fill(const struct pipe_rebuild *p, int fd, struct ckpt_error *err);

/* Set the capacity only. */
int pipe_set_capacity(const struct pipe_rebuild *p, int fd, struct ckpt_error *err);
