/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * checksums.img lists every file of a set with its size and digest; the inventory holds the digest of
 * checksums.img. The inventory itself is listed too, by the digest of its message without the field that
 * would make this circular. So no bit of the set can change unnoticed.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/internal.h"
#include "lib/io.h"
#include "images/checksums.pb-c.h"
#include "macro.h"

#define CHECKSUMS_FIELD 2000U

int image_inventory_digest(const uint8_t *payload, size_t len, struct image_digest *ret, uint64_t *ret_len) {
        _cleanup_free_ uint8_t *rest = malloc(len + 1);
        size_t pos = 0, n = 0;

        if (!rest)
                return -ENOMEM;
        while (pos < len) {
                struct image_wire_field field;
                size_t start = pos;
                int r;

                r = image_wire_next(payload, len, &pos, &field);
                if (r < 0)
                        return r;
                if (field.number == CHECKSUMS_FIELD)
                        continue;
                memcpy(rest + n, payload + start, pos - start);
                n += pos - start;
        }
        *ret = image_data_digest(rest, n);
        *ret_len = n;
        return 0;
}

static int write_record(struct image_file *file, const struct image_record *record, struct ckpt_error *err) {
        Img__ChecksumFile entry = IMG__CHECKSUM_FILE__INIT;

        entry.name = (char *)record->name;
        entry.size = record->size;
        entry.digest.data = (uint8_t *)record->digest.byte;
        entry.digest.len = IMAGE_DIGEST_SIZE;
        return image_write(file, &entry.base, err);
}

/* The inventory's own record: of the message as it is before the checksums are named in it. */
static int inventory_record(const Img__Inventory *inventory, struct image_record *ret) {
        size_t len = protobuf_c_message_get_packed_size(&inventory->base);
        _cleanup_free_ uint8_t *buf = malloc(len + 1);

        if (!buf)
                return -ENOMEM;
        protobuf_c_message_pack(&inventory->base, buf);
        *ret = (struct image_record){ 0 };
        image_name(IMAGE_INVENTORY, 0, ret->name);
        return image_inventory_digest(buf, len, &ret->digest, &ret->size);
}

static int write_checksums(struct image_set *set, const Img__Inventory *inventory, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        struct image_record rec;
        size_t n;
        int r;

        r = inventory_record(inventory, &rec);
        if (r < 0)
                return ckpt_error(err, r, "not enough memory to write checksums.img");
        image_records_sort(&set->records);
        r = image_open_write(set, IMAGE_CHECKSUMS, 0, &file, err);
        if (r < 0)
                return r;
        r = write_record(file, &rec, err);
        n = set->records.n;
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = write_record(file, &set->records.v[i], err);
        if (r < 0)
                return r;
        return image_close(TAKE_PTR(file), err);
}

int image_checksums_write(struct image_set *set, const Img__Inventory *template, struct ckpt_error *err) {
        Img__ChecksumSet checksums = IMG__CHECKSUM_SET__INIT;
        Img__Inventory inventory = *template;
        struct image_digest digest;
        int r;

        inventory.img_version = IMAGE_VERSION;
        inventory.has_fdinfo_per_id = inventory.fdinfo_per_id = 1;
        inventory.has_ns_per_id = inventory.ns_per_id = 1;
        inventory.checksums = NULL;
        r = write_checksums(set, &inventory, err);
        if (r < 0)
                return r;
        /* Closing checksums.img has appended its record to the set. */
        digest = set->records.v[set->records.n - 1].digest;
        checksums.algorithm = IMAGE_ALGORITHM_XXH3_CHUNKED;
        checksums.digest.data = digest.byte;
        checksums.digest.len = IMAGE_DIGEST_SIZE;
        checksums.nr_files = set->records.n; /* without checksums.img itself, with the inventory */
        inventory.checksums = &checksums;
        return image_store(set, IMAGE_INVENTORY, 0, &inventory.base, err);
}

static int add_record(int dirfd, const Img__ChecksumFile *entry, struct image_record_vec *records,
                      struct ckpt_error *err) {
        enum image_kind kind = image_kind_of(entry->name, NULL);
        struct image_record rec = { .size = entry->size };
        char path[PATH_MAX];

        /* This also keeps paths out: no kind has a slash in its name. */
        if (kind == IMAGE_KIND_INVALID || kind == IMAGE_CHECKSUMS)
                return ckpt_error(err, -EBADMSG,
                                  "checksums.img in %s is damaged: it lists '%.80s', which is no image",
                                  image_dir_path(dirfd, path), entry->name);
        if (entry->digest.len != IMAGE_DIGEST_SIZE)
                return ckpt_error(err, -EBADMSG,
                                  "checksums.img in %s is damaged: the digest of %s has %zu bytes, not %d",
                                  image_dir_path(dirfd, path), entry->name, entry->digest.len,
                                  IMAGE_DIGEST_SIZE);
        strcpy(rec.name, entry->name);
        memcpy(rec.digest.byte, entry->digest.data, IMAGE_DIGEST_SIZE);
        if (image_record_vec_push(records, rec) < 0)
                return ckpt_error(err, -ENOMEM, "not enough memory to read checksums.img");
        return 0;
}

int image_checksums_parse(int dirfd, const uint8_t *data, size_t len, struct image_record_vec *ret,
                          struct ckpt_error *err) {
        _cleanup_(image_records_done) struct image_record_vec records = { 0 };
        _cleanup_image_file_ struct image_file *file = NULL;
        char path[PATH_MAX];
        int r;

        r = image_open_memory(dirfd, IMAGE_CHECKSUMS, "checksums.img", data, len, &file, err);
        if (r < 0)
                return r;
        for (;;) {
                _cleanup_image_message_ Img__ChecksumFile *entry = NULL;

                r = image_read(file, &img__checksum_file__descriptor, &entry, err);
                if (r < 0)
                        return r;
                if (r == 0)
                        break;
                r = add_record(dirfd, entry, &records, err);
                if (r < 0)
                        return r;
        }
        image_records_sort(&records);
        for (size_t i = 1; i < records.n; i++)
                if (strcmp(records.v[i].name, records.v[i - 1].name) == 0)
                        return ckpt_error(err, -EBADMSG, "checksums.img in %s is damaged: it lists %s twice",
                                          image_dir_path(dirfd, path), records.v[i].name);
        *ret = records;
        records = (struct image_record_vec){ 0 };
        return 0;
}

int image_read_whole(int dirfd, const char *name, size_t max, uint8_t **ret, size_t *ret_len,
                     struct ckpt_error *err) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ uint8_t *buf = NULL;
        char path[PATH_MAX];
        struct stat st;
        ssize_t n;

        /* O_NONBLOCK: a FIFO of this name must not hang us. */
        fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 && errno == ENOENT)
                return -ENOENT;
        if (fd < 0 || fstat(fd, &st) < 0)
                return ckpt_error_errno(err, -errno, "cannot open %s in %s", name,
                                        image_dir_path(dirfd, path));
        if (!S_ISREG(st.st_mode))
                return ckpt_error(err, -EBADMSG, "%s in %s is not a regular file", name,
                                  image_dir_path(dirfd, path));
        if ((uint64_t)st.st_size > max)
                return ckpt_error(err, -EBADMSG,
                                  "%s in %s is damaged: it has %lld bytes; at most %zu make sense", name,
                                  image_dir_path(dirfd, path), (long long)st.st_size, max);
        buf = malloc((size_t)st.st_size + 1);
        if (!buf)
                return ckpt_error(err, -ENOMEM, "not enough memory to read %s", name);
        n = pread_full(fd, buf, (size_t)st.st_size, 0);
        if (n < 0)
                return ckpt_error_errno(err, (int)n, "cannot read %s in %s", name,
                                        image_dir_path(dirfd, path));
        *ret = TAKE_PTR(buf);
        *ret_len = (size_t)n;
        return 0;
}
