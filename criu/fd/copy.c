/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

enum { TEXT_FIRST = 4096, TEXT_MAX = 1 << 24 };

static void forget(struct copy_reader *r, size_t i) {
        r->of[i].link = safe_close(r->of[i].link);
        r->of[i].info = safe_close(r->of[i].info);
        r->of[i].number = -1;
}

static void reader_free(struct copy_reader *r) {
        for (size_t i = 0; i < COPY_READER_NUMBERS; i++)
                forget(r, i);
        safe_close(r->fds);
        safe_close(r->infos);
        proc_buf_done(&r->buf);
        free(r);
}

static struct copy_reader *make_reader(void) {
        struct copy_reader *r = calloc(1, sizeof(*r));

        ckpt_assert(r);
        for (size_t i = 0; i < COPY_READER_NUMBERS; i++)
                r->of[i].number = r->of[i].link = r->of[i].info = -EBADF;
        r->fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
        r->infos = open("/proc/self/fdinfo", O_PATH | O_DIRECTORY | O_CLOEXEC);
        r->buf.data = malloc(TEXT_FIRST + 1);
        ckpt_assert(r->buf.data);
        r->buf.cap = TEXT_FIRST;
        if (r->fds >= 0 && r->infos >= 0)
                return r;
        reader_free(r);
        return NULL;
}

struct copy_reader *copy_reader_get(struct dump_files *files) {
        struct copy_reader *r;

        pthread_mutex_lock(&files->lock);
        r = files->readers;
        if (r)
                files->readers = r->next;
        pthread_mutex_unlock(&files->lock);
        return r ? r : make_reader();
}

void copy_reader_put(struct dump_files *files, struct copy_reader *r) {
        if (!r)
                return;
        pthread_mutex_lock(&files->lock);
        r->next = files->readers;
        files->readers = r;
        pthread_mutex_unlock(&files->lock);
}

void copy_readers_free(struct dump_files *files) {
        while (files->readers) {
                struct copy_reader *r = files->readers;

                files->readers = r->next;
                reader_free(r);
        }
}

/* The place of what is open for this number. */
static size_t place_of(struct copy_reader *r, int number) {
        size_t i = (size_t)number % COPY_READER_NUMBERS;

        if (r->of[i].number != number)
                forget(r, i);
        r->of[i].number = number;
        return i;
}

static int open_entry(int dir, int number, int flags, int *fd) {
        char name[16];

        if (*fd >= 0)
                return 0;
        snprintf(name, sizeof(name), "%d", number);
        *fd = openat(dir, name, flags | O_CLOEXEC);
        return *fd < 0 ? -errno : 0;
}

int copy_link(struct copy_reader *r, int copy, char ret[PATH_MAX]) {
        size_t i = place_of(r, copy);
        ssize_t n;
        int rc;

        rc = open_entry(r->fds, copy, O_PATH | O_NOFOLLOW, &r->of[i].link);
        if (rc < 0)
                return rc;
        n = readlinkat(r->of[i].link, "", ret, PATH_MAX - 1);
        if (n < 0)
                return -errno;
        ret[n] = 0;
        return 0;
}

static int read_text(struct copy_reader *r, int fd) {
        for (;;) {
                ssize_t n = pread(fd, r->buf.data, r->buf.cap, 0);
                char *data;

                if (n < 0)
                        return -errno;
                r->buf.len = (size_t)n;
                r->buf.data[n] = 0;
                if ((size_t)n < r->buf.cap)
                        return 0;
                if (r->buf.cap >= TEXT_MAX)
                        return -EFBIG;
                data = realloc(r->buf.data, r->buf.cap * 4 + 1);
                ckpt_assert(data);
                r->buf.data = data;
                r->buf.cap *= 4;
        }
}

/* Filesystems that keep the locks of their files in the kernel: asking for them is no request to a server. */
static bool is_local(long type) {
        switch ((unsigned long)type) {
        case EXT4_SUPER_MAGIC:
        case XFS_SUPER_MAGIC:
        case BTRFS_SUPER_MAGIC:
        case F2FS_SUPER_MAGIC:
        case TMPFS_MAGIC:
        case RAMFS_MAGIC:
        case HUGETLBFS_MAGIC:
        case OVERLAYFS_SUPER_MAGIC:
        case SQUASHFS_MAGIC:
        case ISOFS_SUPER_MAGIC:
        case MSDOS_SUPER_MAGIC:
        case PROC_SUPER_MAGIC:
        case SYSFS_MAGIC:
                return true;
        default:
                return false;
        }
}

static bool knows_locks(struct copy_reader *r, int copy, const struct statx *st) {
        struct statfs sfs;

        if (!S_ISREG(st->stx_mode) && !S_ISDIR(st->stx_mode))
                return true;
        if (statx_dev(st) != r->local_dev && statx_dev(st) != r->other_dev && fstatfs(copy, &sfs) == 0)
                *(is_local(sfs.f_type) ? &r->local_dev : &r->other_dev) = statx_dev(st);
        return statx_dev(st) == r->local_dev;
}

/* Also whether it has POSIX locks of anybody, which are told only to their owner. */
static bool has_locks_of_tables(struct copy_reader *r, int copy, const struct statx *st, uint32_t flags) {
        struct flock lock = { .l_type = F_WRLCK };

        return !(flags & O_PATH) &&
               (!knows_locks(r, copy, st) || fcntl(copy, F_GETLK, &lock) < 0 || lock.l_type != F_UNLCK);
}

int copy_info(struct copy_reader *r, int copy, const struct statx *st, struct proc_fdinfo *ret) {
        _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };
        size_t i = place_of(r, copy);
        int rc;

        rc = open_entry(r->infos, copy, O_RDONLY, &r->of[i].info);
        if (rc == 0)
                rc = read_text(r, r->of[i].info);
        if (rc == 0)
                rc = proc_fdinfo_parse(r->buf.data, r->buf.len, &info);
        if (rc < 0)
                return rc;
        if (!info.has_ino || info.ino != st->stx_ino || has_locks_of_tables(r, copy, st, info.flags))
                return -ENODATA;
        info.flags &= ~(uint32_t)O_CLOEXEC;
        info.other.n = 0;
        *ret = info;
        info = (struct proc_fdinfo){ 0 };
        return 0;
}
