/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the dump half share among themselves. */
#pragma once

#include <pthread.h>

#include "kernel/area_flags.h"
#include "mem/mem.h"
#include "mem/policy.h"
#include "mem/runs.h"
#include "mem/vma.h"
#include "proc/pagemap.h"
#include "proc/syscall.h"

/* Set in the ids of objects, so that they are never those of System V segments. */
#define MEM_OBJECT_ID 0x80000000U

/* Shared memory that is no file anywhere, mapped by any number of tasks: anonymous, or a memfd. */
struct mem_object {
        uint32_t dev_major, dev_minor;
        uint64_t ino;
        uint32_t id; /* names pagemap-shmem-ID.img */
        uint32_t pages_id;
        uint64_t size;           /* bytes */
        struct dump_task *owner; /* a task that has it ... */
        const struct proc_dir
                *proc; /* ... where it is seen: the task's, or ckpt's own for what is in a queue ... */
        char link[48]; /* ... and what leads to it there: map_files/START-END, fd/7 */
};
DEFINE_VEC(mem_object_vec, struct mem_object);

/* A mapped file that is registered with fd/ already. */
struct mem_known_file {
        const struct proc_vma *vma;
        uint32_t flags, id;
};
DEFINE_VEC(mem_known_file_vec, struct mem_known_file);

/* A mapped file that nothing stands against, as the look stage has found out. */
struct mem_clear_file {
        uint64_t ino;
        uint32_t dev_major, dev_minor;
        char *name;
};
DEFINE_VEC(mem_clear_file_vec, struct mem_clear_file);

/* What the tree has once; hangs off the root's memory. */
struct mem_tree {
        pthread_mutex_t lock; /* of objects and files while tasks are collected */
        struct mem_object_vec objects;
        struct mem_known_file_vec files; /* sorted */
        struct mem_clear_file_vec clear; /* sorted */
        uint32_t last_pages_id;
        struct area_flags *area_flags; /* for large processes; NULL: not needed yet, or not to be had */
        bool area_flags_tried;
        uint64_t shm_dev; /* device of the kernel's own tmpfs: shared anonymous memory, memfds, System V */
};

/* An area, frozen. */
struct mem_area {
        struct proc_vma vma;
        uint64_t flags; /* PROC_VMF_* */
        enum mem_kind kind;
        bool in_pieces; /* others have given its parts NUMA policies of their own */
        Img__Vma *msg;  /* in the task's arena */
};
DEFINE_VEC(mem_area_vec, struct mem_area);

/* What only the task itself can be asked for. */
struct mem_answers {
        bool known;
        uint64_t brk;
        int mdwe;             /* PR_GET_MDWE; negative: not known to this kernel */
        uint32_t lock_future; /* MCL_* */
        const char *auxv; /* as PR_GET_AUXV gives it, in the task's arena; NULL: not known to this kernel */
        size_t auxv_size; /* bytes */
        uint64_t *contexts; /* addresses of AIO contexts that it can use; in the task's arena */
        size_t nr_contexts;
};

struct dump_mem {
        struct mem_answers answers;
        struct proc_buf maps_buf;
        struct proc_smap_vec smaps; /* read anew after the freeze, if need be */
        struct mem_area_vec areas;
        struct mem_run_vec runs; /* to be saved */
        struct mem_run_vec guards;
        struct mem_policies policies;
        Img__Mm *mm; /* in the task's arena */
        uint32_t pages_id;
        bool has_kin;          /* other processes may share its private pages */
        struct mem_tree *tree; /* of the root, else NULL */
};

/* The task's own structure, made at the first call. */
struct dump_mem *dump_mem_of(struct dump_task *t);
struct mem_tree *mem_tree_of(struct dump *d);

/* ---- look.c ---- */

/* Blockers among these areas. */
void mem_look_areas(struct dump_task *t, const struct proc_smap_vec *smaps, struct blockers *b);

/* ---- flags.c ---- */

/* Before the first mem_read_areas() of a look: what takes some time and will be needed. */
void mem_prepare_areas(struct dump *d);

/* The areas of the task with their flags, as proc_smaps_read() of `dir` reads them, but fast if it is large. */
int mem_read_areas(struct dump_task *t, const struct proc_dir *dir, struct proc_buf *buf,
                   struct proc_smap_vec *ret);

/*
 * The areas of a frozen task with their flags: *ret has as many elements as /proc/PID/maps lines. It points
 * into t->smaps or, when the task may have changed its areas since the look, into t->mem->smaps.
 */
int mem_current_areas(struct dump_task *t, const struct proc_smap_vec **ret, struct ckpt_error *err);

/* Frozen: the areas as they are, with the home nodes of their NUMA policies; names are not to be used. A negative errno: not known. */
int mem_read_homes(struct dump_task *t, struct proc_smap_vec *ret);

/* Is it likely that these are still t->smaps, and sure that those which are there still have the same flags? */
bool mem_areas_stand(const struct dump_task *t);

/* ---- files.c ---- */

/* Number of a mapped file in files.img, registering it at the first call. */
int mem_file_id(struct dump_task *t, const struct proc_vma *vma, uint32_t flags, uint32_t *ret,
                struct ckpt_error *err);

/*
 * Before the freeze: the processes of a tree map the same files. Has one been looked at under the name that maps shows,
 * and nothing stood against it? To be looked at again when it is registered.
 */
bool mem_file_is_clear(struct mem_tree *tree, const struct proc_vma *vma);
void mem_file_note_clear(struct mem_tree *tree, const struct proc_vma *vma);
void mem_clear_files_done(struct mem_clear_file_vec *files);

/* "map_files/START-END" */
void mem_map_files_link(const struct proc_vma *vma, char ret[48]);

/* ---- collect.c ---- */

/* Of an area that is no part of the kernel's ([vsyscall]). */
enum mem_kind mem_kind_of(struct dump_task *t, const struct proc_smap *smap);

/* ---- pages.c ---- */

/*
 * The search for the pages to be saved. Another thread may do it while it is still being found out whether the areas are
 * those of the look stage.
 */
struct mem_search {
        struct dump_task *t;
        const struct proc_smap_vec *smaps; /* what it goes by */
        struct mem_search_part *parts;     /* of the address space, ascending */
        size_t nr_parts;
        struct pool_offer offer;
};
void mem_search_done(struct mem_search *s);

/* Offer it to other threads, by the areas of t->smaps, if there are many and they are likely to be true. */
void mem_search_ahead(struct dump_task *t, struct mem_search *ret);

/* Which pages to save: t->mem->runs and ->guards, now that t->mem->areas are known, which were made of `smaps`. */
int mem_collect_pages(struct dump_task *t, const struct proc_smap_vec *smaps, struct mem_search *ahead,
                      struct ckpt_error *err);

/* ---- cow.c ---- */

/* Find out who could share memory with anybody (has_kin), after all tasks are collected. */
void mem_find_kin(struct dump *d);

/* Mark the runs of `t` that have other owners, its parent among them. */
int mem_mark_cow(struct dump_task *t, struct ckpt_error *err);

/*
 * The arithmetic of it: split [start, end) where words of child and parent begin or cease to show the
 * same page frame (without parent: where pages have several owners), and append it to ret. `child` and
 * `parent` are n words of pagemap, for the pages from start on.
 */
int mem_split_cow(uint64_t start, const uint64_t *child, const uint64_t *parent, size_t n,
                  struct mem_run_vec *ret);

/* ---- shmem.c ---- */

/* The object that this area maps, registered at the first call. */
int mem_object_of(struct dump_task *t, const struct proc_vma *vma, uint32_t *ret_id, uint64_t *ret_size,
                  struct ckpt_error *err);

/* The allocated parts of such a file. */
int mem_data_runs(int fd, uint64_t size, struct mem_run_vec *ret);

/* ---- sysv.c ---- */

/* Does this area map a System V segment? Its inode is the segment's id. */
bool mem_is_sysv(struct dump *d, const struct proc_vma *vma);

/* ---- store.c ---- */

/* Where the bytes of a pages file come from: the memory of a task, or a file. */
struct mem_source {
        struct dump_task *task; /* NULL: fd, or ... */
        const char *memory;     /* ... of ckpt; NULL: fd */
        int fd;
        uint64_t file_size; /* behind it, the file reads as zeroes */
        const char *name;   /* for messages: "pid 812 (redis)" */
        const char *tail;   /* ... or as this, at most a page, which only mappings show; NULL */
};

/*
 * Write pages-ID.img, and the pagemap file that describes it. Uses other workers of the pool when it is
 * much.
 */
int mem_store(struct dump *d, const struct mem_source *source, enum image_kind pagemap_kind,
              unsigned long pagemap_id, uint32_t pages_id, struct mem_run_vec *runs, struct ckpt_error *err);
