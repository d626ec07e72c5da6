/* SPDX-License-Identifier: GPL-2.0-only */
/* Which pages of a frozen task to save. */
#include <errno.h>

#include "macro.h"
#include "mem/dump.h"

#define CONTENT (PAGE_RUN_PRESENT | PAGE_RUN_SWAPPED)
#define LARGE   ((uint64_t)2 << 20)

enum { MANY_AREAS = 512 };

struct sweep {
        struct dump_task *t;
        const struct proc_smap_vec *smaps;
        struct proc_pagemap pm;
        uint32_t any_of;
        struct page_run_vec *found;
};

static void sweep_done(struct sweep *s) {
        proc_pagemap_close(&s->pm);
}

/* What was found in an area: what has to be saved, and guard pages. */
static int take(struct dump_task *t, const struct page_run *run, uint64_t start, uint64_t end) {
        struct dump_mem *mem = t->mem;

        start = MAX(start, run->start);
        end = MIN(end, run->end);
        return mem_runs_add(run->categories & PAGE_RUN_GUARD ? &mem->guards : &mem->runs, start, end, 0);
}

/* The runs of the whole address space, cut down to the areas that have pages of their own. */
static int take_all(struct dump_task *t, const struct page_run_vec *found) {
        const struct mem_area_vec *areas = &t->mem->areas;
        size_t i = 0;
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
        return r;
}

static int sweep_range(struct sweep *s, uint64_t start, uint64_t end, uint32_t none_of) {
        return proc_pagemap_runs(&s->pm, start, end, s->any_of,
                                 (PAGE_RUN_PFNZERO & s->pm.categories) | none_of,
                                 PAGE_RUN_GUARD & s->pm.categories, s->found);
}

/*
 * All from `start` to `end` at once, but for large anonymous areas among those from number `first` to before `last`:
 * whether a page is that of a file, which none of theirs is, takes three times as long to find out as all the rest.
 */
static int sweep_part(struct sweep *s, uint64_t start, uint64_t end, size_t first, size_t last) {
        int r = 0;

        for (size_t i = first; r == 0 && i < last; i++) {
                const struct proc_vma *vma = &s->smaps->v[i].vma;

                if (vma->end - vma->start < LARGE || mem_kind_of(s->t, &s->smaps->v[i]) != MEM_ANON)
                        continue;
                if (start < vma->start)
                        r = sweep_range(s, start, vma->start, PAGE_RUN_FILE);
                if (r == 0)
                        r = sweep_range(s, vma->start, vma->end, 0);
                start = vma->end;
        }
        return r < 0 ? r : sweep_range(s, start, end, PAGE_RUN_FILE);
}

/* Where the last area ends: mostly below MEM_END, but see there. The kernel's own areas are higher still. */
static uint64_t end_of_areas(const struct proc_smap_vec *smaps) {
        for (size_t i = smaps->n; i > 0 && smaps->v[i - 1].vma.end > MEM_END; i--)
                if (smaps->v[i - 1].vma.end <= MEM_END_HIGH)
                        return smaps->v[i - 1].vma.end;
        return MEM_END;
}

/*
 * Of many areas, those in the upper half first: when another thread reads them at the same time, from the lowest on,
 * the two do not slow each other down by taking turns at the kernel's structures of one area after the other.
 */
static int sweep_all(struct sweep *s) {
        size_t half = s->smaps->n < MANY_AREAS ? 0 : s->smaps->n / 2, upper;
        uint64_t middle = half > 0 ? s->smaps->v[half].vma.start : 0;
        struct page_run_vec runs = { 0 };
        int r = sweep_part(s, middle, end_of_areas(s->smaps), half, s->smaps->n);

        if (r < 0 || half == 0)
                return r;
        upper = s->found->n;
        r = sweep_part(s, 0, middle, 0, half);
        for (size_t i = 0; r == 0 && i < s->found->n; i++)
                r = page_run_vec_push(&runs, s->found->v[(upper + i) % s->found->n]);
        page_run_vec_done(s->found);
        *s->found = runs;
        return r;
}

/* Without the ioctl, holes between areas cost as much as pages do. */
static int sweep_areas(struct sweep *s) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < s->smaps->n; i++) {
                const struct proc_vma *vma = &s->smaps->v[i].vma;

                if (vma->kind != PROC_VMA_VDSO && vma->kind != PROC_VMA_VVAR &&
                    vma->kind != PROC_VMA_VVAR_VCLOCK && vma->kind != PROC_VMA_VSYSCALL)
                        r = sweep_range(s, vma->start, vma->end, PAGE_RUN_FILE);
        }
        return r;
}

static int search(void *arg, struct ckpt_error *err __attribute__((unused))) {
        struct mem_search *search = arg;
        _cleanup_(sweep_done) struct sweep s = {
                .t = search->t, .smaps = search->smaps, .pm = PROC_PAGEMAP_INIT, .found = &search->found
        };
        int r = proc_pagemap_open(&search->t->proc, true, &s.pm);

        if (r < 0)
                return r;
        s.any_of = CONTENT | (PAGE_RUN_GUARD & s.pm.categories);
        return s.pm.scan ? sweep_all(&s) : sweep_areas(&s);
}

void mem_search_done(struct mem_search *s) {
        pool_withdraw(&s->offer);
        page_run_vec_done(&s->found);
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
        _cleanup_(mem_run_vec_done) struct mem_run_vec merged = { 0 };
        struct dump_mem *mem = t->mem;
        size_t i = 0;
        int r = 0;

        for (size_t k = 0; r == 0 && k < mem->areas.n; k++) {
                const struct mem_area *area = &mem->areas.v[k];

                if (area->kind != MEM_VDSO && area->kind != MEM_AIO)
                        continue;
                for (; r == 0 && i < mem->runs.n && mem->runs.v[i].start < area->vma.start; i++)
                        r = mem_runs_add(&merged, mem->runs.v[i].start, mem->runs.v[i].end, 0);
                if (r == 0)
                        r = mem_runs_add(&merged, area->vma.start, area->vma.end, 0);
        }
        if (merged.n == 0)
                return r;
        for (; r == 0 && i < mem->runs.n; i++)
                r = mem_runs_add(&merged, mem->runs.v[i].start, mem->runs.v[i].end, 0);
        if (r == 0) {
                struct mem_run_vec old = mem->runs;

                mem->runs = merged;
                merged = old;
        }
        return r;
}

int mem_collect_pages(struct dump_task *t, const struct proc_smap_vec *smaps, struct mem_search *ahead,
                      struct ckpt_error *err) {
        int r = finish_search(ahead, smaps, err);

        if (r == 0)
                r = take_all(t, &ahead->found);
        if (r == 0)
                r = add_whole(t);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot find out which pages it uses",
                                        dump_task_name(t));
        return 0;
}
