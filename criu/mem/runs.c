/* SPDX-License-Identifier: GPL-2.0-only */
#include "mem/runs.h"

#include "macro.h"

int mem_runs_add(struct mem_run_vec *runs, uint64_t start, uint64_t end, uint32_t sort) {
        struct mem_run *last = runs->n > 0 ? &runs->v[runs->n - 1] : NULL;

        ckpt_assert(runs->n == 0 || runs->v);
        if (start >= end)
                return 0;
        if (last && last->end == start && last->sort == sort) {
                last->end = end;
                return 0;
        }
        return mem_run_vec_push(runs, (struct mem_run){ .start = start, .end = end, .sort = sort });
}

uint64_t mem_runs_place(struct mem_run_vec *runs) {
        uint64_t offset = 0;

        for (size_t i = 0; i < runs->n; i++) {
                runs->v[i].offset = offset;
                offset += runs->v[i].end - runs->v[i].start;
        }
        return offset;
}

size_t mem_runs_find(const struct mem_run_vec *runs, uint64_t address) {
        size_t low = 0, high = runs->n;

        while (low < high) {
                size_t mid = low + (high - low) / 2;

                if (runs->v[mid].end <= address)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

bool mem_runs_touch(const struct mem_run_vec *runs, uint64_t start, uint64_t end) {
        size_t i = mem_runs_find(runs, start);

        return start < end && i < runs->n && runs->v[i].start < end;
}

size_t mem_runs_at_offset(const struct mem_run_vec *runs, uint64_t offset) {
        size_t low = 0, high = runs->n;

        while (high - low > 1) {
                size_t mid = low + (high - low) / 2;

                if (runs->v[mid].offset <= offset)
                        low = mid;
                else
                        high = mid;
        }
        ckpt_assert(low < runs->n && offset - runs->v[low].offset < runs->v[low].end - runs->v[low].start);
        return low;
}

int mem_runs_gaps(const struct mem_run_vec *runs, bool cow, uint64_t start, uint64_t end,
                  struct mem_run_vec *ret) {
        int r = 0;

        for (size_t i = mem_runs_find(runs, start); r == 0 && i < runs->n && runs->v[i].start < end; i++) {
                const struct mem_run *run = &runs->v[i];

                if (cow && !(run->sort & MEM_SORT_COW))
                        continue;
                if (run->start > start)
                        r = mem_runs_add(ret, start, run->start, 0);
                start = MAX(start, run->end);
        }
        return r < 0 ? r : mem_runs_add(ret, start, end, 0);
}
