/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/maps and /proc/PID/smaps: the memory areas of a process */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "proc/proc.h"

/* What an area is, as far as its line tells. */
enum proc_vma_kind {
        PROC_VMA_ANON,        /* no name, no file */
        PROC_VMA_FILE,        /* dev and inode of a file; also memfd, SysV and shared anonymous memory */
        PROC_VMA_HEAP,        /* [heap]: the brk area (one of them) */
        PROC_VMA_STACK,       /* [stack]: the main thread's */
        PROC_VMA_VDSO,        /* [vdso] */
        PROC_VMA_VVAR,        /* [vvar] */
        PROC_VMA_VVAR_VCLOCK, /* [vvar_vclock], 6.13+ */
        PROC_VMA_VSYSCALL,    /* [vsyscall]: not a real area; no pages, cannot be unmapped */
        PROC_VMA_ANON_NAMED,  /* [anon:NAME] and [anon_shmem:NAME] by PR_SET_VMA_ANON_NAME */
        PROC_VMA_SPECIAL,     /* any other name without a file: [uprobes], ... */
        PROC_VMA_KIND_MAX,
        PROC_VMA_KIND_INVALID = -1,
};

struct proc_vma {
        uint64_t start, end; /* page aligned, start < end */
        uint64_t pgoff;      /* bytes from the start of the file */
        uint64_t ino;        /* 0: no file */
        uint32_t dev_major, dev_minor;
        uint32_t prot; /* PROT_READ | PROT_WRITE | PROT_EXEC */
        bool shared;   /* MAP_SHARED (or a read-only mapping that is shared as a whole) */
        /*
         * A newline of the path was shown as \012, which looks the same as those four
         * characters in a file's name: read the link map_files/START-END to be sure.
         */
        bool name_ambiguous;
        /* The name ends in " (deleted)"; so can the name of a file that exists. It is kept. */
        bool name_deleted;
        enum proc_vma_kind kind;
        /*
         * In the text buffer, NUL-terminated, "" if there is none. Escapes are resolved.
         * Relative to the root directory of the reader, not of the task.
         */
        const char *name;
};

DEFINE_VEC(proc_vma_vec, struct proc_vma);

/*
 * Parse the text of a maps file. `text` is written to (names are ended and unescaped in
 * place) and must live as long as the names are used. *ret is replaced on success. Areas
 * are ascending and do not overlap. -EBADMSG: nonsense. -EAGAIN: well-formed, but areas
 * overlap, as the text of a running process can when areas merge while it is read.
 */
int proc_maps_parse(char *text, size_t len, struct proc_vma_vec *ret);

/*
 * Read and parse `maps`. Names point into buf. Tries again while the areas change under it;
 * -EAGAIN after ten attempts. Kernel: the text comes a page per read, so the areas of a
 * process that is not stopped are those of several moments.
 */
int proc_maps_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_vma_vec *ret);

/*
 * Read `maps` and call fn for each area as it comes; the area is valid during the call, and what it points to. Anything
 * but 0 that fn returns ends it and is returned; areas may overlap, if the process is not stopped. buf is for use.
 */
int proc_maps_each(const struct proc_dir *dir, struct proc_buf *buf,
                   int (*fn)(void *arg, const struct proc_vma *vma), void *arg);

/* The area that contains address, or NULL. */
const struct proc_vma *proc_vma_find(const struct proc_vma_vec *vec, uint64_t address);

/*
 * VmFlags of smaps, as bits: PROC_VMF_LO is "lo". The kernel's own bit numbers are not part
 * of its interface; these are ours.
 */
#define PROC_VMF_TABLE(X)                                                       \
        X(RD, "rd") /* readable */                                              \
        X(WR, "wr") /* writeable */                                             \
        X(EX, "ex") /* executable */                                            \
        X(SH, "sh") /* shared */                                                \
        X(MR, "mr") /* may be made readable */                                  \
        X(MW, "mw") /* may be made writeable */                                 \
        X(ME, "me") /* may be made executable */                                \
        X(MS, "ms") /* may be shared */                                         \
        X(GD, "gd") /* grows down: MAP_GROWSDOWN */                             \
        X(PF, "pf") /* pure PFN range: device memory */                         \
        X(DW, "dw") /* writes to the file are denied (before 5.15) */           \
        X(LO, "lo") /* locked: mlock */                                         \
        X(IO, "io") /* memory of a device */                                    \
        X(SR, "sr") /* MADV_SEQUENTIAL */                                       \
        X(RR, "rr") /* MADV_RANDOM */                                           \
        X(DC, "dc") /* MADV_DONTFORK */                                         \
        X(DE, "de") /* mremap may not expand it */                              \
        X(AC, "ac") /* accountable */                                           \
        X(NR, "nr") /* MAP_NORESERVE */                                         \
        X(HT, "ht") /* hugetlb */                                               \
        X(SF, "sf") /* MAP_SYNC */                                              \
        X(NL, "nl") /* non-linear (before 4.0) */                               \
        X(AR, "ar") /* architecture's own */                                    \
        X(WF, "wf") /* MADV_WIPEONFORK */                                       \
        X(DD, "dd") /* MADV_DONTDUMP */                                         \
        X(BT, "bt") /* arm64 BTI */                                             \
        X(SD, "sd") /* soft-dirty */                                            \
        X(MM, "mm") /* mixed map */                                             \
        X(HG, "hg") /* MADV_HUGEPAGE */                                         \
        X(NH, "nh") /* MADV_NOHUGEPAGE; MAP_STACK sets it too (6.7+) */         \
        X(MG, "mg") /* MADV_MERGEABLE */                                        \
        X(MT, "mt") /* arm64 MTE */                                             \
        X(UM, "um") /* userfaultfd: missing */                                  \
        X(UW, "uw") /* userfaultfd: write-protect */                            \
        X(UI, "ui") /* userfaultfd: minor */                                    \
        X(SS, "ss") /* shadow stack */                                          \
        X(SL, "sl") /* mseal */                                                 \
        X(LF, "lf") /* MLOCK_ONFAULT */                                         \
        X(DP, "dp") /* MAP_DROPPABLE */                                         \
        X(GU, "gu") /* may contain guard regions: MADV_GUARD_INSTALL (6.19+) */ \
        X(MP, "mp") /* MPX (before 5.6) */

enum proc_vmf_bit {
#define X(id, text) PROC_VMF_BIT_##id,
        PROC_VMF_TABLE(X)
#undef X
                PROC_VMF_BIT_MAX,
};
enum {
#define X(id, text) PROC_VMF_##id = 1ULL << PROC_VMF_BIT_##id,
        PROC_VMF_TABLE(X)
#undef X
        /* A flag that we have no name for: what it means for a checkpoint is unknown. */
        PROC_VMF_UNKNOWN = 1ULL << 63,
};

/* The two letters of a flag, for messages. */
const char *proc_vmf_name(enum proc_vmf_bit bit);

struct proc_smap {
        struct proc_vma vma;
        uint64_t flags;     /* PROC_VMF_* */
        uint64_t page_size; /* of the kernel, in bytes: larger than 4096 for hugetlb */
        uint32_t pkey;      /* memory protection key; 0 also where the CPU has none */
        /* Not from smaps (kernel/area_flags.h). */
        bool no_policy;     /* it is known that mbind(2) has given it no NUMA policy */
        bool has_home_node; /* it has a policy with a home node: */
        uint32_t home_node;
};

DEFINE_VEC(proc_smap_vec, struct proc_smap);

/* Parse the text of an smaps file; text, names and errors as for proc_maps_parse(). */
int proc_smaps_parse(char *text, size_t len, struct proc_smap_vec *ret);

/*
 * Read and parse `smaps`; with a pool, another thread may parse while the caller reads. buf gets the names
 * only. The kernel walks the page tables of every area for it: about
 * 9 ms for 1 GiB of 4 KiB pages (0.2 ms if huge) and 50 ms for 20,000 areas (Linux 6.18; maps
 * takes 7 ms for those), and PROCMAP_QUERY tells only r, w, x and shared. So read it before
 * the freeze, and compare with maps after it.
 */
struct pool;
int proc_smaps_read(const struct proc_dir *dir, struct pool *pool, struct proc_buf *buf,
                    struct proc_smap_vec *ret);
