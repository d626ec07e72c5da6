/* SPDX-License-Identifier: GPL-2.0-only */
/* Which tasks have a file as which descriptor: the tables of a restore, sorted by file. */
#include <stdlib.h>

#include "fd/anon.h"
#include "macro.h"

static int compare(const void *a, const void *b) {
        const struct fd_holder *x = a, *y = b;

        if (x->file->id != y->file->id)
                return x->file->id < y->file->id ? -1 : 1;
        if (x->order != y->order)
                return x->order < y->order ? -1 : 1;
        return x->fd < y->fd ? -1 : x->fd > y->fd;
}

static struct fd_holder_vec *build(struct restore *r) {
        struct fd_holder_vec *all = calloc(1, sizeof(*all));

        ckpt_assert(all);
        for (size_t i = 0; i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];

                if (t->kind != RESTORE_TASK_LIVE || !t->fds)
                        continue;
                for (size_t j = 0; j < t->fds->slots.n; j++) {
                        const struct restore_slot *slot = &t->fds->slots.v[j];
                        struct fd_holder h = { .file = slot->file, .task = t, .order = i, .fd = slot->fd };

                        ckpt_assert(fd_holder_vec_push(all, h) == 0);
                }
        }
        if (all->n > 0)
                qsort(all->v, all->n, sizeof(*all->v), compare);
        return all;
}

size_t fd_holders(struct restore *r, const struct restore_file *file, const struct fd_holder **ret) {
        struct fd_holder_vec *all = r->files->state[FD_STATE_HOLDERS];
        size_t low = 0, high, n = 0;

        if (!all)
                r->files->state[FD_STATE_HOLDERS] = all = build(r);
        high = all->n;
        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (all->v[middle].file->id < file->id)
                        low = middle + 1;
                else
                        high = middle;
        }
        while (low + n < all->n && all->v[low + n].file == file)
                n++;
        *ret = n > 0 ? &all->v[low] : NULL;
        return n;
}

void fd_holders_free(struct restore_files *files) {
        struct fd_holder_vec *all = files->state[FD_STATE_HOLDERS];

        if (all) {
                fd_holder_vec_done(all);
                free(all);
        }
        files->state[FD_STATE_HOLDERS] = NULL;
}
