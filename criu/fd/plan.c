/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/plan.h"

#include "macro.h"

struct planner {
        const struct plan_slot *slots;
        size_t n;
        size_t nr_dense; /* slots below dense_end */
        int dense_end;
        int *at; /* where a file has been received, by file; -1: not yet */
        struct fd_plan plan;
};

static void add_op(struct planner *p, enum plan_kind kind, int from, int to, bool cloexec) {
        struct plan_op *last = p->plan.nr_ops > 0 ? &p->plan.ops[p->plan.nr_ops - 1] : NULL;

        if (kind == PLAN_CLOSE && last && last->kind == PLAN_CLOSE && last->to == from - 1) {
                last->to = to;
                return;
        }
        p->plan.ops[p->plan.nr_ops++] = (struct plan_op){ kind, from, to, cloexec };
}

/* The longest start of the table of which at least half is used. */
static void find_dense_part(struct planner *p) {
        for (size_t i = 0; i < p->n; i++)
                if ((i + 1) * 2 >= (size_t)p->slots[i].fd + 1) {
                        p->nr_dense = i + 1;
                        p->dense_end = p->slots[i].fd + 1;
                }
}

static void send(struct planner *p, uint32_t file) {
        if (p->at[file] < 0)
                p->at[file] = (int)p->plan.nr_send;
        p->plan.send[p->plan.nr_send++] = file;
}

/* Received in place, holes filled with the first file. */
static void plan_dense(struct planner *p) {
        for (size_t i = 0; i < p->nr_dense; i++) {
                while (p->plan.nr_send < (size_t)p->slots[i].fd)
                        send(p, p->slots[0].file);
                send(p, p->slots[i].file);
        }
}

static void close_holes(struct planner *p) {
        int next = 0;

        for (size_t i = 0; i < p->nr_dense; i++) {
                if (p->slots[i].fd > next)
                        add_op(p, PLAN_CLOSE, next, p->slots[i].fd - 1, false);
                next = p->slots[i].fd + 1;
        }
}

/* Runs of slots that were received in place; the holes between them are closed by then. */
static void set_cloexec(struct planner *p) {
        size_t i = 0;

        while (i < p->nr_dense) {
                size_t first = i;

                while (i < p->nr_dense && p->slots[i].cloexec)
                        i++;
                if (i > first)
                        add_op(p, PLAN_CLOEXEC, p->slots[first].fd, p->slots[i - 1].fd, true);
                else
                        i++;
        }
}

/* The slots of each file that is received there, chained. */
struct chains {
        size_t *first, *last, *next; /* the end: n */
        size_t nr;
};

static struct chains receive_sparse(struct planner *p, const struct plan_slot *slots, size_t n,
                                    struct arena *arena) {
        struct chains c = {
                .first = arena_new_array(arena, size_t, n),
                .last = arena_new_array(arena, size_t, n),
                .next = arena_new_array(arena, size_t, n),
        };

        for (size_t i = 0; i < n; i++) {
                c.next[i] = n;
                if (p->at[slots[i].file] < 0) {
                        c.first[c.nr] = c.last[c.nr] = i;
                        c.nr++;
                        send(p, slots[i].file);
                } else if (p->at[slots[i].file] >= p->dense_end) {
                        size_t own = (size_t)(p->at[slots[i].file] - p->dense_end);

                        c.next[c.last[own]] = i;
                        c.last[own] = i;
                }
        }
        return c;
}

static void move_to_targets(struct planner *p, const struct plan_slot *slots, size_t n,
                            const struct chains *c, size_t own) {
        int from = p->dense_end + (int)own;
        bool cloexec_in_place = false;

        for (size_t i = c->first[own]; i < n; i = c->next[i]) {
                if (slots[i].fd == from)
                        cloexec_in_place = slots[i].cloexec;
                else
                        add_op(p, PLAN_DUP, from, slots[i].fd, slots[i].cloexec);
        }
        if (cloexec_in_place)
                add_op(p, PLAN_CLOEXEC, from, from, true);
}

/* What is left where files were received and nobody lives. */
static void close_left_over(struct planner *p, const struct plan_slot *slots, size_t n, size_t nr_received) {
        size_t i = 0;

        for (size_t own = 0; own < nr_received; own++) {
                int fd = p->dense_end + (int)own;

                while (i < n && slots[i].fd < fd)
                        i++;
                if (i == n || slots[i].fd != fd)
                        add_op(p, PLAN_CLOSE, fd, fd, false);
        }
}

/*
 * The i-th file of the sparse part is received at dense_end + i, which is no higher than its first target, since
 * targets are distinct and sorted. So, from the last to the first, moving a file to its targets can only overwrite
 * places whose file has been moved already.
 */
static void plan_sparse(struct planner *p, struct arena *arena) {
        const struct plan_slot *slots = p->slots + p->nr_dense;
        size_t n = p->n - p->nr_dense;
        struct chains c = receive_sparse(p, slots, n, arena);

        for (size_t own = c.nr; own-- > 0;)
                move_to_targets(p, slots, n, &c, own);
        for (size_t i = 0; i < n; i++)
                if (p->at[slots[i].file] < p->dense_end)
                        add_op(p, PLAN_DUP, p->at[slots[i].file], slots[i].fd, slots[i].cloexec);
        close_left_over(p, slots, n, c.nr);
}

void fd_plan_make(const struct plan_slot *slots, size_t n, uint32_t nr_files, struct arena *arena,
                  struct fd_plan *ret) {
        struct planner p = { .slots = slots, .n = n };

        p.at = arena_new_array(arena, int, nr_files);
        for (uint32_t i = 0; i < nr_files; i++)
                p.at[i] = -1;
        p.plan.send = arena_new_array(arena, uint32_t, 2 * n + 1);
        p.plan.ops = arena_new_array(arena, struct plan_op, 3 * n + 1);
        find_dense_part(&p);
        plan_dense(&p);
        if (n > p.nr_dense)
                plan_sparse(&p, arena);
        close_holes(&p);
        set_cloexec(&p);
        *ret = p.plan;
}
