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
#include "fd/copy.h"
#include "fd/same.h"
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

/* ---- look ---- */

struct look_part {
        struct work *work;
        struct arena *arena;
        struct copy_reader *reader;
        uint64_t pipe_dev, sock_dev; /* of all pipes and all sockets; 0: none seen yet */
        char link[PATH_MAX];
};

static const struct fd_kind *find_clear(const struct work *w, int fd, const char *link) {
        const struct fd_kind *kind;

        for (size_t i = 0; (kind = fd_kind_row(i)); i++)
                if (kind->clear && strncmp(link, kind->link, strlen(kind->link)) == 0 &&
                    kind->clear(w->dump, fd))
                        return kind;
        return NULL;
}

/* Links of what is in a filesystem of the kernel's own are all alike: that of one says those of the others. */
static const char *known_link(struct look_part *p, const struct statx *st) {
        const char *name = statx_dev(st) == p->pipe_dev   ? "pipe"
                           : statx_dev(st) == p->sock_dev ? "socket"
                                                          : NULL;

        return name ? arena_printf(p->arena, "%s:[%llu]", name, (unsigned long long)st->stx_ino) : NULL;
}

static void take_link(struct look_part *p, struct look_raw *raw) {
        raw->link = arena_strdup(p->arena, p->link);
        if (strncmp(raw->link, "pipe:[", 6) == 0)
                p->pipe_dev = statx_dev(&raw->st);
        else if (strncmp(raw->link, "socket:[", 8) == 0)
                p->sock_dev = statx_dev(&raw->st);
}

static int look_copy(struct look_part *p, int copy, struct look_raw *raw) {
        int r;

        if (statx(copy, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &raw->st) < 0)
                return -errno;
        raw->link = known_link(p, &raw->st);
        if (!raw->link) {
                r = copy_link(p->reader, copy, p->link);
                if (r < 0)
                        return r;
                take_link(p, raw);
        }
        if (raw->link[0] != '/')
                raw->kind = find_clear(p->work, copy, raw->link);
        else
                raw->has_info = copy_info(p->reader, copy, &raw->st, &raw->info) == 0;
        return 0;
}

static int look_in_proc(struct look_part *p, struct look_raw *raw) {
        int dir = p->work->proc->fd;
        char where[16];
        ssize_t n;

        snprintf(where, sizeof(where), "fd/%d", raw->fd);
        if (statx(dir, where, AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_MNT_ID, &raw->st) < 0)
                return -errno;
        n = readlinkat(dir, where, p->link, sizeof(p->link) - 1);
        if (n < 0)
                return -errno;
        p->link[n] = 0;
        take_link(p, raw);
        return 0;
}

static void look_one(struct look_part *p, struct look_raw *raw) {
        const struct work *w = p->work;
        _cleanup_close_ int copy = -EPERM;

        raw->is_same = same_looked(dump_files(w->dump), &(struct same_owner){ .tid = w->proc->pid }, raw->fd,
                                   &raw->same);
        if (raw->is_same)
                return;
        if (w->pidfd >= 0 && p->reader) {
                copy = (int)syscall(SYS_pidfd_getfd, w->pidfd, raw->fd, 0);
                copy = copy < 0 ? -errno : copy;
        }
        if (copy >= 0)
                raw->result = look_copy(p, copy, raw);
        else if (copy == -EBADF)
                raw->result = -ENOENT;
        else
                raw->result = look_in_proc(p, raw);
        if (raw->result < 0)
                return;
        raw->has_path_st =
                raw->link[0] == '/' && statx(AT_FDCWD, raw->link, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                                             STATX_BASIC_STATS, &raw->path_st) == 0;
}

static void look_part(struct work *w, struct arena *arena, size_t from, size_t to) {
        struct dump_files *files = dump_files(w->dump);
        struct look_part p = { .work = w, .arena = arena, .reader = copy_reader_get(files) };

        for (size_t i = from; i < to; i++)
                look_one(&p, &w->look[i]);
        copy_reader_put(files, p.reader);
}

static void join_arena(struct work *w, struct arena *arena) {
        pthread_mutex_lock(&w->lock);
        arena_join(&w->arena, arena);
        pthread_mutex_unlock(&w->lock);
}

static void look_thread(void *ctx, size_t from, size_t to) {
        struct arena arena = { 0 };

        look_part(ctx, &arena, from, to);
        join_arena(ctx, &arena);
}

static int run(struct pool *pool, size_t n, void (*part)(void *, size_t, size_t), struct work *w) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_pool_ struct pool *own = NULL;
        int r = 0;

        if (!pool)
                r = pool_create(0, &own, &err);
        return r < 0 ? r : pool_spread(pool ? pool : own, n, part, w);
}

/* The `n` entries from number `at` on, whose `fd` is set. */
static int look_these(struct work *w, struct dump_task *t, struct look_raw *raw, size_t n) {
        int r;

        w->look = raw;
        if (n < PREFETCH_MIN) {
                look_part(w, &t->arena, 0, n);
                return 0;
        }
        r = run(w->dump->pool, n, look_thread, w);
        arena_join(&t->arena, &w->arena);
        return r;
}

/* Which of them are open; what could not be asked about is. */
static size_t drop_closed(struct look_raw *raw, size_t n) {
        size_t left = 0;

        for (size_t i = 0; i < n; i++)
                if (raw[i].result != -ENOENT)
                        raw[left++] = raw[i];
        return left;
}

static struct look_raw *add_entries(struct look_raw **raw, size_t n, size_t more) {
        *raw = reallocarray(*raw, n + more + 1, sizeof(**raw));
        ckpt_assert(*raw);
        memset(*raw + n, 0, more * sizeof(**raw));
        return *raw + n;
}

/*
 * Most tables have no large holes: asking about the first numbers in turn finds all that the kernel says there are, and
 * costs less than a list of them does. *ret_end: the first number that was not asked about.
 */
static int look_dense(struct work *w, struct dump_task *t, struct look_raw **raw, size_t *ret_n,
                      int *ret_end) {
        size_t count, n;
        int r;

        r = w->pidfd < 0 ? -EBADF : proc_fds_count(w->proc, &count);
        if (r < 0)
                return r;
        n = count + count / 8 + 4;
        add_entries(raw, 0, n);
        for (size_t i = 0; i < n; i++)
                (*raw)[i].fd = (int)i;
        r = look_these(w, t, *raw, n);
        if (r < 0)
                return r;
        *ret_end = (int)n;
        *ret_n = drop_closed(*raw, n);
        return *ret_n >= count ? 0 : -EAGAIN;
}

static int look_listed(struct work *w, struct dump_task *t, struct look_raw **raw, size_t *n, int from) {
        _cleanup_(proc_fd_vec_done) struct proc_fd_vec list = { 0 };
        struct look_raw *added;
        size_t first = 0;
        int r;

        r = proc_fds(w->proc, &list);
        if (r < 0)
                return r;
        while (first < list.n && list.v[first] < from)
                first++;
        added = add_entries(raw, *n, list.n - first);
        for (size_t i = first; i < list.n; i++)
                added[i - first].fd = list.v[i];
        r = look_these(w, t, added, list.n - first);
        *n += r < 0 ? 0 : drop_closed(added, list.n - first);
        return r;
}

int prefetch_look(struct dump_task *t, const struct proc_dir *proc, int pidfd, struct look_raw **ret,
                  size_t *ret_n) {
        struct work w = { .proc = proc, .dump = t->dump, .pidfd = pidfd, .lock = PTHREAD_MUTEX_INITIALIZER };
        _cleanup_free_ struct look_raw *raw = NULL;
        size_t n = 0;
        int r, end = 0;

        r = look_dense(&w, t, &raw, &n, &end);
        if (r < 0)
                r = look_listed(&w, t, &raw, &n, end);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(raw);
        *ret_n = n;
        return 0;
}

/* ---- collect ---- */

/* The questions that the kind has, or all kinds have. Takes the copy over if it is to be kept. */
static void ask_kind(const struct work *w, int *copy, struct arena *arena, struct collect_raw *raw) {
        const struct fd_kind *kind = raw->seen->kind;
        bool keep = false;

        if (!kind->ask) {
                img__fown__init(&raw->fown);
                raw->fown_result = fown_dump(w->dump, *copy, &raw->fown, &raw->outside);
                return;
        }
        raw->asked = kind->ask(w->dump, *copy, arena, &keep);
        if (raw->asked && keep)
                raw->copy = TAKE_FD(*copy);
}

/* False: the copy does not tell all. */
static bool info_of_copy(struct copy_reader *reader, int copy, struct collect_raw *raw) {
        struct statx st;

        if (!raw->seen || !raw->seen->asked || !raw->seen->open ||
            statx(copy, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO, &st) < 0 ||
            copy_info(reader, copy, &st, &raw->info) < 0)
                return false;
        raw->info.flags |= raw->seen->cloexec ? O_CLOEXEC : 0;
        return true;
}

static void collect_one(const struct work *w, struct copy_reader *reader, struct proc_buf *buf,
                        struct arena *arena, struct collect_raw *raw) {
        _cleanup_close_ int copy = (int)syscall(SYS_pidfd_getfd, w->pidfd, raw->fd, 0);

        if (copy < 0 || !reader || !info_of_copy(reader, copy, raw)) {
                raw->result = proc_fdinfo_read(w->proc, raw->fd, buf, &raw->info);
                if (raw->result < 0)
                        return;
                /* These texts are in the buffer. */
                raw->info.other.n = 0;
        }
        raw->there = is_as_seen(raw->seen, &raw->info, &raw->st);
        if (raw->there && copy >= 0 && !(raw->info.flags & O_PATH))
                ask_kind(w, &copy, arena, raw);
}

static void collect_part(void *ctx, size_t from, size_t to) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct arena arena = { 0 };
        struct work *w = ctx;
        struct copy_reader *reader = copy_reader_get(dump_files(w->dump));

        for (size_t i = from; i < to; i++)
                collect_one(w, reader, &buf, &arena, &w->collect[i]);
        copy_reader_put(dump_files(w->dump), reader);
        join_arena(w, &arena);
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
