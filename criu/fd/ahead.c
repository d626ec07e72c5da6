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

/* Files that one thread opens before it looks again what there is to do, and how many of these are taken at a time. */
enum { UNIT = 84, TAKEN_UNITS = 3 };

struct opening {
        struct restore *restore;
        struct restore_file *const *files;
        size_t n;
        bool first[AHEAD_OPEN_MAX];           /* not there before, among `files` */
        size_t next;                          /* nobody opens from here on yet; atomic */
        bool done[AHEAD_OPEN_MAX / UNIT + 1]; /* units; atomic */
        bool others;                          /* not only plain files are opened */

        /* of the one who takes them */
        ahead_take take;
        void *ctx;
        size_t taken;
        int result;
        struct ckpt_error *err;
};

static bool open_unit(struct opening *o, struct near_dir *near) {
        size_t from = __atomic_fetch_add(&o->next, UNIT, __ATOMIC_RELAXED);

        for (size_t i = from; i < o->n && i < from + UNIT; i++) {
                struct restore_file *file = o->files[i];

                if (o->first[i])
                        file->opened_ahead = file->kind->ahead(o->restore, file, near);
        }
        if (from >= o->n)
                return false;
        __atomic_store_n(&o->done[from / UNIT], true, __ATOMIC_RELEASE);
        return true;
}

/* `at_least` of them, at a time. To open one that could not be opened ahead may take looking at others, but plain files. */
static void take_opened(struct opening *o, size_t at_least) {
        size_t end = o->taken;

        while (end < o->n && __atomic_load_n(&o->done[end / UNIT], __ATOMIC_ACQUIRE))
                end = MIN(end + UNIT, o->n);
        while (o->result == 0 && end - o->taken >= at_least) {
                size_t to = MIN(end, o->taken + TAKEN_UNITS * UNIT);

                o->result = o->take(o->ctx, o->taken, to, o->err);
                o->taken = to;
        }
}

static void open_all(void *ctx, bool helper) {
        _cleanup_(near_dir_done) struct near_dir near = NEAR_DIR_INIT;
        struct opening *o = ctx;

        while (open_unit(o, &near))
                if (!helper && !o->others)
                        take_opened(o, (size_t)TAKEN_UNITS * UNIT);
}

int ahead_open(struct restore *r, struct restore_file *const *files, size_t n, ahead_take take, void *ctx,
               struct ckpt_error *err) {
        struct opening o = { .restore = r, .files = files, .n = n, .take = take, .ctx = ctx, .err = err };

        ckpt_assert(n <= AHEAD_OPEN_MAX);
        if (n < AHEAD_MIN || !r->pool)
                return take(ctx, 0, n, err);
        for (size_t i = 0; i < n; i++) {
                o.first[i] = files[i]->fd < 0 && files[i]->kind->ahead && !files[i]->opened_ahead;
                if (!o.first[i])
                        continue;
                files[i]->opened_ahead = true; /* now that it is noted, not a second time */
                o.others |= files[i]->kind != &fd_kind_reg;
        }
        pool_share(r->pool, pool_threads(r->pool) - 1, open_all, &o);
        if (o.result == 0 && o.taken < n)
                take_opened(&o, 1);
        return o.result;
}
