/* SPDX-License-Identifier: GPL-2.0-only */
/* What a task keeps of the memory that it is cloned with, and how the rest goes. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "cleanup.h"
#include "macro.h"
#include "mem/restore.h"

/* The kernel takes the address of a vDSO for a hint, and none so close below an area that grows down. */
#define STACK_GAP (2ULL << 20)

static bool any_cow(const struct mem_run_vec *runs, uint64_t start, uint64_t end) {
        for (size_t i = mem_runs_find(runs, start); i < runs->n && runs->v[i].start < end; i++)
                if (runs->v[i].sort & MEM_SORT_COW)
                        return true;
        return false;
}

/* The vDSO of this kernel, at the same place as the parent's. */
static bool keeps_vdso(const struct restore_task *t) {
        const struct vdso_plan *own = &t->mem->vdso, *parents;

        if (!t->donor || t->donor != t->parent || t->donor->kind != RESTORE_TASK_LIVE || !t->donor->mem)
                return false;
        parents = &t->donor->mem->vdso;
        return own->map && parents->map && own->copy_size == 0 && parents->copy_size == 0 &&
               own->at == parents->at && own->start == parents->start && own->size == parents->size;
}

static bool above_vdso(const struct restore_task *t, const struct restore_area *area) {
        uint64_t end = t->mem->vdso.start + t->mem->vdso.size;

        return t->mem->vdso.map && !t->mem->vdso_kept && (area->msg->flags & MAP_GROWSDOWN) &&
               area->start >= end && area->start - end < STACK_GAP;
}

static bool same_source(const struct restore_area *a, const struct restore_area *b) {
        return mem_same_area(a->msg, b->msg) && !a->patch && !b->patch && a->kind == b->kind;
}

/* No page of its own, and made as the parent's: to map it again would only be more work. */
static bool is_untouched(const struct restore_area *theirs, const struct restore_area *area) {
        return !area->content && area->start == theirs->start && area->end == theirs->end &&
               mem_huge_flags(area->msg->flags) == 0;
}

/* A task has the head of the parent's area, or all of it and perhaps more behind. */
static void choose(struct restore_task *t, const struct restore_mem *parent, struct restore_area *area,
                   size_t *cursor) {
        while (*cursor < parent->areas.n && parent->areas.v[*cursor].end <= area->start)
                (*cursor)++;
        for (size_t i = *cursor; i < parent->areas.n && parent->areas.v[i].start <= area->start; i++) {
                const struct restore_area *theirs = &parent->areas.v[i];
                uint64_t end = MIN(area->end, theirs->end);

                if (!same_source(theirs, area) ||
                    !(is_untouched(theirs, area) || any_cow(&t->mem->runs, area->start, end)) ||
                    above_vdso(t, area) || mem_runs_touch(&t->mem->guards, area->start, end) ||
                    mem_runs_touch(&parent->guards, area->start, end))
                        continue;
                area->kept_start = area->start;
                area->kept_end = end;
                return;
        }
}

void mem_choose_kept(struct restore_task *t) {
        const struct restore_task *donor = t->donor;
        size_t cursor = 0;

        /* Not written where it is so already: while there are tasks, ckpt shares its memory with them. */
        for (size_t i = 0; i < t->mem->areas.n; i++)
                if (t->mem->areas.v[i].kept_end > 0)
                        t->mem->areas.v[i].kept_start = t->mem->areas.v[i].kept_end = 0;
        t->mem->vdso_kept = keeps_vdso(t);
        if (!donor || donor != t->parent || donor->kind != RESTORE_TASK_LIVE || !donor->mem)
                return;
        for (size_t i = 0; i < t->mem->areas.n; i++)
                if (mem_is_private(t->mem->areas.v[i].kind))
                        choose(t, donor->mem, &t->mem->areas.v[i], &cursor);
}

static void add_munmap(struct compel_batch *b, uint64_t start, uint64_t end) {
        if (start < end)
                compel_call(b, "unmap what it was cloned with", SYS_munmap, start, end - start);
}

/* Pages that the parent had and the task has not, or has other ones. */
static int add_dropping(struct restore_task *t, struct compel_batch *b, const struct restore_area *area) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec gaps = { 0 };
        const struct mem_run_vec *theirs = &t->donor->mem->runs;
        int r = mem_runs_gaps(&t->mem->runs, true, area->kept_start, area->kept_end, &gaps);

        for (size_t i = 0; r == 0 && i < gaps.n; i++)
                if (mem_runs_touch(theirs, gaps.v[i].start, gaps.v[i].end))
                        compel_call(b, "drop pages of the parent", SYS_madvise, gaps.v[i].start,
                                    gaps.v[i].end - gaps.v[i].start, MADV_DONTNEED);
        return r;
}

/* What stays, in the order of addresses: the host, the vDSO, kept parts of areas. */
static int collect_staying(struct restore_task *t, struct mem_run_vec *ret) {
        const struct vdso_plan *vdso = &t->mem->vdso;
        uint64_t host = compel_host_addr(t->restore->host);
        struct mem_run others[2] = { { .start = host, .end = host + compel_host_size(t->restore->host) } };
        size_t n = 1, next = 0;
        int r = 0;

        if (t->mem->vdso_kept)
                others[n++] = (struct mem_run){ .start = vdso->start, .end = vdso->start + vdso->size };
        if (n == 2 && others[1].start < others[0].start) {
                others[1] = others[0];
                others[0] = (struct mem_run){ .start = vdso->start, .end = vdso->start + vdso->size };
        }
        for (size_t i = 0; r == 0 && i <= t->mem->areas.n; i++) {
                const struct restore_area *area = i < t->mem->areas.n ? &t->mem->areas.v[i] : NULL;

                if (area && area->kept_end == 0)
                        continue;
                while (r == 0 && next < n && (!area || others[next].start < area->kept_start))
                        r = mem_run_vec_push(ret, others[next++]);
                if (r == 0 && area)
                        r = mem_run_vec_push(
                                ret, (struct mem_run){ .start = area->kept_start, .end = area->kept_end });
        }
        return r;
}

/* Where the memory that it was cloned with ends, at the most. */
static uint64_t end_of_donors(const struct restore_task *t) {
        for (t = t->donor; t; t = t->donor)
                if (t->mem && t->mem->areas.n > 0 && t->mem->areas.v[t->mem->areas.n - 1].end > MEM_END)
                        return MEM_END_HIGH;
        return MEM_END;
}

int mem_add_unmapping(struct restore_task *t, struct compel_batch *b) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec staying = { 0 };
        uint64_t at = 0;
        int r = collect_staying(t, &staying);

        for (size_t i = 0; r == 0 && i < staying.n; i++) {
                add_munmap(b, at, staying.v[i].start);
                at = staying.v[i].end;
        }
        if (r == 0)
                add_munmap(b, at, end_of_donors(t));
        for (size_t i = 0; r == 0 && i < t->mem->areas.n; i++)
                if (t->mem->areas.v[i].kept_end > 0)
                        r = add_dropping(t, b, &t->mem->areas.v[i]);
        return r;
}
