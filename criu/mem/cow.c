/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages that a process still shares copy-on-write with its parent: at the same address in both, in areas
 * that a fork gave both, and of the same page frame. And all pages that have several owners, whoever
 * they are: to read those with process_vm_readv(2) would end the sharing, as it pins pages, and since
 * Linux 5.19 an anonymous page that is not exclusive is copied for that. (A dump of the tree of a server
 * with many children would make its memory many times as large.)
 */
#include <errno.h>
#include <stdlib.h>

#include "macro.h"
#include "mem/dump.h"

enum {
        WINDOW = 1024, /* pages */
        AHEAD = 64,    /* are read at least: the areas of a library follow each other */
};

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
                uint64_t wanted = MAX((end - at) / PAGE_SIZE, (uint64_t)AHEAD),
                         left = ((at < MEM_END ? MEM_END : MEM_END_HIGH) - at) / PAGE_SIZE;
                size_t n = (size_t)MIN(wanted, left);

                n = MIN(n, (size_t)WINDOW);

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

static bool is_shared(uint64_t word) {
        return (word & PAGEMAP_WORD_PRESENT) && !(word & PAGEMAP_WORD_EXCLUSIVE);
}

int mem_split_cow(uint64_t start, const uint64_t *child, const uint64_t *parent, size_t n,
                  struct mem_run_vec *ret) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++, start += PAGE_SIZE) {
                uint32_t sort = is_shared(child[i]) ? MEM_SORT_SHARED : 0;

                if (parent && same_frame(child[i], parent[i]))
                        sort |= MEM_SORT_COW;
                r = mem_runs_add(ret, start, start + PAGE_SIZE, sort);
        }
        return r;
}

static bool any_shared(const uint64_t *words, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (is_shared(words[i]))
                        return true;
        return false;
}

/*
 * [start, end) has content in the child. Words are read up to `limit`; with `common`, it is an area of
 * both.
 */
static int compare_range(struct compare *c, uint64_t start, uint64_t end, uint64_t limit, bool common) {
        int r = 0;

        while (r == 0 && start < end) {
                const uint64_t *child, *parent = NULL;
                size_t n, m;

                r = window_at(&c->child, start, limit, &child, &n);
                if (r < 0)
                        return r;
                n = MIN(n, (end - start) / PAGE_SIZE);
                if (!any_shared(child, n)) {
                        r = mem_runs_add(&c->out, start, start + n * PAGE_SIZE, 0);
                } else {
                        if (common) {
                                r = window_at(&c->parent, start, limit, &parent, &m);
                                n = MIN(n, m);
                        }
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

        for (size_t i = mem_runs_find(runs, area->start);
             r == 0 && i < runs->n && runs->v[i].start < area->end; i++) {
                uint64_t a = MAX(runs->v[i].start, area->start), b = MIN(runs->v[i].end, area->end);
                uint64_t s = MIN(MAX(a, start), b), e = MAX(MIN(b, end), s);
                uint64_t limit = MAX(area->end, runs->v[i].end); /* areas can be small, and so can runs */

                r = compare_range(c, a, s, limit, false);
                if (r == 0)
                        r = compare_range(c, s, e, limit, true);
                if (r == 0)
                        r = compare_range(c, e, b, limit, false);
        }
        return r;
}

/* The part of a child's area that is an area of the parent with the same properties; false: none. */
static bool common_part(const struct dump_mem *parent, const struct mem_area *area, size_t *cursor,
                        uint64_t *start, uint64_t *end) {
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

static int compare_all(struct dump_task *t, const struct dump_mem *parent, struct compare *c) {
        const struct dump_mem *mem = t->mem;
        size_t cursor = 0;
        int r = 0;

        for (size_t i = 0; r == 0 && i < mem->areas.n; i++) {
                const struct mem_area *area = &mem->areas.v[i];
                uint64_t start = area->vma.start, end = start;

                if (parent && mem_is_private(area->kind) &&
                    mem_runs_touch(&mem->runs, area->vma.start, area->vma.end))
                        common_part(parent, area, &cursor, &start, &end);
                r = compare_area(c, &mem->runs, &area->vma, start, end);
        }
        return r;
}

/*
 * Two processes that could share memory: one is a fork of the other, or both of a third, and neither has
 * called execve since. Where the stack begins is random.
 */
static bool is_kin(const Img__Mm *a, uint64_t start_code, uint64_t start_stack) {
        return a->mm_start_code == start_code && a->mm_start_stack == start_stack;
}

static bool is_kin_of(const struct dump_task *t, const struct dump_task *other) {
        return other && other->mem &&
               is_kin(t->mem->mm, other->mem->mm->mm_start_code, other->mem->mm->mm_start_stack);
}

/* The parent of the root is outside of the tree. */
static bool is_kin_of_outsider(const struct dump_task *t) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat;

        return !t->parent && t->stat.ppid > 0 && proc_open(t->stat.ppid, &dir) == 0 &&
               proc_stat_read(&dir, &buf, &stat) == 0 &&
               is_kin(t->mem->mm, stat.start_code, stat.start_stack);
}

/* Pages that the kernel merged have several owners, too. */
static bool has_merged_pages(const struct dump_task *t) {
        for (size_t i = 0; i < t->mem->areas.n; i++)
                if (t->mem->areas.v[i].flags & PROC_VMF_MG)
                        return true;
        return false;
}

static int compare_kin(const void *a, const void *b) {
        const struct dump_task *x = *(struct dump_task *const *)a, *y = *(struct dump_task *const *)b;
        const Img__Mm *m = x->mem->mm, *n = y->mem->mm;

        if (m->mm_start_stack != n->mm_start_stack)
                return m->mm_start_stack < n->mm_start_stack ? -1 : 1;
        return m->mm_start_code < n->mm_start_code ? -1 : m->mm_start_code > n->mm_start_code;
}

void mem_find_kin(struct dump *d) {
        _cleanup_free_ struct dump_task **tasks = calloc(d->nr_tasks, sizeof(struct dump_task *));
        size_t n = 0;

        ckpt_assert(tasks);
        for (size_t i = 0; i < d->nr_tasks; i++)
                if (d->tasks[i]->mem && d->tasks[i]->mem->mm)
                        tasks[n++] = d->tasks[i];
        qsort(tasks, n, sizeof(*tasks), compare_kin);
        for (size_t i = 0; i < n; i++)
                tasks[i]->mem->has_kin = (i > 0 && compare_kin(&tasks[i - 1], &tasks[i]) == 0) ||
                                         (i + 1 < n && compare_kin(&tasks[i], &tasks[i + 1]) == 0) ||
                                         is_kin_of_outsider(tasks[i]) || has_merged_pages(tasks[i]);
}

int mem_mark_cow(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_(compare_done) struct compare c = { .child.pm = PROC_PAGEMAP_INIT,
                                                     .parent.pm = PROC_PAGEMAP_INIT };
        const struct dump_mem *parent =
                is_kin_of(t, t->parent) && kernel_has(&t->dump->kernel, KERNEL_PAGEMAP_PFN) ? t->parent->mem
                                                                                            : NULL;
        struct mem_run_vec old;
        int r;

        if (!t->mem->has_kin)
                return 0;
        r = proc_pagemap_open_words(&t->proc, &c.child.pm);
        if (r == 0 && parent)
                r = proc_pagemap_open_words(&t->parent->proc, &c.parent.pm);
        if (r == 0)
                r = compare_all(t, parent, &c);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot see which memory it shares", dump_task_name(t));
        old = t->mem->runs;
        t->mem->runs = c.out;
        c.out = old;
        return 0;
}
