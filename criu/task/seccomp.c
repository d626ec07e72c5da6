/* SPDX-License-Identifier: GPL-2.0-only */
/* Seccomp, the dump half: chains of filters, of each thread. */
#include "task/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "images/seccomp.pb-c.h"
#include "lib/fault.h"
#include "task/internal.h"

#ifndef PTRACE_SECCOMP_GET_METADATA /* Linux 4.16 */
#define PTRACE_SECCOMP_GET_METADATA 0x420d
#endif

enum {
        INSNS_MAX = BPF_MAXINSNS,
};

struct dump_seccomp {
        struct arena arena;
        Img__SeccompFilter **v;
        size_t n, cap;
};

/* The row of what is unsupported has read the threads' status. */
static void look(struct dump_task *t) {
        static const char lack[] = "ckpt needs CAP_SYS_ADMIN, and must not be under seccomp itself";
        struct kernel_features *kernel = &t->dump->kernel;

        if (!t->filtered)
                return;
        if (!kernel_has(kernel, KERNEL_SECCOMP_SUSPEND))
                blocker_add(t->dump->blockers, lack, "%s is under seccomp, which cannot be suspended",
                            dump_task_name(t));
        else if (!kernel_has(kernel, KERNEL_SECCOMP_FILTERS))
                blocker_add(t->dump->blockers, lack, "%s is under a seccomp filter, which cannot be read",
                            dump_task_name(t));
}

/* ---- the list of all filters ---- */

static struct dump_seccomp *list_of(struct dump *d) {
        if (!d->seccomp) {
                d->seccomp = calloc(1, sizeof(*d->seccomp));
                ckpt_assert(d->seccomp);
        }
        return d->seccomp;
}

static bool is_filter(const Img__SeccompFilter *f, int64_t prev, const struct sock_filter *insns,
                      size_t size, uint32_t flags) {
        return f->has_prev == (prev >= 0) && (prev < 0 || f->prev == (uint32_t)prev) && f->flags == flags &&
               f->filter.len == size && memcmp(f->filter.data, insns, size) == 0;
}

/* The index of this filter on top of that chain, which is `prev` (-1: none): chains that begin alike are one. */
static int64_t find_or_add(struct dump_seccomp *l, int64_t prev, const struct sock_filter *insns, size_t n,
                           uint32_t flags) {
        Img__SeccompFilter *f;

        for (size_t i = 0; i < l->n; i++)
                if (is_filter(l->v[i], prev, insns, n * sizeof(*insns), flags))
                        return (int64_t)i;
        if (l->n == l->cap) {
                l->cap = l->cap ? 2 * l->cap : 16;
                l->v = reallocarray(l->v, l->cap, sizeof(Img__SeccompFilter *));
                ckpt_assert(l->v);
        }
        f = arena_message(&l->arena, Img__SeccompFilter, img__seccomp_filter__init);
        f->filter.data = arena_copy(&l->arena, insns, n * sizeof(*insns));
        f->filter.len = n * sizeof(*insns);
        f->has_prev = prev >= 0;
        f->prev = prev >= 0 ? (uint32_t)prev : 0;
        f->has_flags = flags != 0;
        f->flags = flags;
        l->v[l->n++] = f;
        return (int64_t)l->n - 1;
}

/* ---- reading ---- */

/*
 * Does it hand calls to a supervisor? Whether somebody listens is not to be seen, and the listener cannot be made again.
 * What is returned is nearly always a constant; of a computed one, the constants that could go into it are looked at.
 */
static bool notifies(const struct sock_filter *insns, size_t n) {
        bool computed = false, constant = false;

        for (size_t i = 0; i < n; i++) {
                bool action = (insns[i].k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF;

                if (insns[i].code == (BPF_RET | BPF_K) && action)
                        return true;
                computed |= insns[i].code == (BPF_RET | BPF_A);
                constant |= action && BPF_SRC(insns[i].code) == BPF_K && BPF_CLASS(insns[i].code) != BPF_JMP;
        }
        return computed && constant;
}

/* Filter `index` from the oldest on; 0 if there is none. */
static long get_filter(const struct dump_thread *t, uint64_t index, struct sock_filter *ret,
                       uint32_t *ret_flags) {
        struct seccomp_metadata meta = { .filter_off = index };
        long n, r;

        n = compel_ptrace(&t->stop, PTRACE_SECCOMP_GET_FILTER, index, ret, INSNS_MAX * sizeof(*ret));
        if (n < 0)
                return n == -ENOENT ? 0 : n;
        r = compel_ptrace(&t->stop, PTRACE_SECCOMP_GET_METADATA, sizeof(meta), &meta, sizeof(meta));
        /* Kernels before 4.16 do not tell; they have no flag that matters later, either. */
        *ret_flags = r > 0 ? (uint32_t)meta.flags : 0;
        return n > INSNS_MAX ? -EIO : n;
}

static int read_chain(struct dump_thread *t, struct sock_filter *insns, int64_t *ret,
                      struct ckpt_error *err) {
        struct dump_seccomp *l = list_of(t->task->dump);
        int64_t last = -1;

        for (uint64_t i = 0; i < SECCOMP_FILTERS_MAX; i++) {
                uint32_t flags;
                long n = get_filter(t, i, insns, &flags);

                if (n == 0)
                        break;
                if (n < 0)
                        return ckpt_error_errno(err, (int)n,
                                                "%s: cannot read its seccomp filter; the tree runs on",
                                                dump_thread_name(t));
                if (notifies(insns, (size_t)n)) {
                        ckpt_error(
                                err, -ENOTSUP,
                                "%s has a seccomp filter that asks a supervisor (SECCOMP_RET_USER_NOTIF), which "
                                "cannot be carried over; the tree runs on",
                                dump_thread_name(t));
                        return ckpt_error_hint(
                                err, "Run it without the supervisor (a container engine's setting)");
                }
                if (l->n >= SECCOMP_FILTERS_MAX)
                        return ckpt_error(err, -ENOTSUP,
                                          "%s: the tree has more than %d seccomp filters; it runs on",
                                          dump_thread_name(t), SECCOMP_FILTERS_MAX);
                last = find_or_add(l, last, insns, (size_t)n, flags);
        }
        if (last < 0)
                return ckpt_error(
                        err, -EIO,
                        "%s is under a seccomp filter, but the kernel shows none; the tree runs on",
                        dump_thread_name(t));
        *ret = last;
        return 0;
}

static int seccomp_read(struct dump_thread *t, struct ckpt_error *err) {
        static const size_t size = INSNS_MAX * sizeof(struct sock_filter);
        Img__ThreadCore *core = dump_thread_core(t);
        _cleanup_free_ struct sock_filter *insns = NULL;
        int64_t last = -1;
        int r;

        core->has_seccomp_mode = true;
        core->seccomp_mode = IMG__SECCOMP_MODE__disabled;
        if (t->status.seccomp == 0)
                return 0;
        if (!t->stop.tracer) {
                /* It was not when it was looked at; next time it is traced by who can do that. */
                __atomic_store_n(&t->task->dump->trace_all, true, __ATOMIC_RELAXED);
                return ckpt_error(err, -EAGAIN,
                                  "%s has put itself under seccomp meanwhile; the tree runs on",
                                  dump_thread_name(t));
        }
        if (t->status.seccomp == SECCOMP_MODE_STRICT) {
                core->seccomp_mode = IMG__SECCOMP_MODE__strict;
                return 0;
        }
        insns = malloc(size);
        ckpt_assert(insns);
        r = read_chain(t, insns, &last, err);
        if (r < 0)
                return r;
        core->seccomp_mode = IMG__SECCOMP_MODE__filter;
        core->has_seccomp_filter = true;
        core->seccomp_filter = (uint32_t)last;
        return 0;
}

int seccomp_save(struct dump *d, struct ckpt_error *err) {
        Img__Seccomp msg = IMG__SECCOMP__INIT;
        int r;

        if (!d->seccomp || d->seccomp->n == 0)
                return 0;
        r = fault_point_error(FAULT_DUMP_WRITE_IMAGE, err);
        msg.n_seccomp_filters = d->seccomp->n;
        msg.seccomp_filters = d->seccomp->v;
        return r < 0 ? r : image_store(d->set, IMAGE_SECCOMP, 0, &msg.base, err);
}

void seccomp_dump_free(struct dump *d) {
        if (!d->seccomp)
                return;
        arena_done(&d->seccomp->arena);
        free(d->seccomp->v);
        free(d->seccomp);
        d->seccomp = NULL;
}

const struct task_kind kind_seccomp_dump = {
        .name = "seccomp",
        .per_thread = true,
        .phase = TASK_PHASE_THREAD,
        .look = look,
        .read = seccomp_read,
};
