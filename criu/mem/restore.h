/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the restore half share among themselves. */
#pragma once

#include "mem/mem.h"
#include "mem/runs.h"
#include "mem/vdso.h"
#include "mem/vma.h"

/* An area to be made. */
struct restore_area {
        uint64_t start, end;
        enum mem_kind kind;
        Img__Vma *msg; /* of t->mm */
        int fd;        /* what it maps, by its number in the tasks; -1: nothing */
        bool content;  /* runs begin, end or lie in it */
        bool patch;    /* its content comes from mem_tree.patch_fd at patch_offset instead */
        uint64_t patch_offset;
        uint32_t map_prot;             /* while it is being filled */
        uint64_t kept_start, kept_end; /* the part that the task was cloned with */
};
DEFINE_VEC(restore_area_vec, struct restore_area);

struct restore_object {
        uint64_t shmid, size;
        uint32_t huge; /* MAP_HUGETLB and the size of its pages, or 0 */
        bool noreserve;
        int fd; /* in the tasks */
};
DEFINE_VEC(restore_object_vec, struct restore_object);

struct restore_mapped {
        uint32_t id, flags;
        int fd; /* in the tasks */
};
DEFINE_VEC(restore_mapped_vec, struct restore_mapped);

/* What the tree has once; hangs off the root's memory. */
struct restore_mem_tree {
        struct restore_object_vec objects;
        struct restore_mapped_vec files;
        struct vdso_layout vdso;  /* of ckpt, that is of this kernel */
        int exe_fd;               /* the last executable that was looked at */
        bool exe_is_own;          /* it is that of ckpt */
        int images_fd;            /* the images directory, by its number in the tasks */
        int null_fd;              /* /dev/null, if there are AIO contexts */
        int pages_fd, uffd;       /* numbers that are free for the pages file and a userfaultfd of a task */
        int patch_file, patch_fd; /* code of other kernels' vDSOs: here, and by its number in the tasks */
        uint64_t patch_size;
};

struct restore_mem {
        struct restore_area_vec areas;
        struct mem_run_vec runs; /* in pages-ID.img */
        struct mem_run_vec guards;
        uint32_t pages_id;
        uint64_t pages_size;
        struct vdso_plan vdso;
        bool vdso_kept;                /* it is that which the task was cloned with */
        int exe_fd;                    /* in the tasks; -1: it is the one they have */
        struct restore_mem_tree *tree; /* of the root, else NULL */
};

struct restore_mem *restore_mem_of(struct restore_task *t);
struct restore_mem_tree *restore_mem_tree_of(struct restore *r);

/* ---- load.c ---- */

/* Read and check the runs of a pagemap file; offsets are set. *ret_size is the size of the pages file. */
int mem_load_runs(struct image_dir *dir, enum image_kind kind, unsigned long id, struct mem_run_vec *ret,
                  uint32_t *ret_pages_id, uint64_t *ret_size, struct ckpt_error *err);

/* ---- hole.c ---- */

/* Collect what is taken, then ask for a gap. All ranges page aligned. */
int mem_taken_by_task(const struct restore_task *t, struct mem_run_vec *ret);

/*
 * The middle of the largest gap between `taken` (in any order; sorted here), aligned to `align`, a power
 * of 2 of at least a page. -ENOSPC.
 */
int mem_find_gap(struct mem_run_vec *taken, uint64_t size, uint64_t align, uint64_t *ret);

/* ---- objects.c ---- */

int mem_prepare_objects(struct restore *r, struct ckpt_error *err);

/* Read the runs of pagemap-shmem-ID into shared memory of `size` bytes at `addr`. */
int mem_fill_shared(struct restore *r, unsigned long id, uint64_t size, char *addr, struct ckpt_error *err);

/* ---- sysv.c ---- */

/* Attach System V segments, and map packet sockets, where the areas are; all other areas are mapped already. */
int mem_add_attachments(struct restore_task *t, struct compel_batch *b);

/* ---- vdso_restore.c ---- */

/* How the task gets its vDSO; rewrites its areas if it brings the code of another kernel. */
int mem_prepare_vdso(struct restore_task *t, struct ckpt_error *err);

/* Map what the kernel provides. Everything that stood in the way is unmapped, nothing else is mapped yet. */
void mem_add_vdso(struct restore_task *t, struct compel_batch *b);

/* ---- keep.c ---- */

/* Decide which parts of the areas the task keeps from its clone. */
void mem_choose_kept(struct restore_task *t);

/* Unmap all the rest, and drop from what is kept the pages that the task does not share. */
int mem_add_unmapping(struct restore_task *t, struct compel_batch *b);

/* ---- prepare.c ---- */

/* An operation that reads [offset, offset + size) of the inherited file `fd` to `address`. */
void mem_add_read(struct compel_batch *b, const char *what, int fd, uint64_t address, uint64_t size,
                  uint64_t offset);

/* ---- map.c ---- */

/* Map every area, those to be filled writable. */
void mem_add_areas(struct restore_task *t, struct compel_batch *b);

/*
 * Are they neighbours that one mmap(2) makes? Until mem_add_properties() they are one area to the kernel; then mprotect(2)
 * and madvise(2) part them again. After mem_add_areas() has chosen their protections.
 */
bool mem_made_by_one(const struct restore_area *a, const struct restore_area *b);

/* Make the pages that will be filled writable where the area as a whole is not. */
void mem_add_widening(struct restore_task *t, struct compel_batch *b);

/* Once they are filled: protections, advice, names, guard ranges. */
void mem_add_properties(struct restore_task *t, struct compel_batch *b);

/* ---- fill.c ---- */

/* One call that reads `piece` of `runs`, at most IOV_MAX of them, from the inherited pages file `fd` into place. */
void mem_add_piece(struct compel_batch *b, int fd, const struct mem_run_vec *runs,
                   const struct mem_piece *piece);

/* Open the pages file as tree->pages_fd, read everything into place, close it. */
int mem_fill(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err);

/* ---- pieces.c ---- */

/*
 * Read `runs`, which are many bytes in writable places, by running the batch, while workers of the pool that have nothing
 * else to do write some of them into the task. tree->pages_fd is open in the task.
 */
int mem_fill_pieces(struct restore_task *t, struct compel_batch *b, const struct mem_run_vec *runs,
                    struct ckpt_error *err);

/* ---- huge.c ---- */

/*
 * Fill what can be filled with huge pages, by running the batch, and take it out of `runs` (what
 * is left is to be read the plain way). `areas` may be written to at this time.
 */
int mem_fill_huge(struct restore_task *t, struct compel_batch *b, struct mem_run_vec *runs,
                  struct ckpt_error *err);
