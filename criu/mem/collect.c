/* SPDX-License-Identifier: GPL-2.0-only */
/* The address space of a frozen task, as messages. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "fd/fd.h"
#include "macro.h"
#include "mem/aio.h"
#include "mem/dump.h"
#include "mem/hugetlb.h"
#include "proc/auxv.h"

static bool is_memfd(const struct proc_vma *vma) {
        return vma->ino != 0 && strncmp(vma->name, "/memfd:", 7) == 0;
}

/* Names are enough here: look.c has seen where they lead. */
enum mem_kind mem_kind_of(struct dump_task *t, const struct proc_smap *smap) {
        const struct proc_vma *vma = &smap->vma;

        if (vma->kind == PROC_VMA_VDSO)
                return MEM_VDSO;
        if (vma->kind == PROC_VMA_VVAR || vma->kind == PROC_VMA_VVAR_VCLOCK)
                return MEM_VVAR;
        if (vma->ino == 0 && vma->dev_major == 0 && vma->dev_minor == 0)
                return MEM_ANON;
        if (vma->shared && mem_is_socket(vma, NULL))
                return MEM_SOCKET;
        if (vma->shared && mem_is_sysv(t->dump, vma))
                return MEM_SYSV;
        if (aio_is_ring(vma))
                return MEM_AIO;
        if (hugetlb_is_anonymous(smap))
                return vma->shared ? MEM_SHMEM : MEM_ANON;
        if (vma->shared && !is_memfd(vma) &&
            makedev(vma->dev_major, vma->dev_minor) == mem_tree_of(t->dump)->shm_dev)
                return MEM_SHMEM;
        return vma->shared ? MEM_FILE_SHARED : MEM_FILE_PRIVATE;
}

static const struct {
        uint32_t status, flags;
} kind_rows[MEM_KIND_MAX] = {
        [MEM_ANON] = { VMA_ANON_PRIVATE, MAP_PRIVATE | MAP_ANONYMOUS },
        [MEM_FILE_PRIVATE] = { VMA_FILE_PRIVATE, MAP_PRIVATE },
        [MEM_FILE_SHARED] = { VMA_FILE_SHARED, MAP_SHARED },
        [MEM_AIO] = { VMA_AIO_RING | VMA_ANON_PRIVATE, MAP_SHARED | MAP_ANONYMOUS },
        [MEM_SOCKET] = { VMA_SOCKET, MAP_SHARED },
        [MEM_SHMEM] = { VMA_ANON_SHARED, MAP_SHARED | MAP_ANONYMOUS },
        [MEM_SYSV] = { VMA_SYSV_SHM | VMA_ANON_SHARED, MAP_SHARED | MAP_ANONYMOUS },
        [MEM_VDSO] = { VMA_VDSO | VMA_ANON_PRIVATE, MAP_PRIVATE | MAP_ANONYMOUS },
        [MEM_VVAR] = { VMA_VVAR | VMA_ANON_PRIVATE, MAP_PRIVATE | MAP_ANONYMOUS },
};

static void add_flags(const struct mem_area *area, Img__Vma *msg) {
        if (area->vma.kind == PROC_VMA_HEAP)
                msg->status |= VMA_HEAP;
        if (area->flags & PROC_VMF_GD) {
                msg->status |= VMA_STACK;
                msg->flags |= MAP_GROWSDOWN;
        }
        if (area->flags & PROC_VMF_NR)
                msg->flags |= MAP_NORESERVE;
        if (area->flags & PROC_VMF_LO) {
                msg->flags |= MAP_LOCKED;
                msg->has_lock_onfault = msg->lock_onfault = (area->flags & PROC_VMF_LF) != 0;
        }
        for (size_t i = 0; i < mem_nr_advices; i++)
                if (area->flags & mem_advices[i].vmf)
                        msg->madv |= 1ULL << mem_advices[i].value;
        msg->has_madv = msg->madv != 0;
}

static int add_file(struct dump_task *t, const struct proc_vma *vma, const struct mem_area *area,
                    Img__Vma *msg, struct ckpt_error *err) {
        uint32_t flags = O_RDONLY, id;
        int r;

        if (area->kind == MEM_FILE_SHARED && (area->flags & (PROC_VMF_MW | PROC_VMF_SH)))
                flags = O_RDWR;
        r = mem_file_id(t, vma, flags, &id, err);
        if (r < 0)
                return r;
        msg->fd = id;
        msg->shmid = id;
        msg->has_fdflags = true;
        msg->fdflags = flags;
        return 0;
}

static int add_shmem(struct dump_task *t, const struct proc_vma *vma, Img__Vma *msg,
                     struct ckpt_error *err) {
        uint64_t size;
        uint32_t id;
        int r;

        r = mem_object_of(t, vma, &id, &size, err);
        if (r < 0)
                return r;
        msg->shmid = id;
        msg->has_shmem_size = true;
        msg->shmem_size = size;
        return 0;
}

static void add_sysv(const struct mem_area *area, Img__Vma *msg) {
        msg->shmid = area->vma.ino;
        msg->has_fdflags = true;
        msg->fdflags = area->flags & PROC_VMF_MW ? O_RDWR : O_RDONLY; /* SHM_RDONLY */
}

/* [anon:NAME] and [anon_shmem:NAME] */
static char *name_of(struct arena *arena, const char *text) {
        char *name = arena_strdup(arena, strchr(text, ':') + 1);
        size_t len = strlen(name);

        if (len > 0 && name[len - 1] == ']')
                name[len - 1] = '\0';
        return name;
}

static int add_area(struct dump_task *t, const struct proc_smap *smap, Img__Vma *msg,
                    struct ckpt_error *err) {
        struct mem_area *area = mem_area_vec_add(&t->mem->areas);

        if (!area)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        *area = (struct mem_area){ .vma = smap->vma, .flags = smap->flags, .msg = msg };
        area->kind = mem_kind_of(t, smap);
        msg->start = smap->vma.start;
        msg->end = smap->vma.end;
        msg->prot = smap->vma.prot;
        msg->pgoff = smap->vma.pgoff;
        msg->fd = -1;
        msg->status = VMA_REGULAR | kind_rows[area->kind].status;
        msg->flags = kind_rows[area->kind].flags;
        if (area->kind == MEM_VDSO || area->kind == MEM_VVAR)
                return 0;
        add_flags(area, msg);
        if (hugetlb_is_anonymous(smap))
                msg->flags |= hugetlb_flags(smap);
        if (is_memfd(&smap->vma))
                msg->status |= VMA_MEMFD;
        if (smap->vma.kind == PROC_VMA_ANON_NAMED)
                msg->anon_name = name_of(&t->arena, smap->vma.name);
        if (area->kind == MEM_SYSV)
                add_sysv(area, msg);
        if (area->kind == MEM_SHMEM)
                return add_shmem(t, &smap->vma, msg, err);
        if (area->kind == MEM_FILE_PRIVATE || area->kind == MEM_FILE_SHARED)
                return add_file(t, &smap->vma, area, msg, err);
        return 0;
}

static int add_areas(struct dump_task *t, const struct proc_smap_vec *smaps, struct ckpt_error *err) {
        Img__Mm *mm = t->mem->mm;
        Img__Vma *messages = arena_new_array(&t->arena, Img__Vma, smaps->n + 1);
        int r = 0;

        mm->vmas = arena_new_array(&t->arena, Img__Vma *, smaps->n + 1);
        for (size_t i = 0; r == 0 && i < smaps->n; i++) {
                if (smaps->v[i].vma.kind == PROC_VMA_VSYSCALL)
                        continue;
                img__vma__init(&messages[i]);
                mm->vmas[mm->n_vmas++] = &messages[i];
                r = add_area(t, &smaps->v[i], &messages[i], err);
        }
        return r;
}

static int add_auxv(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_(proc_auxv_vec_done) struct proc_auxv_vec auxv = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const struct mem_answers *a = &t->mem->answers;
        Img__Mm *mm = t->mem->mm;
        int r;

        r = a->auxv ? proc_auxv_parse(a->auxv, a->auxv_size, &auxv) : -ENODATA;
        if (r < 0)
                r = proc_auxv_read(&t->proc, &buf, &auxv);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its auxiliary vector", dump_task_name(t));
        /* Readers of the format expect the ending AT_NULL. */
        mm->mm_saved_auxv = arena_new_array(&t->arena, uint64_t, auxv.n + 2);
        if (auxv.n > 0)
                memcpy(mm->mm_saved_auxv, auxv.v, auxv.n * sizeof(uint64_t));
        mm->n_mm_saved_auxv = auxv.n + 2;
        return 0;
}

/* Where the break is, if the task was not asked: the heap is at least known to the page. */
static uint64_t guess_brk(const struct dump_task *t, uint64_t start_brk) {
        uint64_t end = start_brk;

        for (size_t i = 0; i < t->mem->areas.n; i++)
                if (t->mem->areas.v[i].vma.kind == PROC_VMA_HEAP)
                        end = t->mem->areas.v[i].vma.end;
        return end;
}

static void add_answers(struct dump_task *t) {
        const struct mem_answers *a = &t->mem->answers;
        Img__Mm *mm = t->mem->mm;

        mm->mm_brk = a->known ? a->brk : guess_brk(t, mm->mm_start_brk);
        mm->has_dumpable = true;
        mm->dumpable = t->dumpable;
        mm->has_thp_disabled = mm->thp_disabled = t->thp_disabled;
        if (!a->known)
                return;
        mm->has_mdwe = a->mdwe > 0;
        mm->mdwe = a->mdwe > 0 ? (uint32_t)a->mdwe : 0;
        mm->has_lock_future = a->lock_future != 0;
        mm->lock_future = a->lock_future;
}

/* t->stat was read when all was stopped, but a dead leader's does not show the memory. */
static int read_stat(const struct dump_task *t, struct proc_stat *ret) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        *ret = t->stat;
        return t->leader_dead ? proc_stat_read(&t->proc, &buf, ret) : 0;
}

static int add_fields(struct dump_task *t, struct ckpt_error *err) {
        Img__Mm *mm = t->mem->mm;
        struct proc_stat stat;
        int r;

        r = read_stat(t, &stat);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its memory limits", dump_task_name(t));
        mm->mm_start_code = stat.start_code;
        mm->mm_end_code = stat.end_code;
        mm->mm_start_data = stat.start_data;
        mm->mm_end_data = stat.end_data;
        mm->mm_start_stack = stat.start_stack;
        mm->mm_start_brk = stat.start_brk;
        mm->mm_arg_start = stat.arg_start;
        mm->mm_arg_end = stat.arg_end;
        mm->mm_env_start = stat.env_start;
        mm->mm_env_end = stat.env_end;
        add_answers(t);
        r = add_auxv(t, err);
        return r < 0 ? r : files_add_path(t, "exe", O_RDONLY, &mm->exe_file_id, err);
}

/* As in mem_look(): behind a dead leader, only the other threads' entries show the memory. */
static int use_living_thread(struct dump_task *t, struct ckpt_error *err) {
        struct proc_dir living;
        int r;

        if (t->nr_threads == 0 || t->threads[0].tid == t->pid || t->proc.pid == t->threads[0].tid)
                return 0;
        r = proc_open(t->threads[0].tid, &living);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read /proc/%d", dump_task_name(t),
                                        t->threads[0].tid);
        proc_close(&t->proc);
        t->proc = living;
        return 0;
}

int mem_collect(struct dump_task *t, struct ckpt_error *err) {
        const struct proc_smap_vec *smaps;
        _cleanup_(mem_search_done) struct mem_search ahead = { 0 };
        struct dump_mem *mem = dump_mem_of(t);
        int r;

        mem->mm = arena_message(&t->arena, Img__Mm, img__mm__init);
        mem->pages_id = __atomic_add_fetch(&mem_tree_of(t->dump)->last_pages_id, 1, __ATOMIC_RELAXED);
        r = use_living_thread(t, err);
        if (r == 0)
                mem_search_ahead(t, &ahead);
        if (r == 0)
                r = mem_current_areas(t, &smaps, err);
        if (r == 0)
                r = add_areas(t, smaps, err);
        if (r == 0)
                r = mem_add_policies(t, smaps, err);
        if (r == 0)
                r = add_fields(t, err);
        if (r == 0)
                r = aio_collect(t, err);
        if (r == 0)
                r = mem_collect_pages(t, smaps, &ahead, err);
        return r;
}

/* Of a task only its own runs change, and of others only the areas are read: any order will do. */
static int mark_cow(void *arg, struct ckpt_error *err) {
        return mem_mark_cow(arg, err);
}

int mem_collect_shared(struct dump *d, struct ckpt_error *err) {
        struct mem_tree *tree = mem_tree_of(d);
        int r = 0, waited;

        for (size_t i = 0; i < tree->objects.n; i++)
                tree->objects.v[i].pages_id = ++tree->last_pages_id;
        mem_settle_policies(d);
        mem_find_kin(d);
        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++)
                if (d->tasks[i]->mem && d->tasks[i]->mem->mm && d->tasks[i]->mem->has_kin)
                        r = pool_add(d->aside, mark_cow, d->tasks[i]);
        if (r < 0)
                ckpt_error_errno(err, r, "cannot see which memory the tree shares");
        waited = pool_join(d->aside, err);
        return r < 0 ? r : waited;
}

void mem_dump_free(struct dump_mem **mem) {
        struct dump_mem *m = *mem;

        if (!m)
                return;
        proc_buf_done(&m->maps_buf);
        proc_smap_vec_done(&m->smaps);
        mem_area_vec_done(&m->areas);
        mem_run_vec_done(&m->runs);
        mem_run_vec_done(&m->guards);
        mem_policies_done(&m->policies);
        if (m->tree) {
                mem_object_vec_done(&m->tree->objects);
                mem_known_file_vec_done(&m->tree->files);
                mem_clear_files_done(&m->tree->clear);
                pthread_mutex_destroy(&m->tree->lock);
                area_flags_free(&m->tree->area_flags);
                free(m->tree);
        }
        free(m);
        *mem = NULL;
}
