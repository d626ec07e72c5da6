/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/prefetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/pool.h"
#include "macro.h"

/* The work, of which each thread does parts. */
struct work {
        const struct proc_dir *proc;
        struct look_raw *look;
        struct collect_raw *collect;
        struct dump *dump;
        int pidfd;
};

static void look_one(const struct proc_dir *proc, char *link, struct look_raw *raw) {
        char where[16];
        ssize_t n;

        snprintf(where, sizeof(where), "fd/%d", raw->fd);
        n = readlinkat(proc->fd, where, link, PATH_MAX - 1);
        if (n < 0) {
                raw->result = -errno;
                return;
        }
        link[n] = 0;
        if (statx(proc->fd, where, AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_MNT_ID, &raw->st) < 0) {
                raw->result = -errno;
                return;
        }
        raw->link = strdup(link);
        if (!raw->link)
                raw->result = -ENOMEM;
        else if (link[0] == '/' && statx(AT_FDCWD, link, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                                         STATX_BASIC_STATS, &raw->path_st) == 0)
                raw->has_path_st = true;
}

static void look_part(void *ctx, size_t from, size_t to) {
        const struct work *w = ctx;
        char link[PATH_MAX];

        for (size_t i = from; i < to; i++)
                look_one(w->proc, link, &w->look[i]);
}

static void collect_one(const struct work *w, struct proc_buf *buf, struct collect_raw *raw) {
        int fd;

        raw->result = proc_fdinfo_read(w->proc, raw->fd, buf, &raw->info);
        if (raw->result < 0)
                return;
        /* These texts are in the buffer. */
        raw->info.other.n = 0;
        raw->there = is_as_seen(raw->seen, &raw->info, &raw->st);
        if (!raw->there || raw->info.flags & O_PATH)
                return;
        fd = (int)syscall(SYS_pidfd_getfd, w->pidfd, raw->fd, 0);
        if (fd < 0)
                return;
        img__fown__init(&raw->fown);
        raw->fown_result = fown_dump(w->dump, fd, &raw->fown, &raw->outside);
        close(fd);
}

static void collect_part(void *ctx, size_t from, size_t to) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const struct work *w = ctx;

        for (size_t i = from; i < to; i++)
                collect_one(w, &buf, &w->collect[i]);
}

static int run(struct pool *pool, size_t n, void (*part)(void *, size_t, size_t), struct work *w) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_pool_ struct pool *own = NULL;
        int r = 0;

        if (!pool)
                r = pool_create(0, &own, &err);
        return r < 0 ? r : pool_spread(pool ? pool : own, n, part, w);
}

struct look_raw *prefetch_look(struct pool *pool, const struct proc_dir *proc, const int *fds, size_t n) {
        struct work w = { .proc = proc };

        if (n < PREFETCH_MIN)
                return NULL;
        w.look = calloc(n, sizeof(*w.look));
        ckpt_assert(w.look);
        for (size_t i = 0; i < n; i++)
                w.look[i].fd = fds[i];
        if (run(pool, n, look_part, &w) == 0)
                return w.look;
        look_raw_free(w.look, n);
        return NULL;
}

struct collect_raw *prefetch_collect(struct dump *d, const struct proc_dir *proc, int pidfd,
                                     const struct dump_fds *seen, const int *fds, size_t n) {
        struct work w = { .proc = proc, .dump = d, .pidfd = pidfd };

        if (n < PREFETCH_MIN)
                return NULL;
        w.collect = calloc(n, sizeof(*w.collect));
        ckpt_assert(w.collect);
        for (size_t i = 0; i < n; i++) {
                w.collect[i].fd = fds[i];
                w.collect[i].fown_result = 1;
                w.collect[i].seen = find_seen(seen, fds[i]);
        }
        if (run(d->pool, n, collect_part, &w) == 0)
                return w.collect;
        collect_raw_free(w.collect, n);
        return NULL;
}

void look_raw_free(struct look_raw *raw, size_t n) {
        for (size_t i = 0; raw && i < n; i++)
                free(raw[i].link);
        free(raw);
}

void collect_raw_free(struct collect_raw *raw, size_t n) {
        for (size_t i = 0; raw && i < n; i++)
                if (raw[i].result == 0)
                        proc_fdinfo_done(&raw[i].info);
        free(raw);
}

const struct seen_fd *find_seen(const struct dump_fds *fds, int fd) {
        size_t low = 0, high = fds->nr_seen;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (fds->seen[middle].fd < fd)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low < fds->nr_seen && fds->seen[low].fd == fd && fds->seen[low].link ? &fds->seen[low] : NULL;
}

bool is_as_seen(const struct seen_fd *seen, const struct proc_fdinfo *info, struct statx *ret) {
        struct statx st;

        if (!seen || !info->has_ino || info->ino != seen->ino || info->mnt_id < 0 ||
            (uint64_t)info->mnt_id != seen->mnt_id)
                return false;
        if (seen->kind->by_inode) {
                *ret = (struct statx){
                        .stx_mode = seen->mode,
                        .stx_nlink = 1,
                        .stx_ino = seen->ino,
                        .stx_dev_major = (uint32_t)(seen->dev >> 32),
                        .stx_dev_minor = (uint32_t)seen->dev,
                };
                return true;
        }
        if (statx(AT_FDCWD, seen->link, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &st) < 0 ||
            st.stx_ino != seen->ino || statx_dev(&st) != seen->dev)
                return false;
        *ret = st;
        return true;
}
