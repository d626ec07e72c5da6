/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Image files: naming, framing, sets that are written as a whole or not at all, and bounded reading.
 *
 * Writing: image_set_create(), any number of files from any number of threads (image_open_write(),
 * image_write(), image_close()), then image_set_commit(). Until the commit nothing that was in the directory
 * before is touched: files are staged in DIR/.ckpt-staging, which becomes DIR/.ckpt-commit by one rename(2)
 * (the commit point); then its files move into place, the inventory last. Whoever finds a .ckpt-commit
 * finishes that move (image_set_recover()).
 *
 * Reading: image_dir_open() checks the set against its checksums, image_open_read() and image_read() give
 * messages. Everything in an image is untrusted: damage of any sort ends in one error that names the file
 * and the offset.
 *
 * Handles (set, dir) may be used by several threads at once; one image_file belongs to one thread, except
 * for those of image_open_pages(), as said there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <protobuf-c/protobuf-c.h>

#include "error.h"
#include "images/inventory.pb-c.h"

enum image_kind {
#define KIND(name, ...) IMAGE_##name,
#define KIND_HEAD(...)
#include "image/kinds.def"
#undef KIND
#undef KIND_HEAD
        IMAGE_KIND_MAX,
        IMAGE_KIND_INVALID = -1,
};

enum image_form {
        IMAGE_FORM_RAW,     /* no header, no entries */
        IMAGE_FORM_FRAMED,  /* common magic, own magic, entries */
        IMAGE_FORM_PLAIN,   /* own magic, entries */
        IMAGE_FORM_SERVICE, /* service magic, own magic, entries */
        IMAGE_FORM_MAX,
        IMAGE_FORM_INVALID = -1,
};

enum image_id_form {
        IMAGE_ID_NONE,
        IMAGE_ID_DEC,
        IMAGE_ID_HEX,
        IMAGE_ID_MAX,
        IMAGE_ID_INVALID = -1,
};

struct image_kind_info {
        const char *name;   /* "PSTREE" */
        const char *prefix; /* file name = prefix, id, suffix */
        const char *suffix;
        enum image_id_form id_form;
        enum image_form form;
        uint32_t magic;
        const ProtobufCMessageDescriptor *head;    /* the first entry, NULL unless it differs */
        const ProtobufCMessageDescriptor *message; /* the entries, NULL if there are none */
};

#define IMAGE_MAGIC_COMMON  0x54564319U
#define IMAGE_MAGIC_SERVICE 0x55105940U

#define IMAGE_VERSION                2U
#define IMAGE_NAME_MAX               64
#define IMAGE_ENTRY_MAX              (64U << 20) /* bytes of one protobuf message, both ways */
#define IMAGE_CHUNK_SIZE             (1U << 20)  /* bytes under one chunk digest */
#define IMAGE_DIGEST_SIZE            16
#define IMAGE_ALGORITHM_XXH3_CHUNKED 1U

/* The row of a kind; aborts on a value that is none. */
const struct image_kind_info *image_kind_info(enum image_kind kind);

/* The file name of a kind; `id` is ignored by kinds without one. `ret` holds IMAGE_NAME_MAX bytes. */
void image_name(enum image_kind kind, unsigned long id, char *ret);

/* The kind a file name belongs to, IMAGE_KIND_INVALID if none. ret_id may be NULL. Only names as
 * image_name() makes them are recognised (no leading zeros, no upper case). */
enum image_kind image_kind_of(const char *name, unsigned long *ret_id);

/*
 * Digests. A file is cut into chunks of IMAGE_CHUNK_SIZE (the last may be short); its digest is
 * XXH3-128 over the XXH3-128 digests of the chunks, in order and in canonical (big endian) form. So
 * chunks can be hashed in parallel and in any order. /
 */
struct image_digest {
        uint8_t byte[IMAGE_DIGEST_SIZE];
};

/* The digest of one chunk, at most IMAGE_CHUNK_SIZE bytes. About 50 GB/s when the data is in cache. */
struct image_digest image_chunk_digest(const void *data, size_t len);

/* The digest of a file whose chunks have these digests. */
struct image_digest image_file_digest(const struct image_digest *chunks, size_t n);

/* The digest of a file that is in memory as a whole. */
struct image_digest image_data_digest(const void *data, size_t len);

/*
 * Called at each step of a commit or a recovery, for tests and fault points. Steps, in order: "staged" (all
 * files written), "synced", "committed" (after the rename that decides), "old-inventory-gone",
 * "old-files-gone", "moved" (after each file), "inventory-moved", "done"; without those in between where there was no
 * image before. A hook that does not return
 * stands for a kill at that step.
 */
struct image_hooks {
        void (*step)(void *userdata, const char *step);
        void *userdata;
};

/* ---- Writing ---- */

struct image_set;
struct image_file;

/*
 * Begin a set in the directory `dirfd` (duplicated; any kind of descriptor of a directory). Finishes an
 * interrupted commit and removes what a dead dump left. `hooks` may be NULL, its contents are copied.
 * -EBUSY: another ckpt is writing into this directory; found by flock(2) on the staging directory.
 * A directory without images gets them in place, but no inventory.img before the commit.
 */
int image_set_create(int dirfd, const struct image_hooks *hooks, struct image_set **ret,
                     struct ckpt_error *err);

/* Free the set; if it was not committed, remove what was staged. NULL is allowed. All files of
 * the set must have been closed or discarded. */
void image_set_abort(struct image_set *set);

/* The number and bytes of the files closed so far. Thread-safe; either may be NULL. */
void image_set_totals(struct image_set *set, uint64_t *ret_files, uint64_t *ret_bytes);

/*
 * Finish the set: write checksums.img and inventory.img, bring everything to disk (fsync(2), or
 * syncfs(2) when the files are many; nothing on tmpfs), and replace the checkpoint in the directory, if
 * any, by this one. Of `inventory` the caller fills in what describes the tree; what is written has
 * img_version, fdinfo_per_id, ns_per_id and checksums set, whatever they are in it. On failure the
 * directory holds what it held before, with one exception which the error then states: the move into
 * place was cut short by an I/O error, and finishes with the next command that reads the directory. In
 * every case image_set_abort() must follow. /
 */
int image_set_commit(struct image_set *set, const Img__Inventory *inventory, struct ckpt_error *err);

/*
 * Finish what a commit that was killed left in the directory, if anything. Idempotent, may itself be
 * killed. image_set_create() and image_dir_open() call it. -EBUSY while the committing ckpt is alive.
 */
int image_set_recover(int dirfd, struct ckpt_error *err);

/*
 * Create a file of the set and write its header. Small files stay in memory until they are closed; larger
 * ones are written a chunk at a time. Thread-safe. -EEXIST if the set has the file already.
 */
int image_open_write(struct image_set *set, enum image_kind kind, unsigned long id, struct image_file **ret,
                     struct ckpt_error *err);

/* Append one entry: u32 length and the packed message (at most IMAGE_ENTRY_MAX, else -EFBIG). */
int image_write(struct image_file *file, const ProtobufCMessage *message, struct ckpt_error *err);

/* Append bytes as they are: the raw data behind an entry, or the contents of a raw kind. */
int image_write_raw(struct image_file *file, const void *data, size_t len, struct ckpt_error *err);

/*
 * Finish a file and free the handle, whatever the result: a file being written gets its size and digest
 * recorded in the set, only now is it sure to have been written (-ENOSPC, -EIO). Files being read never
 * fail to close.
 */
int image_close(struct image_file *file, struct ckpt_error *err);

/* Free a handle without finishing the file; one being written is removed. NULL is allowed. */
void image_discard(struct image_file *file);

/* One message, one file: open, write, close. */
int image_store(struct image_set *set, enum image_kind kind, unsigned long id,
                const ProtobufCMessage *message, struct ckpt_error *err);

/*
 * Create pages-ID.img, to be filled through image_file_fd() with pwrite(2) and the like by any number
 * of threads or processes, and finished by image_close() in one of them after all others are done. /
 */
int image_open_pages(struct image_set *set, unsigned long id, struct image_file **ret,
                     struct ckpt_error *err);

/* The descriptor of a file of image_open_pages(); stays the file's. */
int image_file_fd(const struct image_file *file);

/* Part of a pages file as memory: what is written there is in the file. */
struct image_window {
        char *start;     /* NULL: there is none */
        uint64_t offset; /* of `start` in the file */
        uint64_t size;   /* bytes */
        char *map;       /* what is mapped: more than the file */
        uint64_t map_size;
};
void image_window_close(struct image_window *w);
#define _cleanup_image_window_ _cleanup_(image_window_close)

/*
 * Before [offset, offset + size) of a pages file is written, which is then wholly written: let the whole 2 MiB in it be huge
 * pages. On a tmpfs the bytes are then written, and read again, in a third of the time; and not through pwrite(2), but into
 * *ret, in half of that, where it has a window: all pages of that exist, so that none is missing if the file system is full
 * by then. (Who shortens the file meanwhile, which only those can who may write to it, ends ckpt by SIGBUS.) Only a hint;
 * thread-safe. False: further attempts at this file would be in vain. The caller closes *ret.
 */
bool image_pages_make_huge(const struct image_file *file, uint64_t offset, uint64_t size,
                           struct image_window *ret);

/*
 * Record the digest of chunk `index` of a pages file, from bytes that the caller has at hand while they are
 * in cache. Thread-safe. Chunks nobody recorded are read back by image_close(). -ENOMEM.
 */
int image_pages_chunk(struct image_file *file, size_t index, const struct image_digest *digest);

/* As image_pages_chunk() for n chunks from `first` on, reading them back from the file: for
 * bytes that ckpt itself never saw. They must all be written. Thread-safe; run it in several threads. */
int image_pages_hash(struct image_file *file, size_t first, size_t n, struct ckpt_error *err);

/* ---- Reading ---- */

struct arena;
struct image_dir;

/*
 * Open the checkpoint in `dirfd` (duplicated). Recovers, reads the inventory, and if that names a
 * checksum set, checks that every file of it is there with its size and, by `verify_threads` threads,
 * its digest; 0 threads: sizes only. Sets of other writers have no checksums and are accepted as they
 * are. -ENOENT: no inventory. -EBADMSG: damaged. -EPROTONOSUPPORT: another image version or checksum
 * algorithm. /
 */
int image_dir_open(int dirfd, unsigned verify_threads, struct image_dir **ret, struct ckpt_error *err);

/*
 * As image_dir_open(), but large files (of more than IMAGE_CHUNK_SIZE) are still being verified by threads when it
 * returns: what is done meanwhile must not change anything. image_dir_verified() waits for them. -EBADMSG: one is damaged,
 * which also explains whatever else went wrong.
 */
int image_dir_open_early(int dirfd, unsigned verify_threads, struct image_dir **ret, struct ckpt_error *err);
int image_dir_verified(struct image_dir *dir, struct ckpt_error *err);

/* NULL is allowed. Files opened from it must be closed first. */
void image_dir_free(struct image_dir *dir);

/* The inventory; stays the directory's. */
const Img__Inventory *image_dir_inventory(const struct image_dir *dir);

/* The directory's descriptor; stays the directory's. */
int image_dir_fd(const struct image_dir *dir);

/* Does every byte of the set stand under a checksum (it was written by ckpt)? */
bool image_dir_has_checksums(const struct image_dir *dir);

/* Does the set have this file? */
bool image_dir_has(const struct image_dir *dir, enum image_kind kind, unsigned long id);

enum image_flags {
        IMAGE_OPTIONAL = 1 << 0, /* a missing file is -ENOENT without a message: it means empty */
};

/* Open a file of the set and check its header. Small verified files come from memory, so that the
 * bytes used are the bytes that were verified. */
int image_open_read(struct image_dir *dir, enum image_kind kind, unsigned long id, unsigned flags,
                    struct image_file **ret, struct ckpt_error *err);

/*
 * Read the next entry as a message of type `descriptor`. 1: *ret (an `Img__Something **`) is the
 * message, the caller frees it with protobuf_c_message_free_unpacked() or _cleanup_image_message_. 0:
 * end of file. -EBADMSG: truncated, too long, not decodable, a string with a NUL in it, an enum value
 * or a field repetition that the format does not know, nested more than 64 deep. Fields that this build
 * does not know are kept unread. /
 */
int image_read(struct image_file *file, const ProtobufCMessageDescriptor *descriptor, void *ret,
               struct ckpt_error *err);

/*
 * What is done with an entry of a file: 0 or a negative errno with *err filled. *message is an `Img__Something *`, which
 * is freed afterwards unless it has been taken (TAKE_PTR). More may be read that stands behind it.
 */
typedef int (*image_take)(void *ctx, struct image_file *file, void **message, struct ckpt_error *err);

/*
 * Open a file of the set and have each of its entries taken, as messages of type `descriptor`, up to its end or the first
 * error, which is returned. A missing file that is optional has no entries. Errors: as of image_open_read() and
 * image_read().
 */
int image_each(struct image_dir *dir, enum image_kind kind, unsigned long id, unsigned flags,
               const ProtobufCMessageDescriptor *descriptor, image_take take, void *ctx,
               struct ckpt_error *err);

/*
 * As image_each(), for thousands of entries that are kept: the messages are in `arena`, so *message is never to be freed by
 * itself, whether it has been taken or not, and lives as long as the arena.
 */
int image_each_kept(struct image_dir *dir, enum image_kind kind, unsigned long id, unsigned flags,
                    const ProtobufCMessageDescriptor *descriptor, struct arena *arena, image_take take,
                    void *ctx, struct ckpt_error *err);

/* As image_read(), but the end of the file is an error. Returns 0 or negative. */
int image_read_expected(struct image_file *file, const ProtobufCMessageDescriptor *descriptor, void *ret,
                        struct ckpt_error *err);

/*
 * Read exactly `len` raw bytes; fewer left is -EBADMSG. Bound `len` by image_remaining() before
 * allocating.
 */
int image_read_raw(struct image_file *file, void *buf, size_t len, struct ckpt_error *err);

/* Bytes between the read position and the end of the file. */
uint64_t image_remaining(const struct image_file *file);

/* Report damage found by whoever interprets a file: "core-7.img in /dir: <text>". Returns -EBADMSG. */
int image_damaged(const struct image_file *file, struct ckpt_error *err, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* Read a file that consists of exactly one entry: open, read, check that nothing follows, close. */
int image_load(struct image_dir *dir, enum image_kind kind, unsigned long id, unsigned flags,
               const ProtobufCMessageDescriptor *descriptor, void *ret, struct ckpt_error *err);

/* A descriptor (O_RDONLY, the caller's) and the size in bytes of a raw file, such as nftables-N.img. */
int image_open_raw(struct image_dir *dir, enum image_kind kind, unsigned long id, unsigned flags,
                   int *ret_fd, uint64_t *ret_size, struct ckpt_error *err);

/* The size in bytes of pages-ID.img, which is looked up where checksums say it. */
int image_pages_size(struct image_dir *dir, unsigned long id, uint64_t *ret, struct ckpt_error *err);

/* image_open_raw() of pages-ID.img. */
int image_pages_fd(struct image_dir *dir, unsigned long id, int *ret_fd, uint64_t *ret_size,
                   struct ckpt_error *err);

/* ---- Releasing by scope ---- */

static inline void image_set_abortp(struct image_set **p) {
        image_set_abort(*p);
}
static inline void image_discardp(struct image_file **p) {
        image_discard(*p);
}
static inline void image_dir_freep(struct image_dir **p) {
        image_dir_free(*p);
}
static inline void image_message_freep(void *p) {
        ProtobufCMessage *message = *(ProtobufCMessage **)p;

        if (message)
                protobuf_c_message_free_unpacked(message, NULL);
}

#define _cleanup_image_set_     __attribute__((cleanup(image_set_abortp)))
#define _cleanup_image_file_    __attribute__((cleanup(image_discardp)))
#define _cleanup_image_dir_     __attribute__((cleanup(image_dir_freep)))
#define _cleanup_image_message_ __attribute__((cleanup(image_message_freep)))
