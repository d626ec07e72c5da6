/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compel/internal.h"
#include "macro.h"

enum {
        DATA_ALIGN = 16,
        OPS_WITH_DATA = 8,
};

static size_t bytes_free(const struct compel_batch *b) {
        return (size_t)(b->data - (char *)(b->ops + b->n));
}

void compel_batch_init(struct compel_batch *b, void *local, raddr_t remote, size_t size) {
        *b = (struct compel_batch){
                .lane = local,
                .ops = (struct compel_op *)((char *)local + sizeof(struct compel_lane)),
                .data_start = (char *)local + size - COMPEL_LANE_STACK,
                .lane_remote = remote,
        };
        b->data = b->data_start;
        b->lane->ops = compel_remote(b, b->ops);
        b->lane->few = 1;
}

raddr_t compel_remote(const struct compel_batch *b, const void *local) {
        return b->lane_remote + (uint64_t)((const char *)local - (const char *)b->lane);
}

static void forget(struct compel_batch *b) {
        b->n = 0;
        b->data = b->data_start;
        b->reserved_ops = 0;
        b->reserved_bytes = 0;
}

void compel_reset(struct compel_batch *b) {
        forget(b);
        b->error = 0;
        ckpt_error_clear(&b->failure);
}

void compel_batch_done(struct compel_batch *b) {
        free(b->what);
        free(b->spill);
        ckpt_error_clear(&b->failure);
        *b = (struct compel_batch){ 0 };
}

static void overflow(struct compel_batch *b) {
        int r = b->overflow && b->n > 0 ? b->overflow(b) : -E2BIG;

        if (r < 0)
                b->error = r;
        else
                forget(b);
}

static void need(struct compel_batch *b, size_t size) {
        if (b->error == 0 && bytes_free(b) < size)
                overflow(b);
        if (b->error == 0 && bytes_free(b) < size)
                b->error = -E2BIG;
}

/*
 * What has been promised is not taken twice: within it, operations and data follow in any order
 * without an overflow.
 */
void compel_room(struct compel_batch *b, unsigned int nr_ops, size_t size) {
        nr_ops = MAX(nr_ops, (unsigned int)OPS_WITH_DATA);
        size += (size_t)nr_ops * DATA_ALIGN;
        need(b, nr_ops * sizeof(struct compel_op) + size);
        b->reserved_ops = nr_ops;
        b->reserved_bytes = size;
}

static int grow_what(struct compel_batch *b) {
        uint32_t cap = b->what_cap ? b->what_cap * 2 : 64;
        const char **what = reallocarray(b->what, cap, sizeof(*what));

        if (!what)
                return -ENOMEM;
        b->what = what;
        b->what_cap = cap;
        return 0;
}

struct compel_op *compel_add(struct compel_batch *b, const char *what, uint32_t nr, const uint64_t *args,
                             unsigned int nr_args) {
        struct compel_op *op = &b->scratch;

        ckpt_assert(nr_args <= 6);
        ckpt_assert(!b->started);
        if (b->reserved_ops > 0)
                b->reserved_ops--;
        else
                need(b, sizeof(*op));
        if (b->error == 0 && b->n == b->what_cap)
                b->error = grow_what(b);
        if (b->error == 0)
                op = &b->ops[b->n++];
        memset(op, 0, sizeof(*op));
        op->nr = nr;
        if (op != &b->scratch)
                b->what[b->n - 1] = what;
        memcpy(op->arg, args, nr_args * sizeof(*args));
        return op;
}

void *compel_data(struct compel_batch *b, size_t size, raddr_t *ret) {
        size_t room = (size + DATA_ALIGN - 1) & ~(size_t)(DATA_ALIGN - 1);

        if (room > b->reserved_bytes || bytes_free(b) < room + b->reserved_ops * sizeof(struct compel_op))
                compel_room(b, OPS_WITH_DATA, room);
        b->reserved_bytes -= MIN(room, b->reserved_bytes);
        if (b->error != 0) {
                free(b->spill);
                b->spill = calloc(1, MAX(room, (size_t)DATA_ALIGN));
                ckpt_assert(b->spill);
                *ret = 0;
                return b->spill;
        }
        b->data -= room;
        memset(b->data, 0, room);
        *ret = compel_remote(b, b->data);
        return b->data;
}

raddr_t compel_copy(struct compel_batch *b, const void *data, size_t size) {
        raddr_t remote;

        memcpy(compel_data(b, size, &remote), data, size);
        return remote;
}

size_t compel_capacity(const struct compel_batch *b) {
        return (size_t)(b->data_start - (const char *)b->ops) - 2 * OPS_WITH_DATA * sizeof(struct compel_op);
}

/* The error of the operation at which a batch ended. */
static int batch_failed(const struct compel_batch *b, uint32_t index, struct ckpt_error *err) {
        const struct compel_op *op = &b->ops[index];
        const char *what = b->what[index];
        int64_t ret = __atomic_load_n(&op->ret, __ATOMIC_RELAXED);

        if ((uint64_t)ret >= (uint64_t)-4095)
                return ckpt_error_errno(err, (int)ret, "pid %d: cannot %s", b->tid, what);
        return ckpt_error(err, -EIO, "pid %d: cannot %s: the kernel answered %#llx where %#llx was expected",
                          b->tid, what, (unsigned long long)ret, (unsigned long long)op->want);
}

int compel_batch_result(const struct compel_batch *b, struct ckpt_error *err) {
        /* The task could have written anything here, and could do so between two looks. */
        uint32_t nr_done = __atomic_load_n(&b->lane->nr_done, __ATOMIC_RELAXED);

        if (__atomic_load_n(&b->lane->status, __ATOMIC_RELAXED) == 0 && nr_done == b->n)
                return 0;
        if (nr_done == 0 || nr_done > b->n)
                return ckpt_error(err, -EIO, "pid %d: its agent's answer makes no sense", b->tid);
        return batch_failed(b, nr_done - 1, err);
}

int compel_run(struct compel_batch *b, struct ckpt_error *err) {
        int r = b->error;

        if (r < 0) {
                if (ckpt_error_is_set(&b->failure))
                        return ckpt_error(err, r, "%s", ckpt_error_message(&b->failure));
                return ckpt_error_errno(err, r, "pid %d: cannot hand over its system calls", b->tid);
        }
        if (b->n == 0)
                return 0;
        compel_start(b);
        r = compel_wait(b, err);
        if (r == 0)
                compel_reset(b);
        return r;
}
