/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/ahead.h"

#include "cleanup.h"
#include "lib/pool.h"

/* Below this number of files the threads would cost more than they save. */
enum { AHEAD_MIN = 128 };

static void check_part(void *ctx, size_t from, size_t to) {
        _cleanup_(near_dir_done) struct near_dir near = NEAR_DIR_INIT;
        struct restore *r = ctx;

        for (size_t i = from; i < to; i++)
                if (r->files->v[i].path_waits)
                        reg_check_path(r, r->files->v[i].msg->reg, &near);
}

void ahead_check(struct restore *r) {
        if (r->files->n < AHEAD_MIN || !r->pool || pool_spread(r->pool, r->files->n, check_part, r) < 0)
                check_part(r, 0, r->files->n);
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
