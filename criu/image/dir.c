/* SPDX-License-Identifier: GPL-2.0-only */
/* A directory being read: the inventory, the checksum set, what belongs to it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/internal.h"
#include "log.h"
#include "macro.h"

#define INVENTORY_MAX ((size_t)16 << 20)
#define CHECKSUMS_MAX ((size_t)1 << 30)

struct inventory_bytes {
        struct image_digest digest; /* of the message without the checksums */
        uint64_t size;
};

static int read_inventory(struct image_dir *dir, struct inventory_bytes *ret, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        _cleanup_free_ uint8_t *data = NULL;
        const uint8_t *payload;
        char path[PATH_MAX];
        const char *why;
        size_t len, payload_len;
        int r;

        r = image_read_whole(dir->fd, "inventory.img", INVENTORY_MAX, &data, &len, err);
        if (r == -ENOENT)
                return ckpt_error(
                        err, r,
                        "%s has no inventory.img: it is not a checkpoint, or its dump was not finished",
                        image_dir_path(dir->fd, path));
        if (r < 0)
                return r;
        r = image_open_memory(dir->fd, IMAGE_INVENTORY, "inventory.img", data, len, &file, err);
        if (r < 0)
                return r;
        r = image_read_entry(file, &payload, &payload_len, err);
        if (r < 0)
                return r;
        if (r == 0 || image_remaining(file) > 0)
                return image_damaged(file, err, "it should have exactly one entry");
        if (image_wire_check(&img__inventory__descriptor, payload, payload_len, &why) < 0)
                return image_damaged(file, err, "its entry is no 'Inventory': %s", why);
        dir->inventory = img__inventory__unpack(NULL, payload_len, payload);
        if (!dir->inventory)
                return image_damaged(file, err, "its entry cannot be decoded (or memory is short)");
        if (image_inventory_digest(payload, payload_len, &ret->digest, &ret->size) < 0)
                return ckpt_error(err, -ENOMEM, "not enough memory to read inventory.img");
        return 0;
}

/* Without a checksum set in the inventory there must be none in the directory: it may be the inventory
 * that was damaged. */
static int check_foreign(const struct image_dir *dir, struct ckpt_error *err) {
        char path[PATH_MAX];

        if (faccessat(dir->fd, "checksums.img", F_OK, 0) < 0)
                return 0;
        ckpt_error(err, -EBADMSG,
                   "%s has a checksums.img, but its inventory.img does not name it: one of them is damaged "
                   "or from another dump",
                   image_dir_path(dir->fd, path));
        return ckpt_error_hint(
                err, "if another tool has written a checkpoint over an old one there, remove checksums.img");
}

static int read_checksums(struct image_dir *dir, struct ckpt_error *err) {
        const Img__ChecksumSet *set = dir->inventory->checksums;
        _cleanup_free_ uint8_t *data = NULL;
        struct image_digest digest;
        char path[PATH_MAX];
        size_t len;
        int r;

        image_dir_path(dir->fd, path);
        if (set->algorithm != IMAGE_ALGORITHM_XXH3_CHUNKED) {
                ckpt_error(err, -EPROTONOSUPPORT,
                           "the checkpoint in %s has checksums of type %u, which this ckpt does not "
                           "know (or its inventory.img is damaged)",
                           path, set->algorithm);
                return ckpt_error_hint(err, "Use the ckpt that wrote it, or a newer one");
        }
        r = image_read_whole(dir->fd, "checksums.img", CHECKSUMS_MAX, &data, &len, err);
        if (r == -ENOENT)
                return ckpt_error(err, -EBADMSG,
                                  "checksums.img is missing in %s: the checkpoint is not whole", path);
        if (r < 0)
                return r;
        digest = image_data_digest(data, len);
        if (set->digest.len != IMAGE_DIGEST_SIZE ||
            memcmp(set->digest.data, digest.byte, IMAGE_DIGEST_SIZE) != 0)
                return ckpt_error(err, -EBADMSG,
                                  "checksums.img in %s is damaged or from another dump: it does not match "
                                  "inventory.img",
                                  path);
        r = image_checksums_parse(dir->fd, data, len, &dir->records, err);
        if (r < 0)
                return r;
        if (dir->records.n != set->nr_files)
                return ckpt_error(err, -EBADMSG,
                                  "checksums.img in %s lists %zu files, inventory.img says %llu", path,
                                  dir->records.n, (unsigned long long)set->nr_files);
        return 0;
}

static int check_inventory(const struct image_dir *dir, const struct inventory_bytes *bytes,
                           struct ckpt_error *err) {
        const struct image_record *record = image_records_find(&dir->records, "inventory.img");
        char path[PATH_MAX];

        if (record && record->size == bytes->size &&
            memcmp(record->digest.byte, bytes->digest.byte, IMAGE_DIGEST_SIZE) == 0)
                return 0;
        return ckpt_error(err, -EBADMSG, "inventory.img in %s is damaged: it does not match checksums.img",
                          image_dir_path(dir->fd, path));
}

static bool want_stranger(const char *name, const void *records) {
        enum image_kind kind = image_kind_of(name, NULL);

        return kind != IMAGE_KIND_INVALID && kind != IMAGE_CHECKSUMS && !image_records_find(records, name);
}

static void warn_strangers(const struct image_dir *dir) {
        _cleanup_(image_names_done) struct image_name_vec names = { 0 };

        if (!log_enabled(LOG_LEVEL_WARN) ||
            image_list_dir(dir->fd, want_stranger, &dir->records, &names) < 0)
                return;
        for (size_t i = 0; i < names.n; i++)
                log_warn("%s is not part of the checkpoint beside it and is ignored", names.v[i]);
}

static int load(struct image_dir *dir, unsigned verify_threads, bool early, struct ckpt_error *err) {
        struct inventory_bytes bytes;
        char path[PATH_MAX];
        int r;

        r = image_set_recover(dir->fd, err);
        if (r < 0)
                return r;
        r = read_inventory(dir, &bytes, err);
        if (r < 0)
                return r;
        if (!dir->inventory->checksums) {
                r = check_foreign(dir, err);
        } else {
                r = read_checksums(dir, err);
                if (r >= 0)
                        r = check_inventory(dir, &bytes, err);
        }
        if (r < 0)
                return r;
        if (dir->inventory->img_version != IMAGE_VERSION)
                return ckpt_error(err, -EPROTONOSUPPORT,
                                  "the images in %s have format version %u; this ckpt reads version %u",
                                  image_dir_path(dir->fd, path), dir->inventory->img_version, IMAGE_VERSION);
        if (!dir->inventory->checksums)
                return 0;
        warn_strangers(dir);
        return early ? image_verify_begin(dir, verify_threads, err) : image_verify(dir, verify_threads, err);
}

static int open_dir(int dirfd, unsigned verify_threads, bool early, struct image_dir **ret,
                    struct ckpt_error *err) {
        _cleanup_image_dir_ struct image_dir *dir = calloc(1, sizeof(*dir));
        int r;

        if (!dir)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        dir->fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir->fd < 0)
                return ckpt_error_errno(err, -errno, "cannot open the images directory");
        r = load(dir, verify_threads, early, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(dir);
        return 0;
}

int image_dir_open(int dirfd, unsigned verify_threads, struct image_dir **ret, struct ckpt_error *err) {
        return open_dir(dirfd, verify_threads, false, ret, err);
}

int image_dir_open_early(int dirfd, unsigned verify_threads, struct image_dir **ret,
                         struct ckpt_error *err) {
        return open_dir(dirfd, verify_threads, true, ret, err);
}

int image_dir_verified(struct image_dir *dir, struct ckpt_error *err) {
        return image_verify_end(dir, err);
}

void image_dir_free(struct image_dir *dir) {
        if (!dir)
                return;
        image_verify_cancel(dir);
        safe_close(dir->fd);
        if (dir->inventory)
                img__inventory__free_unpacked(dir->inventory, NULL);
        image_records_done(&dir->records);
        free(dir);
}

const Img__Inventory *image_dir_inventory(const struct image_dir *dir) {
        return dir->inventory;
}

int image_dir_fd(const struct image_dir *dir) {
        return dir->fd;
}

bool image_dir_has_checksums(const struct image_dir *dir) {
        return dir->inventory->checksums;
}

bool image_dir_has(const struct image_dir *dir, enum image_kind kind, unsigned long id) {
        char name[IMAGE_NAME_MAX];

        image_name(kind, id, name);
        if (dir->inventory->checksums)
                return image_records_find(&dir->records, name);
        return faccessat(dir->fd, name, F_OK, 0) >= 0;
}
