/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flags of memory areas without smaps. For smaps the kernel walks the page tables of every area (30 ms for 1 GiB of
 * small pages) and formats some 700 bytes for it (60 ms for 20,000 areas). A BPF iterator over the areas of a process
 * (iter/task_vma, Linux 5.12; for one process, 6.1) copies only the word vm_flags: 4 ms for 20,000 areas, nothing for pages.
 *
 * The bits of that word are the kernel's own and differ between kernels and architectures. So they are learnt each time from
 * areas of ckpt, which are looked at both ways: a bit that comes and goes with a name of smaps is that name. A word with a
 * bit that has not been seen is not translated, and the caller reads smaps instead.
 *
 * It also tells which areas have a NUMA policy of their own, and its home node, which nothing else tells: if it does so
 * for two areas of ckpt.
 */
#pragma once

#include <sys/types.h>

#include "proc/maps.h"

struct area_flags;
struct bpf;

/*
 * Load the program and learn the bits: 1 ms, and what bpf_load() takes. `bpf`: NULL if there is none. A negative errno,
 * without a message: the kernel has no such iterator, or BPF cannot be had.
 */
int area_flags_open(struct bpf *bpf, struct area_flags **ret);
void area_flags_free(struct area_flags **f);

/*
 * What proc_smaps_read() tells of the process `pid`, whose areas have just been read as `maps`; names are those of `maps`. A
 * negative errno: not this time, because the areas have changed since, or have flags that only smaps can name
 * (-ENODATA). Callable from any thread.
 */
int area_flags_read(const struct area_flags *f, pid_t pid, const struct proc_vma_vec *maps,
                    struct proc_smap_vec *ret);

/* ---- for the unit tests ---- */

/* What is known of some areas: the bits of the kernel and ours. */
struct area_sample {
        uint64_t raw, flags;
};

/* Bits of the kernel that stand for as many of ours, and come and go together. */
struct area_bits {
        uint64_t raw, flags;
};

struct area_code {
        struct area_bits groups[64];
        size_t n;
};

/* Learn from at most 512 samples. */
void area_code_learn(const struct area_sample *samples, size_t n, struct area_code *ret);

/* -ENODATA: the word has a bit that was not learnt, or part of a group. */
int area_code_translate(const struct area_code *code, uint64_t raw, uint64_t *ret);
