/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "image/image.h"
#include "image/internal.h"
#include "image/stats.h"
#include "lib/io.h"
#include "images/stats.pb-c.h"
#include "macro.h"

#define STATS_MAGIC 0x57093306U

static uint32_t clamp(uint64_t v) {
        return (uint32_t)MIN(v, (uint64_t)UINT32_MAX);
}

static void put_u32(uint8_t *p, uint32_t v) {
        for (int i = 0; i < 4; i++)
                p[i] = (uint8_t)(v >> (8 * i));
}

/* For filesystems without files that have no name yet. */
static int write_by_name(int dirfd, const char *name, const uint8_t *data, size_t len) {
        _cleanup_close_ int fd = -EBADF;
        char temporary[64];
        int r;

        snprintf(temporary, sizeof(temporary), ".%s.%d", name, getpid());
        fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = write_full(fd, data, len);
        if (r == 0 && renameat(dirfd, temporary, dirfd, name) < 0)
                r = -errno;
        if (r < 0)
                (void)unlinkat(dirfd, temporary, 0);
        return r;
}

/* Whenever ckpt is killed in it, no temporary file is left. */
static int write_file(int dirfd, const char *name, const uint8_t *data, size_t len) {
        _cleanup_close_ int fd = openat(dirfd, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600);
        char self[32];
        int r;

        if (fd < 0)
                return write_by_name(dirfd, name, data, len);
        r = write_full(fd, data, len);
        if (r == 0 && unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
                r = -errno;
        snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
        if (r == 0 && linkat(AT_FDCWD, self, dirfd, name, AT_SYMLINK_FOLLOW) < 0)
                r = -errno;
        return r;
}

static int stats_write(int dirfd, const char *name, const Img__Stats *message, struct ckpt_error *err) {
        size_t len = img__stats__get_packed_size(message);
        _cleanup_free_ uint8_t *buf = malloc(12 + len);
        char path[PATH_MAX];
        int r;

        if (!buf)
                return ckpt_error(err, -ENOMEM, "not enough memory to write %s", name);
        put_u32(buf, IMAGE_MAGIC_SERVICE);
        put_u32(buf + 4, STATS_MAGIC);
        put_u32(buf + 8, (uint32_t)len);
        img__stats__pack(message, buf + 12);
        r = write_file(dirfd, name, buf, 12 + len);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot write %s into %s", name,
                                        image_dir_path(dirfd, path));
        return 0;
}

int stats_write_dump(int work_dirfd, const struct dump_stats *stats, struct ckpt_error *err) {
        Img__DumpStats dump = IMG__DUMP_STATS__INIT;
        Img__Stats message = IMG__STATS__INIT;

        dump.freezing_time = clamp(stats->freezing_time);
        dump.frozen_time = clamp(stats->frozen_time);
        dump.memdump_time = clamp(stats->memdump_time);
        dump.memwrite_time = clamp(stats->memwrite_time);
        dump.pages_scanned = stats->pages_scanned;
        dump.pages_skipped_parent = stats->pages_skipped_parent;
        dump.pages_written = stats->pages_written;
        dump.pages_lazy = stats->pages_lazy;
        dump.has_shpages_scanned = dump.has_shpages_skipped_parent = dump.has_shpages_written = 1;
        dump.shpages_scanned = stats->shpages_scanned;
        dump.shpages_skipped_parent = stats->shpages_skipped_parent;
        dump.shpages_written = stats->shpages_written;
        message.dump = &dump;
        return stats_write(work_dirfd, "stats-dump", &message, err);
}

int stats_write_restore(int work_dirfd, const struct restore_stats *stats, struct ckpt_error *err) {
        Img__RestoreStats restore = IMG__RESTORE_STATS__INIT;
        Img__Stats message = IMG__STATS__INIT;

        restore.pages_compared = stats->pages_compared;
        restore.pages_skipped_cow = stats->pages_skipped_cow;
        restore.forking_time = clamp(stats->forking_time);
        restore.restore_time = clamp(stats->restore_time);
        restore.has_pages_restored = 1;
        restore.pages_restored = stats->pages_restored;
        message.restore = &restore;
        return stats_write(work_dirfd, "stats-restore", &message, err);
}
