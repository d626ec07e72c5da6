/* SPDX-License-Identifier: GPL-2.0-only */
/* Files being written: framing, buffering by chunks, digests. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/internal.h"
#include "lib/io.h"
#include "macro.h"

#define CHUNK        ((size_t)IMAGE_CHUNK_SIZE)
#define FIRST_BUFFER 4096U

static void set_count_open(struct image_set *set, int delta) {
        pthread_mutex_lock(&set->lock);
        set->n_open += (size_t)delta;
        pthread_mutex_unlock(&set->lock);
}

static int file_create(struct image_set *set, enum image_kind kind, unsigned long id, bool pages,
                       struct image_file **ret, struct ckpt_error *err) {
        struct image_file *file = calloc(1, sizeof(*file));
        int r;

        if (!file)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        file->kind = kind;
        file->set = set;
        file->dirfd = set->dirfd;
        file->pages = pages;
        image_name(kind, id, file->name);
        file->fd = openat(image_set_place(set, kind), file->name,
                          (pages ? O_RDWR : O_WRONLY) | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (file->fd < 0) {
                r = image_write_error(set, file->name, -errno, err);
                free(file);
                return r;
        }
        pthread_mutex_init(&file->lock, NULL);
        set_count_open(set, 1);
        *ret = file;
        return 0;
}

/* Write out a chunk that is in memory and remember its digest. */
static int flush_chunk(struct image_file *file, const uint8_t *data, size_t len) {
        struct image_chunk *chunk;

        if (len == 0)
                return 0;
        chunk = image_chunk_vec_add(&file->chunks);
        if (!chunk)
                return -ENOMEM;
        chunk->digest = image_chunk_digest(data, len);
        chunk->known = true;
        file->offset += len;
        return write_full(file->fd, data, len);
}

static int reserve(struct image_file *file, size_t len) {
        size_t cap = MAX(file->cap, (size_t)FIRST_BUFFER);
        uint8_t *buf;

        if (len <= file->cap)
                return 0;
        while (cap < len)
                cap *= 2;
        buf = realloc(file->buf, cap);
        if (!buf)
                return -ENOMEM;
        file->buf = buf;
        file->cap = cap;
        return 0;
}

static int append(struct image_file *file, const uint8_t *data, size_t len) {
        int r;

        while (len > 0) {
                size_t n = MIN(len, CHUNK - file->len);

                if (file->len == 0 && len >= CHUNK) {
                        r = flush_chunk(file, data, n);
                } else {
                        r = reserve(file, file->len + n);
                        if (r < 0)
                                return r;
                        memcpy(file->buf + file->len, data, n);
                        file->len += n;
                        r = 0;
                        if (file->len == CHUNK) {
                                r = flush_chunk(file, file->buf, CHUNK);
                                file->len = 0;
                        }
                }
                if (r < 0)
                        return r;
                data += n;
                len -= n;
        }
        return 0;
}

int image_write_raw(struct image_file *file, const void *data, size_t len, struct ckpt_error *err) {
        int r;

        ckpt_assert(file->set && !file->pages);
        r = append(file, data, len);
        if (r < 0) {
                file->failed = true;
                return image_write_error(file->set, file->name, r, err);
        }
        return 0;
}

static void put_u32(uint8_t *p, uint32_t v) {
        p[0] = (uint8_t)v;
        p[1] = (uint8_t)(v >> 8);
        p[2] = (uint8_t)(v >> 16);
        p[3] = (uint8_t)(v >> 24);
}

static int write_header(struct image_file *file, struct ckpt_error *err) {
        const struct image_kind_info *k = image_kind_info(file->kind);
        uint8_t header[8];
        size_t n = 0;

        if (k->form == IMAGE_FORM_RAW)
                return 0;
        if (k->form != IMAGE_FORM_PLAIN) {
                put_u32(header, k->form == IMAGE_FORM_SERVICE ? IMAGE_MAGIC_SERVICE : IMAGE_MAGIC_COMMON);
                n = 4;
        }
        put_u32(header + n, k->magic);
        return image_write_raw(file, header, n + 4, err);
}

int image_open_write(struct image_set *set, enum image_kind kind, unsigned long id, struct image_file **ret,
                     struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        int r;

        r = file_create(set, kind, id, false, &file, err);
        if (r < 0)
                return r;
        r = write_header(file, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(file);
        return 0;
}

int image_write(struct image_file *file, const ProtobufCMessage *message, struct ckpt_error *err) {
        size_t len = protobuf_c_message_get_packed_size(message);
        _cleanup_free_ uint8_t *big = NULL;
        uint8_t *out, length[4];
        int r;

        ckpt_assert(file->set && image_kind_info(file->kind)->form != IMAGE_FORM_RAW);
        if (len > IMAGE_ENTRY_MAX)
                return ckpt_error(err, -EFBIG, "an entry of %s would have %zu bytes; the format allows %u",
                                  file->name, len, IMAGE_ENTRY_MAX);
        put_u32(length, (uint32_t)len);
        /* The common case packs straight into the buffer. */
        if (file->len + 4 + len < CHUNK && reserve(file, file->len + 4 + len) >= 0) {
                memcpy(file->buf + file->len, length, 4);
                out = file->buf + file->len + 4;
                ckpt_assert(protobuf_c_message_pack(message, out) == len);
                file->len += 4 + len;
                return 0;
        }
        big = malloc(len + 1);
        if (!big)
                return ckpt_error(err, -ENOMEM, "not enough memory to write %s", file->name);
        ckpt_assert(protobuf_c_message_pack(message, big) == len);
        r = image_write_raw(file, length, 4, err);
        if (r < 0)
                return r;
        return image_write_raw(file, big, len, err);
}

int image_open_pages(struct image_set *set, unsigned long id, struct image_file **ret,
                     struct ckpt_error *err) {
        return file_create(set, IMAGE_PAGES, id, true, ret, err);
}

int image_file_fd(const struct image_file *file) {
        return file->fd;
}

int image_pages_chunk(struct image_file *file, size_t index, const struct image_digest *digest) {
        int r = 0;

        ckpt_assert(file->pages);
        pthread_mutex_lock(&file->lock);
        while (r == 0 && file->chunks.n <= index)
                r = image_chunk_vec_add(&file->chunks) ? 0 : -ENOMEM;
        if (r == 0)
                file->chunks.v[index] = (struct image_chunk){ .digest = *digest, .known = true };
        pthread_mutex_unlock(&file->lock);
        return r;
}

int image_pages_hash(struct image_file *file, size_t first, size_t n, struct ckpt_error *err) {
        _cleanup_free_ uint8_t *buf = malloc(CHUNK);
        int r;

        if (!buf)
                return ckpt_error(err, -ENOMEM, "not enough memory to write %s", file->name);
        for (size_t i = first; i < first + n; i++) {
                ssize_t len = pread_full(file->fd, buf, CHUNK, (off_t)(i * CHUNK));
                struct image_digest digest;

                if (len <= 0)
                        return image_write_error(file->set, file->name, len < 0 ? (int)len : -EIO, err);
                digest = image_chunk_digest(buf, (size_t)len);
                r = image_pages_chunk(file, i, &digest);
                if (r < 0)
                        return ckpt_error(err, r, "not enough memory to write %s", file->name);
        }
        return 0;
}

/* Digests for the chunks nobody recorded; the size is what the file has now. */
static int finish_pages(struct image_file *file, struct ckpt_error *err) {
        struct stat st;
        size_t n;
        int r;

        if (fstat(file->fd, &st) < 0)
                return image_write_error(file->set, file->name, -errno, err);
        file->offset = (uint64_t)st.st_size;
        n = (size_t)((file->offset + CHUNK - 1) / CHUNK);
        if (file->chunks.n > n)
                return ckpt_error(err, -EIO,
                                  "%s has %llu bytes, fewer than were written to it: someone truncated it",
                                  file->name, (unsigned long long)file->offset);
        for (size_t i = 0; i < n; i++) {
                if (i < file->chunks.n && file->chunks.v[i].known)
                        continue;
                r = image_pages_hash(file, i, 1, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int file_digest(const struct image_file *file, struct image_digest *ret) {
        _cleanup_free_ struct image_digest *digests = calloc(file->chunks.n + 1, sizeof(*digests));

        if (!digests)
                return -ENOMEM;
        for (size_t i = 0; i < file->chunks.n; i++)
                digests[i] = file->chunks.v[i].digest;
        *ret = image_file_digest(digests, file->chunks.n);
        return 0;
}

static int record(struct image_file *file) {
        struct image_set *set = file->set;
        struct image_record rec = { .size = file->offset };
        int r;

        strcpy(rec.name, file->name);
        r = file_digest(file, &rec.digest);
        if (r < 0)
                return r;
        pthread_mutex_lock(&set->lock);
        r = image_record_vec_push(&set->records, rec);
        if (r >= 0)
                set->bytes += rec.size;
        pthread_mutex_unlock(&set->lock);
        return r;
}

static int finish(struct image_file *file, struct ckpt_error *err) {
        int r;

        if (file->failed)
                return ckpt_error(err, -EIO, "an earlier write to %s failed", file->name);
        if (file->pages) {
                r = finish_pages(file, err);
                if (r < 0)
                        return r;
        } else {
                r = flush_chunk(file, file->buf, file->len);
                file->len = 0;
                if (r < 0)
                        return image_write_error(file->set, file->name, r, err);
        }
        /* NFS and FUSE report here what they could not write. */
        r = close(file->fd) < 0 && errno != EINTR ? -errno : 0;
        file->fd = -EBADF;
        if (r == 0)
                r = record(file);
        return r < 0 ? image_write_error(file->set, file->name, r, err) : 0;
}

static void file_free(struct image_file *file) {
        file->fd = safe_close(file->fd);
        if (file->set) {
                set_count_open(file->set, -1);
                pthread_mutex_destroy(&file->lock);
        }
        if (!file->buf_borrowed)
                free(file->buf);
        image_chunk_vec_done(&file->chunks);
        free(file);
}

void image_discard(struct image_file *file) {
        if (!file)
                return;
        if (file->set)
                (void)unlinkat(image_set_place(file->set, file->kind), file->name,
                               0); /* else the set's end removes it */
        file_free(file);
}

int image_close(struct image_file *file, struct ckpt_error *err) {
        int r;

        if (file->set) {
                r = finish(file, err);
                if (r < 0) {
                        image_discard(file);
                        return r;
                }
        }
        file_free(file);
        return 0;
}

int image_store(struct image_set *set, enum image_kind kind, unsigned long id,
                const ProtobufCMessage *message, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        int r;

        r = image_open_write(set, kind, id, &file, err);
        if (r < 0)
                return r;
        r = image_write(file, message, err);
        if (r < 0)
                return r;
        return image_close(TAKE_PTR(file), err);
}
