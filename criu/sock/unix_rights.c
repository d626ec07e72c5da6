/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/unix_rights.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/kind.h"
#include "macro.h"
#include "sock/unix.h"

static int by_file(const void *a, const void *b) {
        const struct unix_holder *x = a, *y = b;

        return (x->file > y->file) - (x->file < y->file);
}

static int read_table(struct peek *p, struct dump_task *t, struct unix_holder_vec *ret) {
        const struct proc_dir *dir = dump_living(t);
        _cleanup_free_ uint64_t *files = NULL;
        size_t n = 0;
        int r = 0;

        if (t->frozen && t->nr_threads > 0)
                r = dump_thread_proc(&t->threads[0], &dir);
        if (r == 0)
                r = peek_files(p, dir->fd, &files, &n);
        for (size_t i = 0; r == 0 && i < n; i++)
                if (files[i] != 0)
                        ckpt_assert(unix_holder_vec_push(ret, (struct unix_holder){ files[i], t, (int)i }) ==
                                    0);
        return r;
}

void unix_holders_read(struct dump *d, struct peek *p, struct unix_holder_vec *ret) {
        unix_holder_vec_done(ret);
        /* A process that has ended has no files; what is not found of others is refused. */
        for (size_t i = 0; i < d->nr_tasks; i++)
                (void)read_table(p, d->tasks[i], ret);
        if (ret->n > 0)
                qsort(ret->v, ret->n, sizeof(*ret->v), by_file);
}

static const struct unix_holder *find(const struct unix_holder_vec *holders, uint64_t file) {
        const struct unix_holder key = { .file = file };

        return holders->n == 0 ? NULL : bsearch(&key, holders->v, holders->n, sizeof(*holders->v), by_file);
}

bool unix_holders_have(const struct unix_holder_vec *holders, const struct unix_peeked *first) {
        for (; first; first = first->next)
                for (size_t i = 0; i < first->nr_files; i++)
                        if (!find(holders, first->files[i]))
                                return false;
        return true;
}

/* A copy of what a task has under this number, if it is that file. */
static int copy_of(struct peek *p, const struct unix_holder *h, uint64_t file) {
        const struct dump_fds *fds = h->task->fds;
        uint64_t its = 0;
        int fd = -ENOENT;

        for (size_t i = 0; fds && i < fds->n; i++)
                if (fds->v[i].fd == h->number)
                        fd = dump_file_get(fds->v[i].file);
        if (fd >= 0 && (peek_file(p, fd, &its) < 0 || its != file)) {
                close(fd);
                return -ENOENT;
        }
        return fd;
}

static int find_file(struct peek *p, const struct unix_holder_vec *holders, const int *more, size_t nr_more,
                     uint64_t file) {
        const struct unix_holder *h = find(holders, file);
        uint64_t its;

        if (h)
                return copy_of(p, h, file);
        for (size_t i = 0; i < nr_more; i++)
                if (peek_file(p, more[i], &its) == 0 && its == file) {
                        int fd = fcntl(more[i], F_DUPFD_CLOEXEC, 0);

                        return fd < 0 ? -errno : fd;
                }
        return -ENOENT;
}

int unix_rights_find(struct peek *p, const struct unix_holder_vec *holders, const int *more, size_t nr_more,
                     struct unix_peeked *first, struct arena *arena) {
        for (; first; first = first->next) {
                if (first->nr_files == 0 || first->nr_fds > 0)
                        continue;
                first->fds = arena_new_array(arena, int, first->nr_files);
                for (size_t i = 0; i < first->nr_files; i++) {
                        int fd = find_file(p, holders, more, nr_more, first->files[i]);

                        if (fd < 0)
                                return fd;
                        first->fds[first->nr_fds++] = fd;
                }
        }
        return 0;
}

void unix_rights_close(struct unix_peeked *first) {
        for (; first; first = first->next)
                for (size_t i = 0; i < first->nr_fds; i++)
                        first->fds[i] = safe_close(first->fds[i]);
}
