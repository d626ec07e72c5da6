/* SPDX-License-Identifier: GPL-2.0-only */
/* Address spaces: areas, and how many bytes of each are in the images. */
#include <errno.h>
#include <string.h>

#include "cleanup.h"
#include "images/memfd.pb-c.h"
#include "images/pagemap.pb-c.h"
#include "inspect/model.h"
#include "macro.h"

enum {
        VMA_STACK = 1,
        VMA_VSYSCALL,
        VMA_VDSO,
        VMA_HEAP = 5,
        VMA_PRIVATE_FILE,
        VMA_SHARED_FILE,
        VMA_SHARED_ANON,
        VMA_PRIVATE_ANON,
        VMA_SYSV,
        VMA_SOCKET,
        VMA_VVAR,
        VMA_AIO,
        VMA_MEMFD,
        VMA_SHADOW_STACK,
        VMA_GUARD,
        VMA_UPROBES,

        PAGES_PARENT = 1 << 0,
        PAGES_PRESENT = 1 << 2,
};

/* The first that applies: areas have several status bits, a vDSO is private and anonymous as well. */
static const struct {
        unsigned bit;
        enum area_kind kind;
} vma_kinds[] = {
        { VMA_GUARD, AREA_GUARD },
        { VMA_VSYSCALL, AREA_SPECIAL },
        { VMA_VDSO, AREA_SPECIAL },
        { VMA_VVAR, AREA_SPECIAL },
        { VMA_SOCKET, AREA_SPECIAL },
        { VMA_AIO, AREA_SPECIAL },
        { VMA_SHADOW_STACK, AREA_SPECIAL },
        { VMA_UPROBES, AREA_SPECIAL },
        { VMA_HEAP, AREA_HEAP },
        { VMA_STACK, AREA_STACK },
        { VMA_SYSV, AREA_SYSV },
        { VMA_MEMFD, AREA_MEMFD },
        { VMA_PRIVATE_ANON, AREA_PRIVATE_ANON },
        { VMA_PRIVATE_FILE, AREA_PRIVATE_FILE },
        { VMA_SHARED_ANON, AREA_SHARED_ANON },
        { VMA_SHARED_FILE, AREA_SHARED_FILE },
};

static const struct {
        const char *text, *name;
} kind_names[AREA_KIND_MAX] = {
        [AREA_HEAP] = { "heap", "heap" },
        [AREA_STACK] = { "stack", "stack" },
        [AREA_PRIVATE_ANON] = { "private anonymous", "private_anonymous" },
        [AREA_PRIVATE_FILE] = { "private, of files", "private_file" },
        [AREA_SHARED_ANON] = { "shared anonymous", "shared_anonymous" },
        [AREA_SHARED_FILE] = { "shared, of files", "shared_file" },
        [AREA_SYSV] = { "System V shared", "sysv_shared" },
        [AREA_MEMFD] = { "memfd", "memfd" },
        [AREA_SPECIAL] = { "special (vDSO ...)", "special" },
        [AREA_GUARD] = { "guard ranges", "guard" },
};

const char *area_kind_text(enum area_kind kind) {
        return kind_names[kind].text;
}

const char *area_kind_name(enum area_kind kind) {
        return kind_names[kind].name;
}

enum area_kind area_kind_of(const Img__Vma *vma) {
        for (size_t i = 0; i < ELEMENTSOF(vma_kinds); i++)
                if (vma->status & 1U << vma_kinds[i].bit)
                        return vma_kinds[i].kind;
        return AREA_SPECIAL;
}

/* Bytes of pages-N.img that are shared memory are no matter of one process. */
static bool is_shared_object(enum area_kind kind) {
        return kind == AREA_SHARED_ANON || kind == AREA_SYSV || kind == AREA_MEMFD;
}

/* --- areas ---------------------------------------------------------------------------------------------- */

DEFINE_VEC(vma_vec, Img__Vma *);

/* Older writers keep the areas in a file of their own. */
static int load_old_vmas(struct inspect *in, struct task *task) {
        _cleanup_(vma_vec_done) struct vma_vec vmas = { 0 };
        _cleanup_image_file_ struct image_file *file = NULL;
        int r;

        r = image_open_read(in->dir, IMAGE_VMAS, task->pid, IMAGE_OPTIONAL, &file, in->err);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        for (;;) {
                Img__Vma *vma;

                r = inspect_read(in, file, &img__vma__descriptor, &vma);
                if (r == 0)
                        break;
                if (r < 0)
                        return r;
                if (vma_vec_push(&vmas, vma) < 0)
                        return ckpt_error(in->err, -ENOMEM, "not enough memory to read the images");
        }
        task->mem.vmas = arena_copy(&in->arena, vmas.v, vmas.n * sizeof(*vmas.v));
        task->mem.n_vmas = vmas.n;
        return 0;
}

static int check_vmas(const struct inspect *in, const struct task *task) {
        const struct mem *mem = &task->mem;
        uint64_t end = 0;
        bool guards = false;

        for (size_t i = 0; i < mem->n_vmas; i++) {
                const Img__Vma *vma = mem->vmas[i];
                bool guard = area_kind_of(vma) == AREA_GUARD;
                const char *why = NULL;

                if (vma->start >= vma->end || ((vma->start | vma->end) & (PAGE_SIZE - 1)))
                        why = "is no range of pages";
                else if (guards && !guard)
                        why = "follows the guard ranges";
                else if (!guard && vma->start < end)
                        why = "overlaps the one before, or is not in order";
                if (why)
                        return ckpt_error(in->err, -EBADMSG,
                                          "mm-%u.img in %s is damaged: the area %llx-%llx %s", task->pid,
                                          in->path, (unsigned long long)vma->start,
                                          (unsigned long long)vma->end, why);
                guards = guard;
                if (!guard)
                        end = vma->end;
        }
        return 0;
}

/* --- pagemaps ------------------------------------------------------------------------------------------- */

/* One run; bytes. */
struct run {
        uint64_t start, end;
        bool present, parent;
};

/* 1: *ret, 0: no more. `end` is that of the run before. */
static int read_run(struct inspect *in, struct image_file *file, uint64_t end, struct run *ret) {
        _cleanup_image_message_ Img__Pagemap *entry = NULL;
        uint64_t pages;
        int r;

        r = image_read(file, &img__pagemap__descriptor, &entry, in->err);
        if (r <= 0)
                return r;
        pages = entry->has_nr_pages && entry->nr_pages ? entry->nr_pages : entry->compat_nr_pages;
        if (pages > UINT64_MAX / PAGE_SIZE || entry->vaddr % PAGE_SIZE != 0 ||
            entry->vaddr > UINT64_MAX - pages * PAGE_SIZE || entry->vaddr < end)
                return image_damaged(file, in->err,
                                     "the run of %llu pages at %llx is not in order or out of range",
                                     (unsigned long long)pages, (unsigned long long)entry->vaddr);
        *ret = (struct run){ .start = entry->vaddr, .end = entry->vaddr + pages * PAGE_SIZE };
        ret->parent = entry->has_flags ? (entry->flags & PAGES_PARENT) != 0 : entry->in_parent != 0;
        ret->present = entry->has_flags ? (entry->flags & PAGES_PRESENT) != 0 : !ret->parent;
        return 1;
}

static void add_saved(struct saved *saved, const struct run *run, uint64_t bytes) {
        if (run->present)
                saved->present += bytes;
        else if (run->parent)
                saved->parent += bytes;
}

/* Areas and runs are both in order: one pass over the two. */
static int read_pagemap(struct inspect *in, struct image_file *file, struct mem *mem) {
        struct run run = { 0 };
        size_t i = 0;
        int r;

        while ((r = read_run(in, file, run.end, &run)) > 0)
                for (size_t k = i; k < mem->n_vmas; k++) {
                        const Img__Vma *vma = mem->vmas[k];

                        if (area_kind_of(vma) == AREA_GUARD || vma->start >= run.end)
                                break;
                        if (vma->end <= run.start) {
                                i = k + 1;
                                continue;
                        }
                        add_saved(&mem->saved[k], &run, MIN(vma->end, run.end) - MAX(vma->start, run.start));
                }
        return r;
}

static int open_pagemap(struct inspect *in, enum image_kind kind, unsigned long id, uint32_t *ret_pages_id,
                        struct image_file **ret) {
        _cleanup_image_message_ Img__PagemapHead *head = NULL;
        _cleanup_image_file_ struct image_file *file = NULL;
        int r;

        r = image_open_read(in->dir, kind, id, IMAGE_OPTIONAL, &file, in->err);
        if (r < 0)
                return r;
        r = image_read_expected(file, &img__pagemap_head__descriptor, &head, in->err);
        if (r < 0)
                return r;
        *ret_pages_id = head->pages_id;
        *ret = TAKE_PTR(file);
        return 0;
}

static int load_pagemap(struct inspect *in, struct task *task) {
        _cleanup_image_file_ struct image_file *file = NULL;
        struct mem *mem = &task->mem;
        int r;

        r = open_pagemap(in, IMAGE_PAGEMAP, task->pid, &mem->pages_id, &file);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        mem->has_pagemap = true;
        return read_pagemap(in, file, mem);
}

static void sum_up(struct mem *mem) {
        for (size_t i = 0; i < mem->n_vmas; i++) {
                enum area_kind kind = area_kind_of(mem->vmas[i]);
                struct mem_sum *const to[] = { &mem->sum[kind], kind == AREA_GUARD ? NULL : &mem->total };

                for (size_t k = 0; k < ELEMENTSOF(to) && to[k]; k++) {
                        to[k]->areas++;
                        to[k]->mapped += mem->vmas[i]->end - mem->vmas[i]->start;
                        to[k]->saved.present += mem->saved[i].present;
                        to[k]->saved.parent += mem->saved[i].parent;
                }
        }
}

static int note_shmem(struct inspect *in, const struct task *task) {
        for (size_t i = 0; i < task->mem.n_vmas; i++) {
                const Img__Vma *vma = task->mem.vmas[i];
                struct shmem *shmem;

                if (!is_shared_object(area_kind_of(vma)) || area_kind_of(vma) == AREA_MEMFD)
                        continue;
                shmem = shmem_vec_add(&in->shmem);
                if (!shmem)
                        return ckpt_error(in->err, -ENOMEM, "not enough memory to read the images");
                shmem->id = vma->shmid;
                shmem->first_pid = task->pid;
                shmem->mappings = 1;
                if (vma->pgoff <= UINT64_MAX - (vma->end - vma->start))
                        shmem->mapped = vma->pgoff + (vma->end - vma->start);
        }
        return 0;
}

int inspect_load_mem(struct inspect *in, struct task *task) {
        struct mem *mem = &task->mem;
        int r;

        r = inspect_load_one(in, IMAGE_MM, task->pid, IMAGE_OPTIONAL, &img__mm__descriptor, &task->mm);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        mem->vmas = task->mm->vmas;
        mem->n_vmas = task->mm->n_vmas;
        if (mem->n_vmas == 0) {
                r = load_old_vmas(in, task);
                if (r < 0)
                        return r;
        }
        r = check_vmas(in, task);
        if (r < 0)
                return r;
        mem->saved = arena_new_array(&in->arena, struct saved, mem->n_vmas);
        r = load_pagemap(in, task);
        if (r < 0)
                return r;
        sum_up(mem);
        return note_shmem(in, task);
}

/* --- shared memory -------------------------------------------------------------------------------------- */

/* Stable where it matters: the first process that maps an object stays the first. */
static int compare_shmem(const void *a, const void *b) {
        const struct shmem *x = a, *y = b;

        if (x->id != y->id)
                return x->id < y->id ? -1 : 1;
        return (x->first_pid > y->first_pid) - (x->first_pid < y->first_pid);
}

/* The mappings that note_shmem() found, sorted by object, become one entry per object. */
static void merge_shmem(struct shmem_vec *vec) {
        size_t n = 0;

        qsort(vec->v, vec->n, sizeof(*vec->v), compare_shmem);
        for (size_t i = 0; i < vec->n; i++) {
                struct shmem *last = n > 0 ? &vec->v[n - 1] : NULL;

                if (!last || last->id != vec->v[i].id) {
                        vec->v[n++] = vec->v[i];
                        continue;
                }
                last->mapped = MAX(last->mapped, vec->v[i].mapped);
                last->mappings++;
        }
        vec->n = n;
}

/* A memfd is shared memory too, of which there may be no mapping. */
static int note_memfds(struct inspect *in) {
        _cleanup_image_file_ struct image_file *file = NULL;
        int r;

        r = image_open_read(in->dir, IMAGE_MEMFD_INODE, 0, IMAGE_OPTIONAL, &file, in->err);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        for (;;) {
                _cleanup_image_message_ Img__MemfdInode *inode = NULL;
                struct memfd_name *name;
                struct shmem *shmem;

                r = image_read(file, &img__memfd_inode__descriptor, &inode, in->err);
                if (r <= 0)
                        return r;
                shmem = shmem_vec_add(&in->shmem);
                name = memfd_name_vec_add(&in->memfds);
                if (!shmem || !name)
                        return ckpt_error(in->err, -ENOMEM, "not enough memory to read the images");
                shmem->id = inode->shmid;
                shmem->mapped = inode->size;
                *name = (struct memfd_name){ inode->inode_id, inode->size, inode->seals,
                                             arena_strdup(&in->arena, inode->name) };
        }
}

int inspect_load_shmem(struct inspect *in) {
        int r;

        r = note_memfds(in);
        if (r < 0)
                return r;
        if (in->shmem.n > 0)
                merge_shmem(&in->shmem);
        for (size_t i = 0; i < in->shmem.n; i++) {
                _cleanup_image_file_ struct image_file *file = NULL;
                struct shmem *shmem = &in->shmem.v[i];
                struct run run = { 0 };
                uint32_t pages_id;

                r = open_pagemap(in, IMAGE_SHMEM_PAGEMAP, shmem->id, &pages_id, &file);
                if (r == -ENOENT)
                        continue;
                while (r >= 0 && (r = read_run(in, file, run.end, &run)) > 0)
                        add_saved(&shmem->saved, &run, run.end - run.start);
                if (r < 0)
                        return r;
                shmem->has_pagemap = true;
        }
        return 0;
}
