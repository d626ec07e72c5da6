/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/ahead.h"

#include <stdlib.h>

#include "cleanup.h"
#include "lib/pool.h"
#include "macro.h"

/* Below this number of files the threads would cost more than they save. */
enum { AHEAD_MIN = 128 };

struct ahead_paths {
        struct restore *restore;
        size_t n;
        const Img__RegFile *v[AHEAD_MIN];
};

static int check_paths(void *arg, struct ckpt_error *err __attribute__((unused))) {
        _cleanup_(near_dir_done) struct near_dir near = NEAR_DIR_INIT;
        _cleanup_free_ struct ahead_paths *paths = arg;

        for (size_t i = 0; i < paths->n; i++)
                reg_check_path(paths->restore, paths->v[i], &near);
        return 0;
}

void ahead_check(struct restore *r, const Img__RegFile *reg) {
        struct ahead_paths *paths = r->files->paths;

        if (!paths) {
                r->files->paths = paths = malloc(sizeof(*paths));
                ckpt_assert(paths);
                paths->restore = r;
                paths->n = 0;
        }
        paths->v[paths->n++] = reg;
        if (paths->n < AHEAD_MIN)
                return;
        r->files->paths = NULL;
        if (!r->pool || pool_add(r->pool, check_paths, paths) < 0)
                check_paths(paths, NULL);
}

void ahead_checked(struct restore *r) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        if (r->files->paths)
                check_paths(r->files->paths, &err);
        r->files->paths = NULL;
        if (r->pool)
                (void)pool_join(r->pool, &err);
}

struct opening {
        struct restore *restore;
        struct restore_file **files;
        const uint32_t *order;
};

static void open_part(void *ctx, size_t from, size_t to) {
        _cleanup_(near_dir_done) struct near_dir near = NEAR_DIR_INIT;
        const struct opening *o = ctx;

        for (size_t i = from; i < to; i++) {
                struct restore_file *file = o->files[o->order[i]];

                if (!file->kind->ahead)
                        continue;
                /* One that is to be sent twice has the first of the threads for it. */
                if (!__atomic_exchange_n(&file->opened_ahead, true, __ATOMIC_ACQ_REL) &&
                    (file->fd >= 0 || !file->kind->ahead(o->restore, file, &near)))
                        __atomic_store_n(&file->opened_ahead, false, __ATOMIC_RELEASE);
        }
}

void ahead_open(struct restore *r, struct restore_file **files, const uint32_t *order, size_t n) {
        struct opening o = { r, files, order };

        if (n >= AHEAD_MIN && r->pool)
                (void)pool_spread(r->pool, n, open_part, &o);
}
