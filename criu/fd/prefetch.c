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
        pthread_mutex_t lock;
        struct arena arena; /* of all threads */
};

static const struct fd_kind *find_clear(const struct work *w, int fd, const char *link) {
        const struct fd_kind *kind;

        for (size_t i = 0; (kind = fd_kind_row(i)); i++)
                if (kind->clear && strncmp(link, kind->link, strlen(kind->link)) == 0 &&
                    kind->clear(w->dump, fd))
                        return kind;
        return NULL;
}

/* All that is asked is asked of a copy, and thus of one file, whatever the task does meanwhile. */
static bool look_socket(const struct work *w, struct look_raw *raw) {
        _cleanup_close_ int fd = (int)syscall(SYS_pidfd_getfd, w->pidfd, raw->fd, 0);
        char link[32];

        if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &raw->st) < 0 ||
            (raw->st.stx_mode & S_IFMT) != S_IFSOCK)
                return false;
        snprintf(link, sizeof(link), "socket:[%llu]", (unsigned long long)raw->st.stx_ino);
        raw->kind = find_clear(w, fd, link);
        raw->link = raw->kind ? strdup(link) : NULL;
        return raw->link != NULL;
}

/* `sockets`: the one before was a socket, so this may be another, which need not be looked for below /proc. */
static void look_one(const struct work *w, char *link, bool *sockets, struct look_raw *raw) {
        const struct proc_dir *proc = w->proc;
        char where[16];
        ssize_t n;

        *sockets = *sockets && look_socket(w, raw);
        if (*sockets)
                return;
        raw->kind = NULL;
        snprintf(where, sizeof(where), "fd/%d", raw->fd);
        n = readlinkat(proc->fd, where, link, PATH_MAX - 1);
        if (n < 0) {
                raw->result = -errno;
                return;
        }
        link[n] = 0;
        *sockets = strncmp(link, "socket:", 7) == 0;
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
        bool sockets = false;

        for (size_t i = from; i < to; i++)
                look_one(w, link, &sockets, &w->look[i]);
}

/* The questions that are asked of a copy. */
static void ask_one(const struct work *w, struct arena *arena, struct collect_raw *raw) {
        _cleanup_close_ int fd = (int)syscall(SYS_pidfd_getfd, w->pidfd, raw->fd, 0);
        const struct fd_kind *kind = raw->seen->kind;
        bool keep = false;

        if (fd < 0)
                return;
        if (!kind->ask) {
                img__fown__init(&raw->fown);
                raw->fown_result = fown_dump(w->dump, fd, &raw->fown, &raw->outside);
                return;
        }
        raw->asked = kind->ask(w->dump, fd, arena, &keep);
        if (raw->asked && keep)
                raw->copy = TAKE_FD(fd);
}

static void collect_one(const struct work *w, struct proc_buf *buf, struct arena *arena,
                        struct collect_raw *raw) {
        raw->result = proc_fdinfo_read(w->proc, raw->fd, buf, &raw->info);
        if (raw->result < 0)
                return;
        /* These texts are in the buffer. */
        raw->info.other.n = 0;
        raw->there = is_as_seen(raw->seen, &raw->info, &raw->st);
        if (raw->there && !(raw->info.flags & O_PATH))
                ask_one(w, arena, raw);
}

static void collect_part(void *ctx, size_t from, size_t to) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct arena arena = { 0 };
        struct work *w = ctx;

        for (size_t i = from; i < to; i++)
                collect_one(w, &buf, &arena, &w->collect[i]);
        pthread_mutex_lock(&w->lock);
        arena_join(&w->arena, &arena);
        pthread_mutex_unlock(&w->lock);
}

static int run(struct pool *pool, size_t n, void (*part)(void *, size_t, size_t), struct work *w) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_pool_ struct pool *own = NULL;
        int r = 0;

        if (!pool)
                r = pool_create(0, &own, &err);
        return r < 0 ? r : pool_spread(pool ? pool : own, n, part, w);
}

struct look_raw *prefetch_look(struct dump *d, const struct proc_dir *proc, int pidfd, const int *fds,
                               size_t n) {
        struct work w = { .proc = proc, .dump = d, .pidfd = pidfd };

        if (n < PREFETCH_MIN)
                return NULL;
        w.look = calloc(n, sizeof(*w.look));
        ckpt_assert(w.look);
        for (size_t i = 0; i < n; i++)
                w.look[i].fd = fds[i];
        if (run(d->pool, n, look_part, &w) == 0)
                return w.look;
        look_raw_free(w.look, n);
        return NULL;
}

struct collect_raw *prefetch_collect(struct dump *d, const struct proc_dir *proc, int pidfd,
                                     const struct dump_fds *seen, const int *fds, size_t n) {
        struct work w = { .proc = proc, .dump = d, .pidfd = pidfd, .lock = PTHREAD_MUTEX_INITIALIZER };
        struct dump_files *files = dump_files(d);
        int r;

        if (n < PREFETCH_MIN)
                return NULL;
        w.collect = calloc(n, sizeof(*w.collect));
        ckpt_assert(w.collect);
        for (size_t i = 0; i < n; i++) {
                w.collect[i].fd = fds[i];
                w.collect[i].fown_result = 1;
                w.collect[i].seen = find_seen(seen, fds[i]);
                w.collect[i].copy = -EBADF;
        }
        r = run(d->pool, n, collect_part, &w);
        pthread_mutex_lock(&files->lock);
        arena_join(&files->arena, &w.arena);
        pthread_mutex_unlock(&files->lock);
        if (r == 0)
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
        for (size_t i = 0; raw && i < n; i++) {
                if (raw[i].result == 0)
                        proc_fdinfo_done(&raw[i].info);
                safe_close(raw[i].copy);
        }
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
