/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The vDSO: code that the kernel maps into every process, with its data (vvar) right before it. What is
 * in it differs between kernels. It is an ELF image, and one from a checkpoint is input like any other.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vec.h"

struct vdso_symbol {
        const char *name; /* in the image */
        uint64_t value;   /* offset in the image */
        uint64_t size;
};
DEFINE_VEC(vdso_symbol_vec, struct vdso_symbol);

struct vdso_elf {
        uint64_t size; /* bytes of the ELF image; what follows in its last page is nothing of its */
        struct vdso_symbol_vec functions;
};

/*
 * Find size and functions. Every offset is checked against `size`, which is that of the mapping.
 * -EBADMSG: no vDSO. Free with vdso_elf_done().
 */
int vdso_parse(const uint8_t *data, size_t size, struct vdso_elf *ret);
void vdso_elf_done(struct vdso_elf *elf);

const struct vdso_symbol *vdso_find(const struct vdso_elf *elf, const char *name);

/* Offset of a system call instruction in the code, 0 if there is none. */
uint64_t vdso_find_syscall(const uint8_t *data, size_t size);

/*
 * Redirect every function of the vDSO in data[0..size) to the one of the same name in `target`, whose
 * image is at address `base` (target NULL: this kernel has no vDSO). Functions that it
 * does not have become system calls. `elf` must have been parsed from another copy: its names are read here.
 * -ENOTSUP: a function is too short to be redirected; *ret_name.
 */
int vdso_redirect(uint8_t *data, const struct vdso_elf *elf, const struct vdso_elf *target, uint64_t base,
                  const char **ret_name);

/* How this kernel maps it. All addresses are those in ckpt. */
struct vdso_layout {
        uint64_t vvar, vdso, end; /* vvar <= vdso; end 0: there is none */
        const uint8_t *code;      /* ckpt's own, for reading */
        struct vdso_elf elf;
};

/* Of the calling process, from /proc/self/maps. */
int vdso_own_layout(struct vdso_layout *ret);
void vdso_layout_done(struct vdso_layout *layout);

static inline uint64_t vdso_layout_size(const struct vdso_layout *l) {
        return l->end - l->vvar;
}

/* What a restored task gets. */
struct vdso_plan {
        uint64_t start, size; /* everything below lies here; size 0: it has no vDSO */
        bool map;             /* ARCH_MAP_VDSO_64 ... */
        uint64_t at;          /* ... here: the address of vvar */
        uint64_t copy_vvar;   /* where unchanged code for threads that are in the middle of it goes, ... */
        uint64_t copy, copy_size; /* ... behind its empty data; copy_size 0: nowhere */
        uint64_t copy_offset;     /* in restore_mem_tree.patch_fd */
};
