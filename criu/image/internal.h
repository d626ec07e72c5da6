/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of criu/image/ share with each other and with their tests and fuzz target. */
#pragma once

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "image/image.h"
#include "vec.h"

#define IMAGE_STAGING_DIR ".ckpt-staging"
#define IMAGE_COMMIT_DIR  ".ckpt-commit"

/* A file as checksums.img lists it. */
struct image_record {
        char name[IMAGE_NAME_MAX];
        uint64_t size;
        struct image_digest digest;
        uint8_t *content; /* owned; the verified bytes of a small file, else NULL */
};
DEFINE_VEC(image_record_vec, struct image_record);

/* Sort by name, find by name (NULL if absent), free. */
void image_records_sort(struct image_record_vec *records);
struct image_record *image_records_find(const struct image_record_vec *records, const char *name);
void image_records_done(struct image_record_vec *records);

struct image_chunk {
        struct image_digest digest;
        bool known;
};
DEFINE_VEC(image_chunk_vec, struct image_chunk);

struct image_set {
        int dirfd;
        int stagefd; /* .ckpt-staging, later .ckpt-commit; carries the lock */
        bool direct; /* there is nothing to replace: files are made where they belong, all but the inventory */
        struct image_hooks hooks;
        pthread_mutex_t lock; /* for what follows */
        struct image_record_vec records;
        size_t n_open;
        uint64_t bytes;
        bool committed;
};

struct image_file {
        enum image_kind kind;
        char name[IMAGE_NAME_MAX];
        int dirfd; /* borrowed; for messages */
        int fd;    /* -EBADF when reading from memory */

        uint8_t *buf;
        size_t len, cap;
        bool buf_borrowed;
        uint64_t offset; /* in the file, of buf[0] */

        /* writing */
        struct image_set *set; /* NULL when reading */
        bool pages;            /* written through the descriptor, by anyone */
        bool failed;
        pthread_mutex_t lock; /* for chunks, of pages files */
        struct image_chunk_vec chunks;

        /* reading */
        size_t pos; /* in buf */
        uint64_t size;
};

struct image_dir {
        int fd;
        Img__Inventory *inventory;
        struct image_record_vec records;
        struct image_verification *late; /* of large files; NULL: none is under way */
};

/* Where a file of this kind is being made. */
static inline int image_set_place(const struct image_set *set, enum image_kind kind) {
        return set->direct && kind != IMAGE_INVENTORY ? set->dirfd : set->stagefd;
}

/* The path of an open directory, for messages. Always gives a string. */
const char *image_dir_path(int dirfd, char buf[PATH_MAX]);

void image_step(const struct image_hooks *hooks, const char *step);

/* Fill *err for an operation on `name` in a set being written. Returns code. */
int image_write_error(const struct image_set *set, const char *name, int code, struct ckpt_error *err);

/* commit.c, with the hooks for tests */
int image_recover_hooked(int dirfd, const struct image_hooks *hooks, struct ckpt_error *err);
/*
 * Take the lock that marks `name` in dirfd as in use, creating the directory if `create`. -ENOENT,
 * -EBUSY.
 */
int image_lock_dir(int dirfd, const char *name, bool create, int *ret_fd, struct ckpt_error *err);
/* Names in a directory for which `want` says yes; each strdup()ed. */
DEFINE_VEC(image_name_vec, char *);
int image_list_dir(int dirfd, bool (*want)(const char *name, const void *userdata), const void *userdata,
                   struct image_name_vec *ret);
void image_names_done(struct image_name_vec *names);

/* checksums.c */
int image_checksums_write(struct image_set *set, const Img__Inventory *template, struct ckpt_error *err);
/* Parse checksums.img, given as bytes. Names are checked, sorted and free of duplicates. */
int image_checksums_parse(int dirfd, const uint8_t *data, size_t len, struct image_record_vec *ret,
                          struct ckpt_error *err);
/* Load a whole file of dirfd. -ENOENT stays without a message. */
int image_read_whole(int dirfd, const char *name, size_t max, uint8_t **ret, size_t *ret_len,
                     struct ckpt_error *err);
/* The digest of an inventory's bytes without the field that names the checksums; also its length. */
int image_inventory_digest(const uint8_t *payload, size_t len, struct image_digest *ret, uint64_t *ret_len);

/* verify.c: every file of dir->records against its size and digest, or only its size. */
int image_verify(struct image_dir *dir, unsigned threads, struct ckpt_error *err);

/*
 * The same in two steps: files of more than a chunk are only being looked at, by threads, when the first returns. Then comes
 * the end, or the threads are sent away, also after an error.
 */
int image_verify_begin(struct image_dir *dir, unsigned threads, struct ckpt_error *err);
int image_verify_end(struct image_dir *dir, struct ckpt_error *err);
void image_verify_cancel(struct image_dir *dir);

/* wire.c: would protobuf-c survive and accept this message? 0, or -EBADMSG and a reason. */
int image_wire_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t len,
                     const char **ret_why);
/* One field of the wire format at *pos. 0: *pos is at the next field; -EBADMSG. */
struct image_wire_field {
        uint32_t number;
        unsigned type;
        uint64_t value;      /* of types 0, 1, 5 */
        const uint8_t *data; /* of type 2 */
        size_t len;
};
int image_wire_next(const uint8_t *data, size_t len, size_t *pos, struct image_wire_field *ret);

/* read.c: a file whose bytes are in memory (borrowed); checks the header. */
int image_open_memory(int dirfd, enum image_kind kind, const char *name, const uint8_t *data, size_t len,
                      struct image_file **ret, struct ckpt_error *err);
/* The bytes of the next entry, valid until the next read. 1, 0 at the end of the file, or negative. */
int image_read_entry(struct image_file *file, const uint8_t **ret, size_t *ret_len, struct ckpt_error *err);
