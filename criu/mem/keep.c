/* SPDX-License-Identifier: GPL-2.0-only */
/* What a task keeps of the memory that it is cloned with, and how the rest goes. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

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

static bool above_vdso(const struct restore_task *t, const struct restore_area *area) {
        uint64_t end = t->mem->vdso.start + t->mem->vdso.size;

        return t->mem->vdso.map && (area->msg->flags & MAP_GROWSDOWN) && area->start >= end &&
               area->start - end < STACK_GAP;
}

static bool same_source(const struct restore_area *a, const struct restore_area *b) {
        return mem_same_area(a->msg, b->msg) && !a->patch && !b->patch && a->kind == b->kind;
}

/* A task has the head of the parent's area, or all of it and perhaps more behind. */
static void choose(struct restore_task *t, const struct restore_mem *parent, struct restore_area *area,
                   size_t *cursor) {
        while (*cursor < parent->areas.n && parent->areas.v[*cursor].end <= area->start)
                (*cursor)++;
        for (size_t i = *cursor; i < parent->areas.n && parent->areas.v[i].start <= area->start; i++) {
                const struct restore_area *theirs = &parent->areas.v[i];
                uint64_t end = MIN(area->end, theirs->end);

                if (!same_source(theirs, area) || !any_cow(&t->mem->runs, area->start, end) ||
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

        for (size_t i = 0; i < t->mem->areas.n; i++)
                t->mem->areas.v[i].kept_start = t->mem->areas.v[i].kept_end = 0;
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

int mem_add_unmapping(struct restore_task *t, struct compel_batch *b) {
        uint64_t host = compel_host_addr(t->restore->host),
                 host_end = host + compel_host_size(t->restore->host);
        uint64_t at = 0;
        bool host_done = false;
        int r = 0;

        for (size_t i = 0; i <= t->mem->areas.n; i++) {
                const struct restore_area *area = i < t->mem->areas.n ? &t->mem->areas.v[i] : NULL;
                uint64_t next = area ? area->kept_start : MEM_END;

                if (area && area->kept_end == 0)
                        continue;
                if (!host_done && host < next) {
                        add_munmap(b, at, host);
                        at = host_end;
                        host_done = true;
                }
                add_munmap(b, at, next);
                if (area)
                        at = area->kept_end;
        }
        for (size_t i = 0; r == 0 && i < t->mem->areas.n; i++)
                if (t->mem->areas.v[i].kept_end > 0)
                        r = add_dropping(t, b, &t->mem->areas.v[i]);
        return r;
}
