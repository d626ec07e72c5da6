/* SPDX-License-Identifier: GPL-2.0-only */
/* Which pages of a frozen task to save. */
#include <errno.h>

#include "macro.h"
#include "mem/dump.h"

#define CONTENT (PAGE_RUN_PRESENT | PAGE_RUN_SWAPPED)
#define LARGE   ((uint64_t)2 << 20)

struct sweep {
        struct dump_task *t;
        struct proc_pagemap pm;
        uint32_t any_of;
        struct page_run_vec found;
};

static void sweep_done(struct sweep *s) {
        proc_pagemap_close(&s->pm);
        page_run_vec_done(&s->found);
}

/* What was found in an area: what has to be saved, and guard pages. */
static int take(struct dump_task *t, const struct page_run *run, uint64_t start, uint64_t end) {
        struct dump_mem *mem = t->mem;

        start = MAX(start, run->start);
        end = MIN(end, run->end);
        return mem_runs_add(run->categories & PAGE_RUN_GUARD ? &mem->guards : &mem->runs, start, end, 0);
}

/* The runs of the whole address space, cut down to the areas that have pages of their own. */
static int take_all(struct sweep *s) {
        const struct mem_area_vec *areas = &s->t->mem->areas;
        size_t i = 0;
        int r = 0;

        for (size_t j = 0; r == 0 && j < s->found.n; j++) {
                const struct page_run *run = &s->found.v[j];

                while (i < areas->n && areas->v[i].vma.end <= run->start)
                        i++;
                for (size_t k = i; r == 0 && k < areas->n && areas->v[k].vma.start < run->end; k++)
                        if (mem_is_private(areas->v[k].kind) ||
                            (areas->v[k].kind != MEM_VDSO && (run->categories & PAGE_RUN_GUARD)))
                                r = take(s->t, run, areas->v[k].vma.start, areas->v[k].vma.end);
        }
        return r;
}

static int sweep_range(struct sweep *s, uint64_t start, uint64_t end, uint32_t none_of) {
        return proc_pagemap_runs(&s->pm, start, end, s->any_of,
                                 (PAGE_RUN_PFNZERO & s->pm.categories) | none_of,
                                 PAGE_RUN_GUARD & s->pm.categories, &s->found);
}

/*
 * The whole address space at once, but for large anonymous areas: whether a page is that of a file, which none of
 * theirs is, takes three times as long to find out as all the rest.
 */
static int sweep_all(struct sweep *s) {
        const struct mem_area_vec *areas = &s->t->mem->areas;
        uint64_t at = 0;
        int r = 0;

        for (size_t i = 0; r == 0 && i < areas->n; i++) {
                const struct proc_vma *vma = &areas->v[i].vma;

                if (areas->v[i].kind != MEM_ANON || vma->end - vma->start < LARGE)
                        continue;
                if (at < vma->start)
                        r = sweep_range(s, at, vma->start, PAGE_RUN_FILE);
                if (r == 0)
                        r = sweep_range(s, vma->start, vma->end, 0);
                at = vma->end;
        }
        return r < 0 ? r : sweep_range(s, at, MEM_END, PAGE_RUN_FILE);
}

/* Without the ioctl, holes between areas cost as much as pages do. */
static int sweep_areas(struct sweep *s) {
        const struct mem_area_vec *areas = &s->t->mem->areas;
        int r = 0;

        for (size_t i = 0; r == 0 && i < areas->n; i++)
                if (areas->v[i].kind != MEM_VDSO && areas->v[i].kind != MEM_VVAR)
                        r = sweep_range(s, areas->v[i].vma.start, areas->v[i].vma.end, PAGE_RUN_FILE);
        return r;
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

int mem_collect_pages(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_(sweep_done) struct sweep s = { .t = t, .pm = PROC_PAGEMAP_INIT };
        int r;

        r = proc_pagemap_open(&t->proc, true, &s.pm);
        if (r == 0) {
                s.any_of = CONTENT | (PAGE_RUN_GUARD & s.pm.categories);
                r = s.pm.scan ? sweep_all(&s) : sweep_areas(&s);
        }
        if (r == 0)
                r = take_all(&s);
        if (r == 0)
                r = add_whole(t);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot find out which pages it uses",
                                        dump_task_name(t));
        return 0;
}
