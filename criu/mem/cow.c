/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages that a process still shares copy-on-write with its parent: at the same address in both, in areas that
 * a fork gave both, and of the same page frame.
 */
#include <errno.h>

#include "macro.h"
#include "mem/dump.h"

enum { WINDOW = 1024 }; /* pages */

/* Words of pagemap around a place that is read from front to back. */
struct window {
        struct proc_pagemap pm;
        uint64_t start;
        size_t n;
        uint64_t words[WINDOW];
};

struct compare {
        struct window child, parent;
        struct mem_run_vec out;
};

static void compare_done(struct compare *c) {
        proc_pagemap_close(&c->child.pm);
        proc_pagemap_close(&c->parent.pm);
        mem_run_vec_done(&c->out);
}

/* The words from `at` on, up to `end` at most. */
static int window_at(struct window *w, uint64_t at, uint64_t end, const uint64_t **ret, size_t *ret_n) {
        uint64_t stop = w->start + w->n * PAGE_SIZE;
        int r;

        if (at < w->start || at >= stop) {
                size_t n = MIN((end - at) / PAGE_SIZE, (uint64_t)WINDOW);

                r = proc_pagemap_words(&w->pm, at, n, w->words);
                if (r < 0)
                        return r;
                w->start = at;
                w->n = n;
                stop = at + n * PAGE_SIZE;
        }
        *ret = w->words + (at - w->start) / PAGE_SIZE;
        *ret_n = (MIN(stop, end) - at) / PAGE_SIZE;
        return 0;
}

static bool same_frame(uint64_t child, uint64_t parent) {
        uint64_t pfn = pagemap_word_pfn(child);

        return pfn != 0 && pfn == pagemap_word_pfn(parent) && !((child | parent) & PAGEMAP_WORD_FILE);
}

int mem_split_cow(uint64_t start, const uint64_t *child, const uint64_t *parent, size_t n, struct mem_run_vec *ret) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++, start += PAGE_SIZE)
                r = mem_runs_add(ret, start, start + PAGE_SIZE, same_frame(child[i], parent[i]));
        return r;
}

static bool any_shared(const uint64_t *words, size_t n) {
        for (size_t i = 0; i < n; i++)
                if ((words[i] & PAGEMAP_WORD_PRESENT) && !(words[i] & PAGEMAP_WORD_EXCLUSIVE))
                        return true;
        return false;
}

/* [start, end) has content in the child; `limit` is how far the area reaches in both. */
static int compare_range(struct compare *c, uint64_t start, uint64_t end, uint64_t limit) {
        int r = 0;

        while (r == 0 && start < end) {
                const uint64_t *child, *parent;
                size_t n, m;

                r = window_at(&c->child, start, limit, &child, &n);
                if (r < 0)
                        return r;
                n = MIN(n, (end - start) / PAGE_SIZE);
                if (!any_shared(child, n)) {
                        r = mem_runs_add(&c->out, start, start + n * PAGE_SIZE, false);
                } else {
                        r = window_at(&c->parent, start, limit, &parent, &m);
                        n = MIN(n, m);
                        if (r == 0)
                                r = mem_split_cow(start, child, parent, n, &c->out);
                }
                start += n * PAGE_SIZE;
        }
        return r;
}

/* The runs of the child within one of its areas, of which [start, end) could be the parent's too. */
static int compare_area(struct compare *c, const struct mem_run_vec *runs, const struct proc_vma *area,
                        uint64_t start, uint64_t end) {
        int r = 0;

        for (size_t i = mem_runs_find(runs, area->start); r == 0 && i < runs->n && runs->v[i].start < area->end; i++) {
                uint64_t a = MAX(runs->v[i].start, area->start), b = MIN(runs->v[i].end, area->end);
                uint64_t s = MIN(MAX(a, start), b), e = MAX(MIN(b, end), s);

                r = mem_runs_add(&c->out, a, s, false);
                if (r == 0)
                        r = compare_range(c, s, e, end);
                if (r == 0)
                        r = mem_runs_add(&c->out, e, b, false);
        }
        return r;
}

/* The part of a child's area that is an area of the parent with the same properties; false: none. */
static bool common_part(const struct dump_mem *parent, const struct mem_area *area, size_t *cursor, uint64_t *start,
                        uint64_t *end) {
        while (*cursor < parent->areas.n && parent->areas.v[*cursor].vma.end <= area->vma.start)
                (*cursor)++;
        for (size_t i = *cursor; i < parent->areas.n && parent->areas.v[i].vma.start < area->vma.end; i++)
                if (mem_same_area(parent->areas.v[i].msg, area->msg)) {
                        *start = MAX(parent->areas.v[i].vma.start, area->vma.start);
                        *end = MIN(parent->areas.v[i].vma.end, area->vma.end);
                        return true;
                }
        return false;
}

static int compare_all(struct dump_task *t, struct compare *c) {
        const struct dump_mem *mem = t->mem, *parent = t->parent->mem;
        size_t cursor = 0;
        int r = 0;

        for (size_t i = 0; r == 0 && i < mem->areas.n; i++) {
                const struct mem_area *area = &mem->areas.v[i];
                uint64_t start = area->vma.start, end = area->vma.start;

                if (mem_is_private(area->kind) && mem_runs_touch(&mem->runs, area->vma.start, area->vma.end))
                        common_part(parent, area, &cursor, &start, &end);
                r = compare_area(c, &mem->runs, &area->vma, start, end);
        }
        return r;
}

/* After execve nothing can be shared; most children of shells and the like are such. */
static bool could_share(const struct dump_task *t) {
        const struct dump_mem *mem = t->mem, *parent = t->parent->mem;

        return mem->mm->mm_start_code == parent->mm->mm_start_code &&
               mem->mm->mm_start_stack == parent->mm->mm_start_stack;
}

int mem_mark_cow(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_(compare_done) struct compare c = { .child.pm = PROC_PAGEMAP_INIT, .parent.pm = PROC_PAGEMAP_INIT };
        struct mem_run_vec old;
        int r;

        if (!could_share(t) || !kernel_has(&t->dump->kernel, KERNEL_PAGEMAP_PFN))
                return 0;
        r = proc_pagemap_open(&t->proc, true, &c.child.pm);
        if (r == 0)
                r = proc_pagemap_open(&t->parent->proc, true, &c.parent.pm);
        if (r == 0)
                r = compare_all(t, &c);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot compare its memory with its parent's", dump_task_name(t));
        old = t->mem->runs;
        t->mem->runs = c.out;
        c.out = old;
        return 0;
}
