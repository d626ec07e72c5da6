/* SPDX-License-Identifier: GPL-2.0-only */
/* mm, pagemap and the size of pages files, checked as what they are: input. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cleanup.h"
#include "images/pagemap.pb-c.h"
#include "macro.h"
#include "mem/aio.h"
#include "mem/hugetlb.h"
#include "mem/restore.h"

#define PROT_MASK (uint32_t)(PROT_READ | PROT_WRITE | PROT_EXEC)
#define FLAGS_MASK                                                                                         \
        (uint32_t)(MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_DENYWRITE |  \
                   MAP_EXECUTABLE | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | \
                   MAP_HUGETLB | (uint32_t)MAP_HUGE_MASK << MAP_HUGE_SHIFT)
#define VDSO_MAX   (64ULL << 10)
#define VVAR_MAX   (1ULL << 20)
#define OBJECT_MAX (1ULL << 46)

struct restore_mem *restore_mem_of(struct restore_task *t) {
        if (!t->mem) {
                t->mem = calloc(1, sizeof(*t->mem));
                ckpt_assert(t->mem);
        }
        return t->mem;
}

struct restore_mem_tree *restore_mem_tree_of(struct restore *r) {
        struct restore_mem *mem = restore_mem_of(r->tasks[0]);

        if (!mem->tree) {
                mem->tree = calloc(1, sizeof(*mem->tree));
                ckpt_assert(mem->tree);
                mem->tree->exe_fd = mem->tree->images_fd = mem->tree->pages_fd = mem->tree->patch_file =
                        mem->tree->patch_fd = -EBADF;
        }
        return mem->tree;
}

void mem_restore_free(struct restore_mem **mem) {
        struct restore_mem *m = *mem;

        if (!m)
                return;
        restore_area_vec_done(&m->areas);
        mem_run_vec_done(&m->runs);
        mem_run_vec_done(&m->guards);
        if (m->tree) {
                restore_object_vec_done(&m->tree->objects);
                restore_mapped_vec_done(&m->tree->files);
                vdso_layout_done(&m->tree->vdso);
                m->tree->patch_file = safe_close(m->tree->patch_file);
                free(m->tree);
        }
        free(m);
        *mem = NULL;
}

/* ---- runs ---- */

static int damaged_run(const struct image_file *file, const Img__Pagemap *e, const char *why,
                       struct ckpt_error *err) {
        return image_damaged(file, err, "the run of pages at %#llx %s", (unsigned long long)e->vaddr, why);
}

static uint64_t pages_of(const Img__Pagemap *e) {
        return e->has_nr_pages ? e->nr_pages : e->compat_nr_pages;
}

/* 1: its bytes are in the pages file. 0: it says nothing. */
static int judge_run(const struct image_file *file, const Img__Pagemap *e, uint64_t last_end,
                     struct ckpt_error *err) {
        uint64_t pages = pages_of(e), bytes, end;
        uint32_t flags = e->has_flags                       ? e->flags
                         : e->has_in_parent && e->in_parent ? MEM_RUN_PARENT
                                                            : MEM_RUN_PRESENT;

        if (pages == 0 || e->vaddr % PAGE_SIZE != 0 || __builtin_mul_overflow(pages, PAGE_SIZE, &bytes) ||
            __builtin_add_overflow(e->vaddr, bytes, &end) || end > MEM_END_HIGH)
                return damaged_run(file, e, "is impossible", err);
        if (e->vaddr < last_end)
                return damaged_run(file, e, "is out of order or overlaps the one before", err);
        if (flags & MEM_RUN_PARENT)
                return ckpt_error(
                        err, -ENOTSUP,
                        "these images are incremental: they need those of an earlier pre-dump, which is not "
                        "supported yet; nothing was created");
        return flags & MEM_RUN_PRESENT ? 1 : 0;
}

static int read_runs(struct image_file *file, struct mem_run_vec *runs, struct ckpt_error *err) {
        uint64_t last_end = 0, offset = 0;
        int r;

        for (;;) {
                _cleanup_image_message_ Img__Pagemap *e = NULL;
                struct mem_run run;

                r = image_read(file, &img__pagemap__descriptor, &e, err);
                if (r <= 0)
                        return r;
                r = judge_run(file, e, last_end, err);
                if (r < 0)
                        return r;
                run = (struct mem_run){ e->vaddr, e->vaddr + pages_of(e) * PAGE_SIZE, offset,
                                        e->has_cow_parent && e->cow_parent ? MEM_SORT_COW : 0 };
                last_end = run.end;
                if (r == 0)
                        continue;
                offset += run.end - run.start;
                if (mem_run_vec_push(runs, run) < 0)
                        return ckpt_error(err, -ENOMEM, "not enough memory");
        }
}

int mem_load_runs(struct image_dir *dir, enum image_kind kind, unsigned long id, struct mem_run_vec *ret,
                  uint32_t *ret_pages_id, uint64_t *ret_size, struct ckpt_error *err) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec runs = { 0 };
        _cleanup_image_message_ Img__PagemapHead *head = NULL;
        _cleanup_image_file_ struct image_file *file = NULL;
        uint64_t size, wanted = 0;
        int r;

        r = image_open_read(dir, kind, id, IMAGE_OPTIONAL, &file, err);
        if (r == -ENOENT) {
                *ret_pages_id = 0;
                *ret_size = 0;
                return 0;
        }
        if (r == 0)
                r = image_read_expected(file, &img__pagemap_head__descriptor, &head, err);
        if (r == 0)
                r = read_runs(file, &runs, err);
        if (r == 0)
                r = image_pages_size(dir, head->pages_id, &size, err);
        if (r < 0)
                return r;
        if (runs.n > 0)
                wanted = runs.v[runs.n - 1].offset + runs.v[runs.n - 1].end - runs.v[runs.n - 1].start;
        if (size != wanted)
                return image_damaged(file, err, "it describes %llu bytes of pages, pages-%u.img has %llu",
                                     (unsigned long long)wanted, head->pages_id, (unsigned long long)size);
        *ret_pages_id = head->pages_id;
        *ret_size = size;
        *ret = runs;
        runs = (struct mem_run_vec){ 0 };
        return 0;
}

/* ---- areas ---- */

static int damaged_area(const struct restore_task *t, const Img__Vma *v, const char *why,
                        struct ckpt_error *err) {
        return ckpt_error(err, -EBADMSG, "mm-%d.img is damaged: the area at %#llx %s", t->pid,
                          (unsigned long long)v->start, why);
}

static const struct {
        uint32_t status;
        const char *what;
} unsupported[] = {
        { VMA_SHADOW_STACK, "a shadow stack" },
        { VMA_UPROBES, "the kernel's page for uprobes" },
};

static enum mem_kind kind_of(const Img__Vma *v) {
        if (v->status & VMA_VDSO)
                return MEM_VDSO;
        if (v->status & VMA_VVAR)
                return MEM_VVAR;
        if (v->status & VMA_SYSV_SHM)
                return MEM_SYSV;
        if (v->status & VMA_AIO_RING)
                return MEM_AIO;
        if (v->status & VMA_SOCKET)
                return MEM_SOCKET;
        switch (v->status & (VMA_FILE_PRIVATE | VMA_FILE_SHARED | VMA_ANON_SHARED | VMA_ANON_PRIVATE)) {
        case VMA_FILE_PRIVATE:
                return MEM_FILE_PRIVATE;
        case VMA_FILE_SHARED:
                return MEM_FILE_SHARED;
        case VMA_ANON_SHARED:
                return MEM_SHMEM;
        case VMA_ANON_PRIVATE:
                return MEM_ANON;
        default:
                return MEM_KIND_INVALID;
        }
}

static bool is_range(const Img__Vma *v) {
        return (v->start | v->end) % PAGE_SIZE == 0 && v->start < v->end && v->end <= MEM_END_HIGH;
}

/* Does this machine have five levels of page tables? */
static bool has_high_memory(void) {
        void *at = (void *)(uintptr_t)(MEM_END_HIGH - PAGE_SIZE);

        if (mmap(at, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at)
                return errno == EEXIST; /* another thread asks just now */
        munmap(at, PAGE_SIZE);
        return true;
}

static int check_height(const struct restore_task *t, const Img__Vma *v, struct ckpt_error *err) {
        if (v->end <= MEM_END || has_high_memory())
                return 0;
        ckpt_error(err, -ENOTSUP,
                   "pid %d has memory at %#llx, which only machines with five levels of page tables have; "
                   "nothing was created",
                   t->pid, (unsigned long long)v->start);
        return ckpt_error_hint(err, "Restore it on a machine that has la57 in /proc/cpuinfo");
}

static int check_kind(const struct restore_task *t, const Img__Vma *v, enum mem_kind kind,
                      struct ckpt_error *err) {
        uint64_t size = v->end - v->start, end;
        bool shared = kind == MEM_FILE_SHARED || kind == MEM_SHMEM || mem_is_attached(kind);

        if (kind == MEM_KIND_INVALID)
                return damaged_area(t, v, "is of no known kind", err);
        if (kind != MEM_AIO &&
            (v->flags & (MAP_SHARED | MAP_PRIVATE)) != (uint32_t)(shared ? MAP_SHARED : MAP_PRIVATE))
                return damaged_area(t, v, "is said to be private and shared", err);
        if ((kind == MEM_VDSO && size > VDSO_MAX) || (kind == MEM_VVAR && size > VVAR_MAX))
                return damaged_area(t, v, "is too large for a vDSO", err);
        if (v->pgoff % PAGE_SIZE != 0 || __builtin_add_overflow(v->pgoff, size, &end) || end > INT64_MAX)
                return damaged_area(t, v, "begins at an impossible place of its file", err);
        if (kind == MEM_SHMEM &&
            (end > OBJECT_MAX ||
             (v->has_shmem_size && (v->shmem_size % PAGE_SIZE != 0 || v->shmem_size > OBJECT_MAX))))
                return damaged_area(t, v, "is of an impossible shared object", err);
        if ((kind == MEM_FILE_PRIVATE || kind == MEM_FILE_SHARED) && (v->fd < 0 || v->fd > UINT32_MAX))
                return damaged_area(t, v, "maps no file", err);
        if (kind == MEM_SYSV && (v->prot & PROT_WRITE) && mem_sysv_read_only(v))
                return damaged_area(t, v, "is attached for reading and may be written to", err);
        if (kind == MEM_AIO && (v->prot != (PROT_READ | PROT_WRITE) || v->flags & MAP_HUGETLB))
                return damaged_area(t, v, "cannot be the ring of an AIO context", err);
        if ((v->flags & MAP_GROWSDOWN) && kind != MEM_ANON)
                return damaged_area(t, v, "cannot grow down", err);
        return 0;
}

static int check_area(const struct restore_task *t, const Img__Vma *v, uint64_t last_end,
                      struct ckpt_error *err) {
        int r;

        if (!is_range(v))
                return damaged_area(t, v, "has impossible limits", err);
        if (v->start < last_end)
                return damaged_area(t, v, "is out of order or overlaps the one before", err);
        for (size_t i = 0; i < ELEMENTSOF(unsupported); i++)
                if (v->status & unsupported[i].status)
                        return ckpt_error(
                                err, -ENOTSUP,
                                "pid %d maps %s at %#llx, which cannot be restored yet; nothing was created",
                                t->pid, unsupported[i].what, (unsigned long long)v->start);
        if (v->prot & ~PROT_MASK)
                return damaged_area(t, v, "has an unknown protection", err);
        if (v->flags & ~FLAGS_MASK)
                return damaged_area(t, v, "has unknown flags", err);
        if (v->has_madv && (v->madv & ~mem_advice_mask()))
                return damaged_area(t, v, "has unknown advice", err);
        r = check_height(t, v, err);
        if (r < 0)
                return r;
        r = hugetlb_check_area(t, v, err);
        if (r == -EBADMSG)
                return damaged_area(t, v, "has impossible huge pages", err);
        if (r == 0)
                r = mem_check_policy(t, v, err);
        return r < 0 ? r : check_kind(t, v, kind_of(v), err);
}

static int add_guard(struct restore_task *t, const Img__Vma *v, struct ckpt_error *err) {
        struct mem_run_vec *guards = &t->mem->guards;

        if (!is_range(v) || (guards->n > 0 && v->start < guards->v[guards->n - 1].end))
                return damaged_area(t, v, "is an impossible guard range", err);
        if (mem_runs_add(guards, v->start, v->end, 0) < 0)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        return 0;
}

static int load_areas(struct restore_task *t, struct ckpt_error *err) {
        struct restore_area_vec *areas = &t->mem->areas;
        uint64_t last_end = 0;
        int r;

        for (size_t i = 0; i < t->mm->n_vmas; i++) {
                Img__Vma *v = t->mm->vmas[i];
                struct restore_area *area;

                if (v->status & VMA_VSYSCALL)
                        continue; /* every process has it */
                if (v->status & VMA_GUARD) {
                        r = add_guard(t, v, err);
                        if (r < 0)
                                return r;
                        continue;
                }
                r = check_area(t, v, last_end, err);
                if (r < 0)
                        return r;
                last_end = v->end;
                area = restore_area_vec_add(areas);
                if (!area)
                        return ckpt_error(err, -ENOMEM, "not enough memory");
                *area = (struct restore_area){
                        .start = v->start, .end = v->end, .kind = kind_of(v), .msg = v, .fd = -1
                };
        }
        return 0;
}

/* [start, end) lies in areas without a gap; `content`: they are private, and have some. */
static bool cover(struct restore_area_vec *areas, size_t *cursor, uint64_t start, uint64_t end,
                  bool content) {
        while (*cursor < areas->n && areas->v[*cursor].end <= start)
                (*cursor)++;
        for (size_t i = *cursor; start < end; i++) {
                struct restore_area *area = i < areas->n ? &areas->v[i] : NULL;

                if (!area || area->start > start)
                        return false;
                if (content && !mem_is_private(area->kind) && area->kind != MEM_VDSO &&
                    area->kind != MEM_AIO)
                        return false;
                if (content)
                        area->content = true;
                start = area->end;
        }
        return true;
}

static int check_runs(struct restore_task *t, struct ckpt_error *err) {
        struct restore_mem *mem = t->mem;
        size_t cursor = 0;

        for (size_t i = 0; i < mem->runs.n; i++)
                if (!cover(&mem->areas, &cursor, mem->runs.v[i].start, mem->runs.v[i].end, true))
                        return ckpt_error(
                                err, -EBADMSG,
                                "pagemap-%d.img is damaged: its pages at %#llx are not in private memory of mm-%d.img",
                                t->pid, (unsigned long long)mem->runs.v[i].start, t->pid);
        cursor = 0;
        for (size_t i = 0; i < mem->guards.n; i++)
                if (!cover(&mem->areas, &cursor, mem->guards.v[i].start, mem->guards.v[i].end, false))
                        return ckpt_error(
                                err, -EBADMSG,
                                "mm-%d.img is damaged: the guard range at %#llx is outside of all areas",
                                t->pid, (unsigned long long)mem->guards.v[i].start);
        if (mem->guards.n > 0 && !kernel_has(&t->restore->kernel, KERNEL_GUARD_REGIONS))
                return ckpt_error(
                        err, -ENOTSUP,
                        "%s has guard regions (MADV_GUARD_INSTALL), which this kernel does not know; "
                        "nothing was created",
                        restore_task_name(t));
        return 0;
}

/* Older writers keep the areas in a file of their own. */
static int load_old_areas(struct restore_task *t, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        Img__Mm *mm = t->mm;
        int r;

        r = image_open_read(t->restore->dir, IMAGE_VMAS, (unsigned long)t->pid, IMAGE_OPTIONAL, &file, err);
        if (r == -ENOENT)
                return 0;
        while (r >= 0) {
                Img__Vma **vmas, *v = NULL;

                r = image_read(file, &img__vma__descriptor, &v, err);
                if (r <= 0)
                        break;
                vmas = reallocarray(mm->vmas, mm->n_vmas + 1, sizeof(*vmas));
                ckpt_assert(vmas);
                mm->vmas = vmas;
                mm->vmas[mm->n_vmas++] = v;
        }
        return r;
}

static int check_mm(const struct restore_task *t, struct ckpt_error *err) {
        const Img__Mm *mm = t->mm;

        if (mm->n_mm_saved_auxv % 2 != 0 || mm->n_mm_saved_auxv > 512)
                return ckpt_error(err, -EBADMSG, "mm-%d.img is damaged: its auxiliary vector is impossible",
                                  t->pid);
        if (mm->has_lock_future && (mm->lock_future & ~(uint32_t)(MCL_FUTURE | MCL_ONFAULT)))
                return ckpt_error(err, -EBADMSG,
                                  "mm-%d.img is damaged: it has an unknown way of locking memory", t->pid);
        return 0;
}

int mem_load(struct restore_task *t, struct ckpt_error *err) {
        struct restore_mem *mem = restore_mem_of(t);
        int r;

        r = image_load(t->restore->dir, IMAGE_MM, (unsigned long)t->pid, 0, &img__mm__descriptor, &t->mm,
                       err);
        if (r == 0 && t->mm->n_vmas == 0)
                r = load_old_areas(t, err);
        if (r == 0)
                r = check_mm(t, err);
        if (r == 0)
                r = load_areas(t, err);
        if (r == 0)
                r = mem_load_runs(t->restore->dir, IMAGE_PAGEMAP, (unsigned long)t->pid, &mem->runs,
                                  &mem->pages_id, &mem->pages_size, err);
        if (r == 0)
                r = check_runs(t, err);
        if (r == 0)
                r = aio_load(t, err);
        if (r == 0)
                progress_add_total(&t->restore->run->progress, mem->pages_size);
        return r;
}
