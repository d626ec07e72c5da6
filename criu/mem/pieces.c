/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Much memory, filled by several at once. The kernel takes longer to give fresh pages than to fill them, and both can be
 * done from outside: the task reads pieces of the pages file itself (preadv), and workers of ckpt that have time
 * write others into it (process_vm_writev, Linux 3.2). What a worker could not write, the task reads after all.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "cleanup.h"
#include "lib/io.h"
#include "log.h"
#include "macro.h"
#include "mem/restore.h"

enum {
        PIECE_BYTES = 2 << 20, /* of a huge page: two at work on one page would wait for each other */
        PIECE_RUNS = 256,
        BATCH_PIECES = 16,  /* at most, that the task takes at a time */
        BUFFER = 256 << 10, /* stays in the cache between the two copies */
};

DEFINE_VEC(piece_vec, struct mem_piece);

struct filling {
        struct restore_task *t;
        struct compel_batch *b;
        const struct mem_run_vec *runs;
        struct piece_vec pieces;
        int pages_fd; /* in ckpt; negative: the task is on its own */
        size_t next;  /* piece, atomic */
        pthread_mutex_t lock;
        struct piece_vec back; /* what workers gave back; under the lock */
        bool lost;             /* ... and could not even be noted */
        int result;            /* of the task's own part */
        struct ckpt_error *err;
};

static void filling_done(struct filling *f) {
        piece_vec_done(&f->pieces);
        piece_vec_done(&f->back);
        pthread_mutex_destroy(&f->lock);
        safe_close(f->pages_fd);
}

static int cut(struct filling *f) {
        uint64_t skip = 0;
        size_t i = 0;

        while (i < f->runs->n) {
                struct mem_piece p = mem_runs_cut(f->runs, &i, &skip, PIECE_RUNS, PIECE_BYTES);

                if (piece_vec_push(&f->pieces, p) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* Up to `max` pieces side by side. Returns their number. */
static size_t take(struct filling *f, size_t max, const struct mem_piece **ret) {
        size_t i = __atomic_fetch_add(&f->next, max, __ATOMIC_RELAXED);

        if (i >= f->pieces.n)
                return 0;
        *ret = &f->pieces.v[i];
        return MIN(max, f->pieces.n - i);
}

/* ---- a worker of ckpt ---- */

/* `bytes` of `buf` to the places, of which those before *first are full. */
static int write_places(pid_t pid, char *buf, size_t bytes, struct iovec *iov, size_t nr, size_t *first) {
        while (bytes > 0) {
                struct iovec local = { buf, bytes };
                ssize_t n = process_vm_writev(pid, &local, 1, iov + *first, nr - *first, 0);

                if (n <= 0)
                        return n < 0 ? -errno : -EFAULT;
                buf += n;
                bytes -= (size_t)n;
                iov_advance(iov, first, (size_t)n);
        }
        return 0;
}

static int write_piece(const struct filling *f, const struct mem_piece *p, char *buf) {
        struct iovec iov[PIECE_RUNS];
        size_t first = 0;
        int r = 0;

        mem_piece_places(f->runs, p, iov);
        for (uint64_t done = 0; r == 0 && done < p->bytes;) {
                size_t len = (size_t)MIN((uint64_t)BUFFER, p->bytes - done);
                ssize_t n = pread_full(f->pages_fd, buf, len, (off_t)(p->offset + done));

                r = n == (ssize_t)len ? write_places(f->b->tid, buf, len, iov, p->nr, &first) : -EIO;
                done += len;
        }
        return r;
}

static void give_back(struct filling *f, const struct mem_piece *p) {
        pthread_mutex_lock(&f->lock);
        if (piece_vec_push(&f->back, *p) < 0)
                f->lost = true;
        pthread_mutex_unlock(&f->lock);
}

static void work_outside(struct filling *f) {
        _cleanup_free_ char *buf = malloc(BUFFER);
        const struct mem_piece *p;

        while (buf && take(f, 1, &p) > 0)
                if (write_piece(f, p, buf) < 0) {
                        give_back(f, p);
                        return;
                }
}

/* ---- the task itself ---- */

static void add_piece(struct filling *f, const struct mem_piece *p) {
        mem_add_piece(f->b, restore_mem_tree_of(f->t->restore)->pages_fd, f->runs, p);
}

/* Each batch is waited for, so there should be few; but the last ones small, that no one ends long after the others. */
static void work_inside(struct filling *f) {
        const struct mem_piece *p;
        size_t n;

        do {
                size_t done = __atomic_load_n(&f->next, __ATOMIC_RELAXED);
                size_t left = f->pieces.n - MIN(done, f->pieces.n);

                n = take(f, MAX(MIN(left / 4, (size_t)BATCH_PIECES), (size_t)1), &p);
                for (size_t i = 0; i < n; i++)
                        add_piece(f, &p[i]);
                f->result = n > 0 ? compel_run(f->b, f->err) : 0;
        } while (f->result == 0 && n > 0);
}

static void work(void *ctx, bool helper) {
        if (helper)
                work_outside(ctx);
        else
                work_inside(ctx);
}

int mem_fill_pieces(struct restore_task *t, struct compel_batch *b, const struct mem_run_vec *runs,
                    struct ckpt_error *err) {
        _cleanup_(filling_done) struct filling f = { .t = t, .b = b, .runs = runs, .err = err };
        struct pool *pool = t->restore->pool;
        uint64_t size;
        int r;

        pthread_mutex_init(&f.lock, NULL);
        if (image_pages_fd(t->restore->dir, t->mem->pages_id, &f.pages_fd, &size, NULL) < 0)
                f.pages_fd = -EBADF;
        r = cut(&f);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot plan its memory", restore_task_name(t));
        r = compel_run(b, err); /* others may only come when the areas are there */
        if (r < 0)
                return r;
        pool_share(pool, f.pages_fd >= 0 ? pool_threads(pool) - 1 : 0, work, &f);
        if (f.result < 0)
                return f.result;
        if (f.lost)
                return ckpt_error(err, -ENOMEM, "%s: cannot fill its memory", restore_task_name(t));
        if (f.back.n > 0)
                log_debug("%s fills its memory alone: ckpt may not write there", restore_task_name(t));
        for (size_t i = 0; i < f.back.n; i++)
                add_piece(&f, &f.back.v[i]);
        return f.back.n > 0 ? compel_run(b, err) : 0;
}
