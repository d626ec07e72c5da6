/* SPDX-License-Identifier: GPL-2.0-only */
/* Files being read: headers, entries and raw bytes, all of them bounded by what the file has. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/internal.h"
#include "lib/arena.h"
#include "lib/io.h"
#include "log.h"
#include "macro.h"

#define WINDOW ((size_t)64 << 10)

static uint64_t position(const struct image_file *file) {
        return file->offset + file->pos;
}

uint64_t image_remaining(const struct image_file *file) {
        return file->size - position(file);
}

int image_damaged(const struct image_file *file, struct ckpt_error *err, const char *fmt, ...) {
        char path[PATH_MAX], text[512];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        return ckpt_error(err, -EBADMSG, "%s in %s is damaged: %s", file->name,
                          image_dir_path(file->dirfd, path), text);
}

/* Make `need` bytes available at buf + pos. The caller knows that the file has (had) them. */
static int fill(struct image_file *file, size_t need, struct ckpt_error *err) {
        char path[PATH_MAX];
        size_t have = file->len - file->pos, want;
        ssize_t n;

        if (need <= have)
                return 0;
        if (file->fd >= 0) {
                if (need > file->cap) {
                        size_t cap = MAX(need, WINDOW);
                        uint8_t *buf = malloc(cap);

                        if (!buf)
                                return ckpt_error(err, -ENOMEM, "not enough memory to read %s", file->name);
                        if (have > 0)
                                memcpy(buf, file->buf + file->pos, have);
                        free(file->buf);
                        file->buf = buf;
                        file->cap = cap;
                } else if (have > 0) {
                        memmove(file->buf, file->buf + file->pos, have);
                }
                file->offset += file->pos;
                file->pos = 0;
                file->len = have;
                want = (size_t)MIN((uint64_t)(file->cap - have), file->size - file->offset - have);
                n = pread_full(file->fd, file->buf + have, want, (off_t)(file->offset + have));
                if (n < 0)
                        return ckpt_error_errno(err, (int)n, "cannot read %s in %s", file->name,
                                                image_dir_path(file->dirfd, path));
                file->len += (size_t)n;
        }
        if (file->len - file->pos < need)
                return image_damaged(file, err, "it became shorter while it was read");
        return 0;
}

static uint32_t get_u32(const uint8_t *p) {
        return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int take_magic(struct image_file *file, uint32_t magic, const char *what, struct ckpt_error *err) {
        uint64_t at = position(file);
        uint32_t found;
        int r;

        if (image_remaining(file) < 4)
                return image_damaged(file, err, "it ends at byte %llu, inside its header",
                                     (unsigned long long)file->size);
        r = fill(file, 4, err);
        if (r < 0)
                return r;
        found = get_u32(file->buf + file->pos);
        if (found != magic)
                return image_damaged(file, err, "%s at byte %llu should be 0x%08x, but is 0x%08x", what,
                                     (unsigned long long)at, magic, found);
        file->pos += 4;
        return 0;
}

static int check_header(struct image_file *file, struct ckpt_error *err) {
        const struct image_kind_info *k = image_kind_info(file->kind);
        int r;

        if (k->form == IMAGE_FORM_RAW)
                return 0;
        if (k->form != IMAGE_FORM_PLAIN) {
                r = take_magic(file,
                               k->form == IMAGE_FORM_SERVICE ? IMAGE_MAGIC_SERVICE : IMAGE_MAGIC_COMMON,
                               "the common magic", err);
                if (r < 0)
                        return r;
        }
        return take_magic(file, k->magic, "the magic of this kind of image", err);
}

static struct image_file *file_new(int dirfd, enum image_kind kind, const char *name) {
        struct image_file *file = calloc(1, sizeof(*file));

        if (!file)
                return NULL;
        file->kind = kind;
        file->dirfd = dirfd;
        file->fd = -EBADF;
        snprintf(file->name, sizeof(file->name), "%s", name);
        return file;
}

int image_open_memory(int dirfd, enum image_kind kind, const char *name, const uint8_t *data, size_t len,
                      struct image_file **ret, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = file_new(dirfd, kind, name);
        int r;

        if (!file)
                return ckpt_error(err, -ENOMEM, "not enough memory to read %s", name);
        file->buf = (uint8_t *)data;
        file->buf_borrowed = true;
        file->len = file->size = len;
        r = check_header(file, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(file);
        return 0;
}

static int missing(const struct image_dir *dir, const char *name, unsigned flags, struct ckpt_error *err) {
        char path[PATH_MAX];

        if (flags & IMAGE_OPTIONAL)
                return -ENOENT;
        return ckpt_error(err, -ENOENT, "%s is missing in %s", name, image_dir_path(dir->fd, path));
}

static int open_regular(const struct image_dir *dir, const char *name, unsigned flags, int *ret_fd,
                        uint64_t *ret_size, struct ckpt_error *err) {
        _cleanup_close_ int fd = -EBADF;
        char path[PATH_MAX];
        struct stat st;

        /* What the checksums do not list is not part of the set. */
        if (dir->inventory->checksums && !image_records_find(&dir->records, name))
                return missing(dir, name, flags, err);
        fd = openat(dir->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 && errno == ENOENT)
                return missing(dir, name, flags, err);
        if (fd < 0 || fstat(fd, &st) < 0)
                return ckpt_error_errno(err, -errno, "cannot open %s in %s", name,
                                        image_dir_path(dir->fd, path));
        if (!S_ISREG(st.st_mode))
                return ckpt_error(err, -EBADMSG, "%s in %s is not a regular file", name,
                                  image_dir_path(dir->fd, path));
        *ret_size = (uint64_t)st.st_size;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int image_open_read(struct image_dir *dir, enum image_kind kind, unsigned long id, unsigned flags,
                    struct image_file **ret, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        const struct image_record *record;
        char name[IMAGE_NAME_MAX];
        int r;

        image_name(kind, id, name);
        record = image_records_find(&dir->records, name);
        if (record && record->content)
                return image_open_memory(dir->fd, kind, name, record->content, (size_t)record->size, ret,
                                         err);
        file = file_new(dir->fd, kind, name);
        if (!file)
                return ckpt_error(err, -ENOMEM, "not enough memory to read %s", name);
        r = open_regular(dir, name, flags, &file->fd, &file->size, err);
        if (r < 0)
                return r;
        r = check_header(file, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(file);
        return 0;
}

int image_read_entry(struct image_file *file, const uint8_t **ret, size_t *ret_len, struct ckpt_error *err) {
        unsigned long long at = position(file), left = image_remaining(file);
        uint32_t len;
        int r;

        if (left == 0)
                return 0;
        if (left < 4)
                return image_damaged(file, err, "it ends at byte %llu, inside the length of an entry",
                                     (unsigned long long)file->size);
        r = fill(file, 4, err);
        if (r < 0)
                return r;
        len = get_u32(file->buf + file->pos);
        if (len > left - 4)
                return image_damaged(file, err,
                                     "the entry at byte %llu says it has %u bytes, but only %llu follow", at,
                                     len, left - 4);
        if (len > IMAGE_ENTRY_MAX)
                return image_damaged(file, err,
                                     "the entry at byte %llu says it has %u bytes; the format allows %u", at,
                                     len, IMAGE_ENTRY_MAX);
        r = fill(file, 4 + (size_t)len, err);
        if (r < 0)
                return r;
        *ret = file->buf + file->pos + 4;
        *ret_len = len;
        file->pos += 4 + (size_t)len;
        return 1;
}

static int read_message(struct image_file *file, const ProtobufCMessageDescriptor *descriptor,
                        ProtobufCAllocator *allocator, void *ret, struct ckpt_error *err) {
        unsigned long long at = position(file);
        ProtobufCMessage *message;
        const char *why = NULL;
        const uint8_t *data;
        size_t len;
        int r;

        r = image_read_entry(file, &data, &len, err);
        if (r <= 0)
                return r;
        r = image_wire_check(descriptor, data, len, &why);
        if (r < 0)
                return image_damaged(file, err, "the entry at byte %llu is no '%s': %s", at,
                                     descriptor->short_name, why);
        message = protobuf_c_message_unpack(descriptor, allocator, len, data);
        if (!message)
                return image_damaged(file, err,
                                     "the entry at byte %llu cannot be decoded as '%s' (or memory is short)",
                                     at, descriptor->short_name);
        memcpy(ret, &message, sizeof(message));
        return 1;
}

int image_read(struct image_file *file, const ProtobufCMessageDescriptor *descriptor, void *ret,
               struct ckpt_error *err) {
        return read_message(file, descriptor, NULL, ret, err);
}

/* `allocator`: NULL, or one that frees all by itself. */
static int each(struct image_dir *dir, enum image_kind kind, unsigned long id, unsigned flags,
                const ProtobufCMessageDescriptor *descriptor, ProtobufCAllocator *allocator, image_take take,
                void *ctx, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        int r;

        r = image_open_read(dir, kind, id, flags, &file, err);
        if (r < 0)
                return r == -ENOENT && (flags & IMAGE_OPTIONAL) ? 0 : r;
        do {
                void *message = NULL;

                r = read_message(file, descriptor, allocator, &message, err);
                if (r <= 0)
                        break;
                r = take(ctx, file, &message, err);
                if (!allocator)
                        image_message_freep(&message);
        } while (r == 0);
        return r;
}

int image_each(struct image_dir *dir, enum image_kind kind, unsigned long id, unsigned flags,
               const ProtobufCMessageDescriptor *descriptor, image_take take, void *ctx,
               struct ckpt_error *err) {
        return each(dir, kind, id, flags, descriptor, NULL, take, ctx, err);
}

static void *alloc_in_arena(void *arena, size_t size) {
        return arena_alloc(arena, size);
}

/* The arena has it until all of it goes. */
static void leave_in_arena(void *arena __attribute__((unused)), void *p __attribute__((unused))) {
}

int image_each_kept(struct image_dir *dir, enum image_kind kind, unsigned long id, unsigned flags,
                    const ProtobufCMessageDescriptor *descriptor, struct arena *arena, image_take take,
                    void *ctx, struct ckpt_error *err) {
        ProtobufCAllocator allocator = { alloc_in_arena, leave_in_arena, arena };

        return each(dir, kind, id, flags, descriptor, &allocator, take, ctx, err);
}

int image_read_expected(struct image_file *file, const ProtobufCMessageDescriptor *descriptor, void *ret,
                        struct ckpt_error *err) {
        int r = image_read(file, descriptor, ret, err);

        if (r == 0)
                return image_damaged(file, err, "it ends at byte %llu, where an entry '%s' should begin",
                                     (unsigned long long)file->size, descriptor->short_name);
        return r < 0 ? r : 0;
}

int image_read_raw(struct image_file *file, void *buf, size_t len, struct ckpt_error *err) {
        char path[PATH_MAX];
        size_t have = file->len - file->pos, n;
        ssize_t got;

        if (len > image_remaining(file))
                return image_damaged(
                        file, err, "at byte %llu it should have %zu more bytes, but only %llu follow",
                        (unsigned long long)position(file), len, (unsigned long long)image_remaining(file));
        n = MIN(have, len);
        if (n > 0)
                memcpy(buf, file->buf + file->pos, n);
        file->pos += n;
        if (n == len)
                return 0;
        /* Large data does not go through the window. */
        got = pread_full(file->fd, (uint8_t *)buf + n, len - n, (off_t)position(file));
        if (got < 0)
                return ckpt_error_errno(err, (int)got, "cannot read %s in %s", file->name,
                                        image_dir_path(file->dirfd, path));
        file->offset += file->pos + (size_t)got;
        file->pos = file->len = 0;
        if ((size_t)got < len - n)
                return image_damaged(file, err, "it became shorter while it was read");
        return 0;
}

int image_load(struct image_dir *dir, enum image_kind kind, unsigned long id, unsigned flags,
               const ProtobufCMessageDescriptor *descriptor, void *ret, struct ckpt_error *err) {
        _cleanup_image_message_ ProtobufCMessage *message = NULL;
        _cleanup_image_file_ struct image_file *file = NULL;
        int r;

        r = image_open_read(dir, kind, id, flags, &file, err);
        if (r < 0)
                return r;
        r = image_read_expected(file, descriptor, &message, err);
        if (r < 0)
                return r;
        if (image_remaining(file) > 0)
                return image_damaged(file, err, "%llu bytes follow its only entry, from byte %llu on",
                                     (unsigned long long)image_remaining(file),
                                     (unsigned long long)position(file));
        memcpy(ret, &message, sizeof(message));
        message = NULL;
        return 0;
}

int image_open_raw(struct image_dir *dir, enum image_kind kind, unsigned long id, unsigned flags,
                   int *ret_fd, uint64_t *ret_size, struct ckpt_error *err) {
        char name[IMAGE_NAME_MAX];

        ckpt_assert(image_kind_info(kind)->form == IMAGE_FORM_RAW);
        image_name(kind, id, name);
        return open_regular(dir, name, flags, ret_fd, ret_size, err);
}

int image_pages_size(struct image_dir *dir, unsigned long id, uint64_t *ret, struct ckpt_error *err) {
        const struct image_record *record;
        _cleanup_close_ int fd = -EBADF;
        char name[IMAGE_NAME_MAX];

        image_name(IMAGE_PAGES, id, name);
        record = image_records_find(&dir->records, name);
        if (record) {
                *ret = record->size;
                return 0;
        }
        return open_regular(dir, name, 0, &fd, ret, err);
}

int image_pages_fd(struct image_dir *dir, unsigned long id, int *ret_fd, uint64_t *ret_size,
                   struct ckpt_error *err) {
        return image_open_raw(dir, IMAGE_PAGES, id, 0, ret_fd, ret_size, err);
}
