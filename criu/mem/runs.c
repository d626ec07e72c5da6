/* SPDX-License-Identifier: GPL-2.0-only */
#include "mem/runs.h"

#include <errno.h>
#include <string.h>

#include "macro.h"

int mem_runs_reserve(struct mem_run_vec *runs, size_t n) {
        struct mem_run *v;

        if (n <= runs->cap)
                return 0;
        v = reallocarray(runs->v, n, sizeof(*v));
        if (!v)
                return -ENOMEM;
        runs->v = v;
        runs->cap = n;
        return 0;
}

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

int mem_runs_insert(struct mem_run_vec *runs, uint64_t start, uint64_t end, uint32_t sort) {
        size_t i = mem_runs_find(runs, start);

        ckpt_assert(start < end && !mem_runs_touch(runs, start, end));
        if (!mem_run_vec_add(runs))
                return -ENOMEM;
        memmove(&runs->v[i + 1], &runs->v[i], (runs->n - 1 - i) * sizeof(*runs->v));
        runs->v[i] = (struct mem_run){ .start = start, .end = end, .sort = sort };
        return 0;
}

static uint64_t size_of(const struct mem_run *run) {
        return run->end - run->start;
}

uint64_t mem_runs_place(struct mem_run_vec *runs) {
        uint64_t offset = 0;

        for (size_t i = 0; i < runs->n; i++) {
                runs->v[i].offset = offset;
                offset += size_of(&runs->v[i]);
        }
        return offset;
}

uint64_t mem_runs_bytes(const struct mem_run_vec *runs) {
        uint64_t bytes = 0;

        for (size_t i = 0; i < runs->n; i++)
                bytes += size_of(&runs->v[i]);
        return bytes;
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
        ckpt_assert(low < runs->n && offset - runs->v[low].offset < size_of(&runs->v[low]));
        return low;
}

struct mem_piece mem_runs_cut(const struct mem_run_vec *runs, size_t *i, uint64_t *skip, size_t max_nr,
                              uint64_t max_bytes) {
        struct mem_piece p = { .first = *i, .skip = *skip, .offset = runs->v[*i].offset + *skip };

        while (*i < runs->n && p.nr < max_nr && p.bytes < max_bytes &&
               runs->v[*i].offset + *skip == p.offset + p.bytes) {
                uint64_t left = size_of(&runs->v[*i]) - *skip, len = MIN(left, max_bytes - p.bytes);

                p.bytes += len;
                p.nr++;
                if (len < left) {
                        *skip += len;
                        break;
                }
                *skip = 0;
                (*i)++;
        }
        return p;
}

void mem_piece_places(const struct mem_run_vec *runs, const struct mem_piece *piece, struct iovec *iov) {
        uint64_t skip = piece->skip, left = piece->bytes;

        for (size_t i = 0; i < piece->nr; i++) {
                const struct mem_run *run = &runs->v[piece->first + i];
                uint64_t len = MIN(size_of(run) - skip, left);

                iov[i] = (struct iovec){ (void *)(uintptr_t)(run->start + skip), len };
                left -= len;
                skip = 0;
        }
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
