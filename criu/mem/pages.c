/* SPDX-License-Identifier: GPL-2.0-only */
/* Which pages of a frozen task to save. */
#include <errno.h>
#include <stdlib.h>

#include "macro.h"
#include "mem/dump.h"

#define CONTENT (PAGE_RUN_PRESENT | PAGE_RUN_SWAPPED)
#define LARGE   ((uint64_t)2 << 20)

#define LARGE_TABLES ((uint64_t)1 << 20) /* page tables that take 1 ms to look through */
#define PART_MIN     ((uint64_t)64 << 20)

enum { MANY_AREAS = 512, LARGE_PARTS = 16 /* of all large areas together */ };

struct mem_search_part {
        uint64_t start, end;
        size_t first; /* the first area that may reach into it */
        struct page_run_vec found;
};

/* What threads that search side by side share. */
struct sweep {
        struct mem_search *search;
        size_t first; /* part to begin with; after the last come those before it */
        size_t next;  /* how many have been begun with, atomic */
        int failed;   /* atomic */
};

/* Of one thread. */
struct searcher {
        struct dump_task *t;
        const struct proc_smap_vec *smaps;
        struct proc_pagemap pm;
        uint32_t any_of;
        struct mem_search_part *part;
};

static void searcher_done(struct searcher *s) {
        proc_pagemap_close(&s->pm);
}

/* What was found in an area: what has to be saved, and guard pages. */
static int take(struct dump_task *t, const struct page_run *run, uint64_t start, uint64_t end) {
        struct dump_mem *mem = t->mem;

        start = MAX(start, run->start);
        end = MIN(end, run->end);
        return mem_runs_add(run->categories & PAGE_RUN_GUARD ? &mem->guards : &mem->runs, start, end, 0);
}

/* The runs of a part of the address space, cut down to the areas that have pages of their own, from number *at on. */
static int take_part(struct dump_task *t, const struct page_run_vec *found, size_t *at) {
        const struct mem_area_vec *areas = &t->mem->areas;
        size_t i = *at;
        int r = 0;

        for (size_t j = 0; r == 0 && j < found->n; j++) {
                const struct page_run *run = &found->v[j];

                while (i < areas->n && areas->v[i].vma.end <= run->start)
                        i++;
                for (size_t k = i; r == 0 && k < areas->n && areas->v[k].vma.start < run->end; k++)
                        if (mem_is_private(areas->v[k].kind) ||
                            (areas->v[k].kind != MEM_VDSO && (run->categories & PAGE_RUN_GUARD)))
                                r = take(t, run, areas->v[k].vma.start, areas->v[k].vma.end);
        }
        *at = i;
        return r;
}

static int take_all(const struct mem_search *s) {
        size_t at = 0, n = 0;
        int r;

        for (size_t i = 0; i < s->nr_parts; i++)
                n += s->parts[i].found.n;
        r = mem_runs_reserve(&s->t->mem->runs, n + 1); /* as a rule the vDSO comes to them */
        for (size_t i = 0; r == 0 && i < s->nr_parts; i++)
                r = take_part(s->t, &s->parts[i].found, &at);
        return r;
}

/* ---- one part ---- */

static int search_range(struct searcher *s, uint64_t start, uint64_t end, uint32_t none_of) {
        return proc_pagemap_runs(&s->pm, start, end, s->any_of,
                                 (PAGE_RUN_PFNZERO & s->pm.categories) | none_of,
                                 PAGE_RUN_GUARD & s->pm.categories, &s->part->found);
}

static bool is_large(struct dump_task *t, const struct proc_smap *smap) {
        return smap->vma.end - smap->vma.start >= LARGE && mem_kind_of(t, smap) == MEM_ANON;
}

/*
 * All of the part at once, but for large anonymous areas: whether a page is that of a file, which none of theirs is, takes
 * three times as long to find out as all the rest.
 */
static int search_part(struct searcher *s) {
        uint64_t start = s->part->start, end = s->part->end;
        int r = 0;

        for (size_t i = s->part->first; r == 0 && i < s->smaps->n; i++) {
                const struct proc_vma *vma = &s->smaps->v[i].vma;

                if (vma->start >= end)
                        break;
                if (vma->end <= start || !is_large(s->t, &s->smaps->v[i]))
                        continue;
                if (start < vma->start)
                        r = search_range(s, start, vma->start, PAGE_RUN_FILE);
                start = MAX(start, vma->start);
                if (r == 0)
                        r = search_range(s, start, MIN(end, vma->end), 0);
                start = MIN(end, vma->end);
        }
        return r < 0 ? r : search_range(s, start, end, PAGE_RUN_FILE);
}

/* Without the ioctl, holes between areas cost as much as pages do. */
static int search_areas(struct searcher *s) {
        int r = 0;

        for (size_t i = s->part->first; r == 0 && i < s->smaps->n; i++) {
                const struct proc_vma *vma = &s->smaps->v[i].vma;
                uint64_t start = MAX(vma->start, s->part->start), end = MIN(vma->end, s->part->end);

                if (vma->kind != PROC_VMA_VDSO && vma->kind != PROC_VMA_VVAR &&
                    vma->kind != PROC_VMA_VVAR_VCLOCK && vma->kind != PROC_VMA_VSYSCALL && start < end)
                        r = search_range(s, start, end, PAGE_RUN_FILE);
        }
        return r;
}

/* ---- all parts ---- */

/* Each part begins where the one before has ended, in which area number `area` or an earlier one was the last. */
static void add_part(struct mem_search *s, uint64_t end, size_t area) {
        struct mem_search_part *part = &s->parts[s->nr_parts];

        if (s->nr_parts > 0)
                part->start = part[-1].end;
        part->end = end;
        part[1].first = area;
        s->nr_parts++;
}

/* Where the last area ends: mostly below MEM_END, but see there. The kernel's own areas are higher still. */
static uint64_t end_of_areas(const struct proc_smap_vec *smaps) {
        for (size_t i = smaps->n; i > 0 && smaps->v[i - 1].vma.end > MEM_END; i--)
                if (smaps->v[i - 1].vma.end <= MEM_END_HIGH)
                        return smaps->v[i - 1].vma.end;
        return MEM_END;
}

static uint64_t bytes_of_large(const struct mem_search *s) {
        uint64_t bytes = 0;

        for (size_t i = 0; i < s->smaps->n; i++)
                if (is_large(s->t, &s->smaps->v[i]))
                        bytes += s->smaps->v[i].vma.end - s->smaps->v[i].vma.start;
        return bytes;
}

/*
 * Add parts that end in area number `i`, `step` bytes of large areas each; *done: bytes that the last one has already.
 * Pages of hugetlbfs are few, and stay whole.
 */
static void cut_area(struct mem_search *s, size_t i, uint64_t step, uint64_t *done) {
        const struct proc_vma *vma = &s->smaps->v[i].vma;
        uint64_t at = vma->start;

        if (!is_large(s->t, &s->smaps->v[i]) || (s->smaps->v[i].flags & PROC_VMF_HT))
                return;
        while (vma->end - at >= step - *done) {
                at += step - *done;
                add_part(s, at, i);
                *done = 0;
        }
        *done += vma->end - at;
}

/*
 * Large page tables are looked through by whoever has time. Of many areas, those in the upper half come first: when
 * another thread reads them at the same time, from the lowest on, the two do not slow each other down by taking turns at
 * the kernel's structures of one area after the other.
 */
static int cut(struct mem_search *s, size_t *ret_first) {
        size_t half = s->smaps->n < MANY_AREAS ? 0 : s->smaps->n / 2;
        uint64_t step = 0, done = 0;

        /* In front of the upper half, at the end, and one for what `first` of the next says */
        s->parts = calloc(LARGE_PARTS + 3, sizeof(*s->parts));
        if (!s->parts)
                return -ENOMEM;
        s->nr_parts = *ret_first = 0;
        if (s->t->page_tables >= LARGE_TABLES)
                step = MAX(bytes_of_large(s) / LARGE_PARTS / PAGE_SIZE * PAGE_SIZE + PAGE_SIZE, PART_MIN);
        for (size_t i = 0; i < s->smaps->n; i++) {
                if (i == half && half > 0) {
                        add_part(s, s->smaps->v[i].vma.start, i);
                        *ret_first = s->nr_parts;
                }
                if (step > 0)
                        cut_area(s, i, step, &done);
        }
        add_part(s, end_of_areas(s->smaps), s->smaps->n);
        return 0;
}

static int open_searcher(struct searcher *s, const struct mem_search *search) {
        int r;

        *s = (struct searcher){ .t = search->t, .smaps = search->smaps, .pm = PROC_PAGEMAP_INIT };
        r = proc_pagemap_open(&search->t->proc, true, &s->pm);
        if (r == 0)
                s->any_of = CONTENT | (PAGE_RUN_GUARD & s->pm.categories);
        return r;
}

/* A helper that cannot begin leaves it to the others. */
static void work(void *ctx, bool helper) {
        struct sweep *sweep = ctx;
        struct mem_search *search = sweep->search;
        _cleanup_(searcher_done) struct searcher s = { .pm = PROC_PAGEMAP_INIT };
        int r = open_searcher(&s, search);

        if (r < 0 && helper)
                return;
        while (r == 0) {
                size_t i = __atomic_fetch_add(&sweep->next, 1, __ATOMIC_RELAXED);

                if (i >= search->nr_parts)
                        return;
                s.part = &search->parts[(sweep->first + i) % search->nr_parts];
                r = s.pm.scan ? search_part(&s) : search_areas(&s);
        }
        __atomic_store_n(&sweep->failed, r, __ATOMIC_RELAXED);
        __atomic_store_n(&sweep->next, search->nr_parts, __ATOMIC_RELAXED);
}

static int search(void *arg, struct ckpt_error *err __attribute__((unused))) {
        struct mem_search *search = arg;
        struct sweep sweep = { .search = search };
        int r = cut(search, &sweep.first);

        if (r < 0)
                return r;
        pool_share(search->t->dump->aside, search->nr_parts > 2 ? 1 : 0, work, &sweep);
        return sweep.failed;
}

void mem_search_done(struct mem_search *s) {
        pool_withdraw(&s->offer);
        for (size_t i = 0; i < s->nr_parts; i++)
                page_run_vec_done(&s->parts[i].found);
        free(s->parts);
        s->parts = NULL;
        s->nr_parts = 0;
}

void mem_search_ahead(struct dump_task *t, struct mem_search *ret) {
        *ret = (struct mem_search){ .t = t, .smaps = &t->smaps };
        if (t->smaps.n >= MANY_AREAS && mem_areas_stand(t))
                (void)pool_offer(t->dump->aside, search, ret, &ret->offer);
}

/* What was found by areas that are not those of the task is of no use: none of the large ones need be anonymous. */
static int finish_search(struct mem_search *s, const struct proc_smap_vec *smaps, struct ckpt_error *err) {
        if (s->offer.pool && s->smaps == smaps)
                return pool_claim(&s->offer, err);
        mem_search_done(s);
        s->smaps = smaps;
        return search(s, err);
}

/*
 * The code of the vDSO is saved whole, to be compared with that of the restoring kernel; and the rings of AIO contexts, which
 * are shared with the kernel rather than the task's own.
 */
static int add_whole(struct dump_task *t) {
        int r = 0;

        for (size_t k = 0; r == 0 && k < t->mem->areas.n; k++) {
                const struct mem_area *area = &t->mem->areas.v[k];

                if (area->kind == MEM_VDSO || area->kind == MEM_AIO)
                        r = mem_runs_insert(&t->mem->runs, area->vma.start, area->vma.end, 0);
        }
        return r;
}

int mem_collect_pages(struct dump_task *t, const struct proc_smap_vec *smaps, struct mem_search *ahead,
                      struct ckpt_error *err) {
        int r = finish_search(ahead, smaps, err);

        if (r == 0)
                r = take_all(ahead);
        if (r == 0)
                r = add_whole(t);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot find out which pages it uses",
                                        dump_task_name(t));
        return 0;
}
