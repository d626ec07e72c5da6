/* SPDX-License-Identifier: GPL-2.0-only */
/* What both halves know about areas: kinds, the bits of the format, advice. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "images/mm.pb-c.h"

/* Img__Vma.status */
enum {
        VMA_REGULAR = 1 << 0,
        VMA_STACK = 1 << 1, /* grows down */
        VMA_VSYSCALL = 1 << 2,
        VMA_VDSO = 1 << 3,
        VMA_HEAP = 1 << 5,
        VMA_FILE_PRIVATE = 1 << 6,
        VMA_FILE_SHARED = 1 << 7,
        VMA_ANON_SHARED = 1 << 8,
        VMA_ANON_PRIVATE = 1 << 9,
        VMA_SYSV_SHM = 1 << 10,
        VMA_SOCKET = 1 << 11,
        VMA_VVAR = 1 << 12,
        VMA_AIO_RING = 1 << 13,
        VMA_MEMFD = 1 << 14,
        VMA_SHADOW_STACK = 1 << 15,
        VMA_GUARD = 1 << 16,
        VMA_UPROBES = 1 << 17,
};

/* Img__Pagemap.flags */
enum {
        MEM_RUN_PARENT = 1 << 0,
        MEM_RUN_LAZY = 1 << 1,
        MEM_RUN_PRESENT = 1 << 2,
};

enum mem_kind {
        MEM_ANON,         /* private anonymous */
        MEM_FILE_PRIVATE, /* also a private mapping of /dev/zero */
        MEM_FILE_SHARED,
        MEM_SHMEM,  /* shared anonymous */
        MEM_SYSV,   /* a part of a System V segment */
        MEM_AIO,    /* the ring of an AIO context */
        MEM_SOCKET, /* the rings of a packet socket */
        MEM_VDSO,
        MEM_VVAR,
        MEM_KIND_MAX,
        MEM_KIND_INVALID = -1,
};

/* The bits of mmap(2) flags that ask for pages of hugetlbfs. */
static inline uint32_t mem_huge_flags(uint32_t flags) {
        return flags & MAP_HUGETLB ? flags & (MAP_HUGETLB | (uint32_t)MAP_HUGE_MASK << MAP_HUGE_SHIFT) : 0;
}

/* Bytes of those pages; 0: the flags do not say. */
static inline uint64_t mem_huge_page(uint32_t flags) {
        uint32_t shift = flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK;

        return shift > 0 ? 1ULL << shift : 0;
}

/*
 * Areas of the address space of x86-64 with four levels of page tables end here. With five, too, unless a program asks for
 * more (an address above it in mmap(2)); then MEM_END_HIGH is the end.
 */
#define MEM_END      0x7ffffffff000ULL
#define MEM_END_HIGH 0xfffffffffff000ULL

/* Does an area of this kind have pages of its own, which pagemap-PID.img describes? */
static inline bool mem_is_private(enum mem_kind kind) {
        return kind == MEM_ANON || kind == MEM_FILE_PRIVATE;
}

/* Is it a part of something that is attached as a whole? */
static inline bool mem_is_attached(enum mem_kind kind) {
        return kind == MEM_SYSV || kind == MEM_SOCKET;
}

/* State of an area that madvise(2) made, and how /proc/PID/smaps shows it. */
struct mem_advice {
        int value;    /* MADV_* */
        uint64_t vmf; /* PROC_VMF_* */
        bool late;    /* would get in the way of cloning the children */
        const char *what;
};

extern const struct mem_advice mem_advices[];
extern const size_t mem_nr_advices;

/* All bits that Img__Vma.madv may have. */
uint64_t mem_advice_mask(void);

/*
 * Would a task that starts with a copy of `parent` have, in the part where both overlap, an
 * area with the properties of `child`? Differences that are made up for after the fork do not count.
 */
bool mem_same_area(const Img__Vma *parent, const Img__Vma *child);

/* Was the System V segment attached with SHM_RDONLY? */
bool mem_sysv_read_only(const Img__Vma *v);
