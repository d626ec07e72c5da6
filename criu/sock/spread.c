/* SPDX-License-Identifier: GPL-2.0-only */
/* Thousands of internet sockets being restored: what can be done with each by itself is done by all threads. */
#include <errno.h>
#include <netinet/tcp.h>

#include "cleanup.h"
#include "lib/pool.h"
#include "sock/restore.h"

/* Below this number of sockets the threads would cost more than they save. */
enum { SPREAD_MIN = 128 };

const char *inet_file_name(struct inet_file *f) {
        if (!f->what[0])
                inet_describe(f->isk, f->what);
        return f->what;
}

/* ---- all of them ---- */

struct each {
        struct restore *restore;
        inet_job job;
        bool (*alone)(const struct inet_file *f);
        pthread_mutex_t lock;
        int result; /* atomic */
        struct ckpt_error err;
};

static void take_error(struct each *e, int r, struct ckpt_error *err) {
        pthread_mutex_lock(&e->lock);
        if (e->result == 0) {
                ckpt_error_move(&e->err, err);
                __atomic_store_n(&e->result, r, __ATOMIC_RELEASE);
        }
        pthread_mutex_unlock(&e->lock);
}

static void each_part(void *ctx, size_t from, size_t to) {
        struct each *e = ctx;
        struct inet_state *s = inet_state(e->restore);

        for (size_t i = from; i < to; i++) {
                _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
                struct inet_file *f = &s->v[i];
                int r;

                if (__atomic_load_n(&e->result, __ATOMIC_ACQUIRE) < 0)
                        return;
                r = e->alone(f) ? 0 : e->job(e->restore, f, &err);
                if (r < 0)
                        take_error(e, r, &err);
        }
}

static bool all_alone(const struct inet_file *f __attribute__((unused))) {
        return true;
}

int inet_each(struct restore *r, inet_job job, bool (*alone)(const struct inet_file *f),
              struct ckpt_error *err) {
        struct each e = { .restore = r, .job = job, .alone = alone, .lock = PTHREAD_MUTEX_INITIALIZER };
        struct inet_state *s = inet_state(r);
        int rc = 0;

        if (!s)
                return 0;
        if (s->n < SPREAD_MIN || !r->pool)
                alone = all_alone;
        else
                rc = pool_spread(r->pool, s->n, each_part, &e);
        ckpt_error_move(err, &e.err);
        if (e.result < 0)
                return e.result;
        if (rc < 0)
                return ckpt_error_errno(err, rc, "cannot hand the sockets to the worker threads");
        for (size_t i = 0; rc == 0 && i < s->n; i++)
                if (alone(&s->v[i]))
                        rc = job(r, &s->v[i], err);
        return rc;
}

/* ---- connections, before their turn ---- */

/* Not before what binds the port by the rules, which repair mode does not know. */
bool inet_open_ahead(struct restore *r, struct restore_file *file,
                     struct near_dir *near __attribute__((unused))) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        struct inet_file *f = inet_find(r, file->id);

        if (!f || f->fd >= 0 || !f->stream || f->closed || f->deaf || f->isk->state != TCP_ESTABLISHED ||
            inet_state(r)->claimed[f->isk->src_port] > 0)
                return false;
        if (inet_open(r, file, &err) == 0)
                return true;
        f->fd = safe_close(f->fd);
        f->repaired = false;
        return false;
}
