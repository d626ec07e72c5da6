/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The end of a dump: from a staged set to the checkpoint in the directory.
 *
 * The rename of .ckpt-staging to .ckpt-commit decides. What follows (roll_forward) can be cut short at
 * any point and taken up again by anyone, because what is still to be done can be seen from what is in
 * .ckpt-commit: checksums.img leaves it after all others, inventory.img last. While it exists, files in
 * the directory that the new set does not list are old, and listed ones are either new or about to be
 * replaced.
 *
 * Where there is no image at all to begin with, there is nothing that could be lost, and moving thousands of files takes
 * long: they are made in place, and the rename of inventory.img decides.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/internal.h"
#include "log.h"
#include "macro.h"

#define INVENTORY       "inventory.img"
#define CHECKSUMS       "checksums.img"
#define CHECKSUMS_MAX   ((size_t)1 << 30)
#define FSYNC_FILES_MAX 16 /* above that one syncfs() is cheaper than an fsync() each */

static bool is_set_file(const char *name) {
        return image_kind_of(name, NULL) != IMAGE_KIND_INVALID;
}

static bool want_old_file(const char *name, const void *records) {
        return is_set_file(name) && strcmp(name, INVENTORY) != 0 && strcmp(name, CHECKSUMS) != 0 &&
               !image_records_find(records, name);
}

static bool want_new_file(const char *name, const void *unused __attribute__((unused))) {
        return is_set_file(name) && strcmp(name, INVENTORY) != 0 && strcmp(name, CHECKSUMS) != 0;
}

static int remove_old_files(int dirfd, const struct image_record_vec *records) {
        _cleanup_(image_names_done) struct image_name_vec names = { 0 };
        int r;

        r = image_list_dir(dirfd, want_old_file, records, &names);
        for (size_t i = 0; r >= 0 && i < names.n; i++)
                if (unlinkat(dirfd, names.v[i], 0) < 0 && errno != ENOENT)
                        r = -errno;
        return r;
}

/* Move one file; that it is gone already means that an earlier attempt has moved it. */
static int move(int dirfd, int commitfd, const char *name) {
        return renameat(commitfd, name, dirfd, name) < 0 && errno != ENOENT ? -errno : 0;
}

static int move_new_files(int dirfd, int commitfd, const struct image_hooks *hooks) {
        _cleanup_(image_names_done) struct image_name_vec names = { 0 };
        int r;

        r = image_list_dir(commitfd, want_new_file, NULL, &names);
        for (size_t i = 0; r >= 0 && i < names.n; i++) {
                r = move(dirfd, commitfd, names.v[i]);
                image_step(hooks, "moved");
        }
        if (r < 0)
                return r;
        return move(dirfd, commitfd, CHECKSUMS);
}

/*
 * *ret_changed tells whether the directory was changed before a failure. `records` are those of the new
 * set; NULL once its checksums.img has been moved, when only the inventory is left to do.
 */
static int roll_forward(int dirfd, int commitfd, const struct image_record_vec *records,
                        const struct image_hooks *hooks, bool *ret_changed) {
        int r;

        *ret_changed = false;
        if (faccessat(commitfd, INVENTORY, F_OK, AT_SYMLINK_NOFOLLOW) >= 0) {
                /* Other readers know nothing of .ckpt-commit: no inventory, no checkpoint. */
                if (unlinkat(dirfd, INVENTORY, 0) < 0 && errno != ENOENT)
                        return -errno;
                *ret_changed = true;
                image_step(hooks, "old-inventory-gone");
                if (fsync(dirfd) < 0)
                        return -errno;
                r = records ? remove_old_files(dirfd, records) : 0;
                if (r < 0)
                        return r;
                image_step(hooks, "old-files-gone");
                r = move_new_files(dirfd, commitfd, hooks);
                if (r < 0)
                        return r;
                if (fsync(dirfd) < 0)
                        return -errno;
                r = move(dirfd, commitfd, INVENTORY);
                if (r < 0)
                        return r;
                image_step(hooks, "inventory-moved");
        }
        *ret_changed = true;
        if (fsync(dirfd) < 0)
                return -errno;
        if (unlinkat(dirfd, IMAGE_COMMIT_DIR, AT_REMOVEDIR) < 0 && errno != ENOENT)
                return -errno;
        image_step(hooks, "done");
        return 0;
}

int image_recover_hooked(int dirfd, const struct image_hooks *hooks, struct ckpt_error *err) {
        _cleanup_(image_records_done) struct image_record_vec records = { 0 };
        _cleanup_close_ int commitfd = -EBADF;
        _cleanup_free_ uint8_t *data = NULL;
        char path[PATH_MAX];
        size_t len = 0;
        bool changed, listed;
        int r;

        r = image_lock_dir(dirfd, IMAGE_COMMIT_DIR, false, &commitfd, err);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        log_info("finishing an interrupted commit in %s", image_dir_path(dirfd, path));
        r = image_read_whole(commitfd, CHECKSUMS, CHECKSUMS_MAX, &data, &len, err);
        listed = r >= 0;
        if (r >= 0)
                r = image_checksums_parse(commitfd, data, len, &records, err);
        if (r < 0 && r != -ENOENT)
                return r;
        r = roll_forward(dirfd, commitfd, listed ? &records : NULL, hooks, &changed);
        if (r < 0)
                return ckpt_error_errno(
                        err, r,
                        "cannot finish the interrupted commit in %s (the checkpoint is complete, "
                        "in part in " IMAGE_COMMIT_DIR ")",
                        image_dir_path(dirfd, path));
        return 0;
}

int image_set_recover(int dirfd, struct ckpt_error *err) {
        return image_recover_hooked(dirfd, NULL, err);
}

static int fsync_file(int dirfd, const char *name) {
        _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);

        if (fd < 0 || fsync(fd) < 0)
                return -errno;
        return 0;
}

static int sync_set(const struct image_set *set, struct ckpt_error *err) {
        struct statfs fs;
        int r = 0;

        if (fstatfs(set->stagefd, &fs) >= 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
                return 0;
        if (set->records.n > FSYNC_FILES_MAX) {
                /*
                 * Reports (5.8+) what could not be written back since stagefd was opened, before the
                 * first file.
                 */
                r = syncfs(set->stagefd) < 0 ? -errno : 0;
        } else {
                for (size_t i = 0; r >= 0 && i < set->records.n; i++) {
                        const char *name = set->records.v[i].name;

                        r = fsync_file(image_set_place(set, image_kind_of(name, NULL)), name);
                }
        }
        if (r >= 0 && (fsync(set->stagefd) < 0 || (set->direct && fsync(set->dirfd) < 0)))
                r = -errno;
        return r < 0 ? image_write_error(set, "the images", r, err) : 0;
}

static bool want_directory(const char *name, const void *dirfd) {
        struct stat st;

        return is_set_file(name) && fstatat(*(const int *)dirfd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
               S_ISDIR(st.st_mode);
}

/* What would stop the move half way is better found before it begins. */
static int preflight(const struct image_set *set, struct ckpt_error *err) {
        _cleanup_(image_names_done) struct image_name_vec names = { 0 };
        char path[PATH_MAX];
        int r;

        r = image_list_dir(set->dirfd, want_directory, &set->dirfd, &names);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot list %s", image_dir_path(set->dirfd, path));
        if (names.n > 0) {
                ckpt_error(err, -EISDIR,
                           "%s in %s is a directory where an image has to go; nothing there was changed",
                           names.v[0], image_dir_path(set->dirfd, path));
                return ckpt_error_hint(err, "Remove it, or choose another directory with -D");
        }
        return 0;
}

static int commit_failed(struct image_set *set, int code, bool changed, struct ckpt_error *err) {
        char path[PATH_MAX];

        /* Nothing moved yet: take the decision back. */
        if (!changed && renameat(set->dirfd, IMAGE_COMMIT_DIR, set->dirfd, IMAGE_STAGING_DIR) >= 0)
                return ckpt_error_errno(err, code, "cannot replace the checkpoint in %s, which is untouched",
                                        image_dir_path(set->dirfd, path));
        set->committed = true;
        ckpt_error_errno(err, code,
                         "the new checkpoint is complete in %s/" IMAGE_COMMIT_DIR ", but could not be moved "
                         "into place",
                         image_dir_path(set->dirfd, path));
        return ckpt_error_hint(err, "The next ckpt command that reads this directory finishes the move");
}

/* All files are in their places. Without the inventory they are no checkpoint, with it they are. */
static int commit_in_place(struct image_set *set, struct ckpt_error *err) {
        int r;

        if (renameat(set->stagefd, INVENTORY, set->dirfd, INVENTORY) < 0)
                return image_write_error(set, "the images", -errno, err);
        image_step(&set->hooks, "committed");
        if (fsync(set->dirfd) < 0) {
                r = -errno;
                set->committed = renameat(set->dirfd, INVENTORY, set->stagefd, INVENTORY) < 0;
                return image_write_error(set, "the images", r, err);
        }
        set->committed = true;
        image_step(&set->hooks, "inventory-moved");
        if (unlinkat(set->dirfd, IMAGE_STAGING_DIR, AT_REMOVEDIR) < 0)
                log_warn("cannot remove " IMAGE_STAGING_DIR ": %s", strerror(errno));
        image_step(&set->hooks, "done");
        return 0;
}

int image_set_commit(struct image_set *set, const Img__Inventory *inventory, struct ckpt_error *err) {
        bool changed = false;
        int r;

        ckpt_assert(set->n_open == 0 && !set->committed);
        r = image_checksums_write(set, inventory, err);
        if (r < 0)
                return r;
        image_records_sort(&set->records);
        r = set->direct ? 0 : preflight(set, err);
        if (r < 0)
                return r;
        image_step(&set->hooks, "staged");
        r = sync_set(set, err);
        if (r < 0)
                return r;
        image_step(&set->hooks, "synced");
        if (set->direct)
                return commit_in_place(set, err);
        if (renameat(set->dirfd, IMAGE_STAGING_DIR, set->dirfd, IMAGE_COMMIT_DIR) < 0)
                return image_write_error(set, "the images", -errno, err);
        image_step(&set->hooks, "committed");
        if (fsync(set->dirfd) < 0)
                return commit_failed(set, -errno, false, err);
        r = roll_forward(set->dirfd, set->stagefd, &set->records, &set->hooks, &changed);
        if (r < 0)
                return commit_failed(set, r, changed, err);
        set->committed = true;
        return 0;
}
