/* SPDX-License-Identifier: GPL-2.0-only */
/* Arithmetic on runs of pages. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vec.h"

/* mem_run.sort */
enum {
        MEM_SORT_COW = 1 << 0,    /* shared copy-on-write with the parent process */
        MEM_SORT_SHARED = 1 << 1, /* dump only: in the page tables of more than one process */
};

/* [start, end), page aligned. */
struct mem_run {
        uint64_t start, end;
        uint64_t offset; /* of its first byte in the pages file */
        uint32_t sort;   /* MEM_SORT_* */
};

DEFINE_VEC(mem_run_vec, struct mem_run);

/* Room for n runs in all. -ENOMEM. */
int mem_runs_reserve(struct mem_run_vec *runs, size_t n);

/*
 * Append [start, end), or make the last run longer if that ends at start and is of the same sort.
 * -ENOMEM.
 */
int mem_runs_add(struct mem_run_vec *runs, uint64_t start, uint64_t end, uint32_t sort);

/* Put [start, end), where no run has a page and which is not empty, between the runs, which are ascending. -ENOMEM. */
int mem_runs_insert(struct mem_run_vec *runs, uint64_t start, uint64_t end, uint32_t sort);

/* Give the runs their places in a pages file, one behind the other. Returns the number of bytes. */
uint64_t mem_runs_place(struct mem_run_vec *runs);

/* The number of bytes in all of them. */
uint64_t mem_runs_bytes(const struct mem_run_vec *runs);

/* Index of the first run that ends behind `address`; runs->n if there is none. Runs are ascending. */
size_t mem_runs_find(const struct mem_run_vec *runs, uint64_t address);

/* Does any run have a page in [start, end)? */
bool mem_runs_touch(const struct mem_run_vec *runs, uint64_t start, uint64_t end);

/* Index of the run that holds byte `offset` of the pages file. It must exist. */
size_t mem_runs_at_offset(const struct mem_run_vec *runs, uint64_t offset);

/* Bytes side by side in a pages file: `nr` runs from `first` on, of the first one what is behind `skip`. */
struct mem_piece {
        size_t first, nr;
        uint64_t skip, bytes;
        uint64_t offset; /* in the pages file */
};

/*
 * Cut off the longest piece of at most `max_nr` runs and `max_bytes` (both above 0) that begins *skip bytes into the run
 * *i, which exists, and move *i and *skip behind it.
 */
struct mem_piece mem_runs_cut(const struct mem_run_vec *runs, size_t *i, uint64_t *skip, size_t max_nr,
                              uint64_t max_bytes);

/* Where in memory the piece belongs: fills iov[0 .. piece->nr). */
void mem_piece_places(const struct mem_run_vec *runs, const struct mem_piece *piece, struct iovec *iov);

/*
 * Append to ret the parts of [start, end) that no run of `runs` covers; if `cow`, only those of
 * MEM_SORT_COW count.
 */
int mem_runs_gaps(const struct mem_run_vec *runs, bool cow, uint64_t start, uint64_t end,
                  struct mem_run_vec *ret);
