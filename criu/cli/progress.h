/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The progress of an operation, shown on a terminal when it lasts longer than a second. The
 * stages only count; a thread of the process that started it draws. The counters are shared
 * memory, so that children of that process may count too.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct progress_shared;

struct progress {
        struct progress_shared *shared; /* NULL: nobody watches */
};

struct progress_counters {
        _Atomic uint64_t done, total; /* bytes */
};

/* The counters stand at the beginning of the shared memory. */
static inline struct progress_counters *progress_counters(const struct progress *p) {
        return (struct progress_counters *)p->shared;
}

/* `bytes` more are done. For any thread, and for forked children; one load when nobody watches. */
static inline void progress_add(const struct progress *p, uint64_t bytes) {
        if (p->shared)
                atomic_fetch_add_explicit(&progress_counters(p)->done, bytes, memory_order_relaxed);
}

/* `bytes` more are to be done. Without any total, only the amount and the rate are shown. */
static inline void progress_add_total(const struct progress *p, uint64_t bytes) {
        if (p->shared)
                atomic_fetch_add_explicit(&progress_counters(p)->total, bytes, memory_order_relaxed);
}

/*
 * Start watching, when `wanted` and standard error is a terminal; otherwise, and when there
 * is no memory or thread to spare, *ret counts nothing. `verb` ("dumping") must outlive it.
 */
void progress_start(struct progress *ret, const char *verb, bool wanted);

/* Erase what is on the terminal and stop; an all-zero struct is allowed. */
void progress_stop(struct progress *p);

/* The text of one line: "dumping  12.5 MiB of 1.0 GiB  1%  640.0 MiB/s". `seconds` since the start. */
void progress_format(char *buf, unsigned size, const char *verb, uint64_t done, uint64_t total,
                     double seconds);
