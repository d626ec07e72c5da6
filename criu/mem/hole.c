/* SPDX-License-Identifier: GPL-2.0-only */
/* Free places in address spaces. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "macro.h"
#include "mem/restore.h"
#include "proc/maps.h"

#define LOWEST    0x100000ULL  /* above any mmap_min_addr */
#define STACK_GAP (4ULL << 20) /* kept free below areas that grow down: the kernel's own gap is 1 MiB */

static int compare(const void *a, const void *b) {
        const struct mem_run *x = a, *y = b;

        return x->start < y->start ? -1 : x->start > y->start;
}

int mem_find_gap(struct mem_run_vec *taken, uint64_t size, uint64_t align, uint64_t *ret) {
        uint64_t at = LOWEST, best = 0, best_size = 0;

        if (taken->n > 0)
                qsort(taken->v, taken->n, sizeof(*taken->v), compare);
        for (size_t i = 0; i <= taken->n; i++) {
                uint64_t end = i < taken->n ? MIN(taken->v[i].start, MEM_END) : MEM_END;

                if (end > at && end - at > best_size) {
                        best = at;
                        best_size = end - at;
                }
                if (i < taken->n)
                        at = MAX(at, taken->v[i].end);
        }
        if (size > best_size || best_size - size < align)
                return -ENOSPC;
        *ret = (best + (best_size - size) / 2 + align - 1) & ~(align - 1);
        return 0;
}

static int take(struct mem_run_vec *taken, uint64_t start, uint64_t end, bool grows_down) {
        struct mem_run *last = taken->n > 0 ? &taken->v[taken->n - 1] : NULL;

        if (grows_down)
                start -= MIN(start, STACK_GAP);
        if (last && last->end == start) {
                last->end = end;
                return 0;
        }
        return mem_run_vec_push(taken, (struct mem_run){ .start = start, .end = end });
}

int mem_taken_by_task(const struct restore_task *t, struct mem_run_vec *ret) {
        int r = 0;

        for (size_t i = 0; r == 0 && t->mem && i < t->mem->areas.n; i++) {
                const struct restore_area *area = &t->mem->areas.v[i];

                r = take(ret, area->start, area->end, area->msg->flags & MAP_GROWSDOWN);
        }
        if (r == 0 && t->mem && t->mem->vdso.size > 0)
                r = take(ret, t->mem->vdso.start, t->mem->vdso.start + t->mem->vdso.size, false);
        return r;
}

static int taken_by_ckpt(struct mem_run_vec *ret) {
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        int r;

        r = proc_open(getpid(), &self);
        if (r == 0)
                r = proc_maps_read(&self, &buf, &maps);
        for (size_t i = 0; r == 0 && i < maps.n; i++)
                r = take(ret, maps.v[i].start, maps.v[i].end, maps.v[i].kind == PROC_VMA_STACK);
        return r;
}

int mem_find_hole(struct restore *r, size_t size, raddr_t *ret, struct ckpt_error *err) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec taken = { 0 };
        int ret_code;

        ret_code = taken_by_ckpt(&taken);
        for (size_t i = 0; ret_code == 0 && i < r->nr_tasks; i++)
                ret_code = mem_taken_by_task(r->tasks[i], &taken);
        if (ret_code == 0)
                ret_code = mem_find_gap(&taken, size, PAGE_SIZE, ret);
        if (ret_code < 0)
                return ckpt_error_errno(
                        err, ret_code,
                        "cannot find %zu bytes that are free in all processes of the checkpoint", size);
        return 0;
}
