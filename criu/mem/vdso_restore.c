/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The vDSO of a restored task. If this kernel's is the same as the one in the checkpoint, it is mapped
 * where that was. Otherwise programs still have pointers into the old one, so its code stays at its
 * address as ordinary memory, but every function of it begins with a jump to the one of this kernel's
 * vDSO, which is mapped at a free place. Another checkpoint of such a task contains both, and if it
 * comes to a third kernel, the second vDSO gets the same treatment: the jumps form a chain.
 *
 * A thread that was stopped in the middle of the old code goes on in an unchanged copy of it. There the
 * data (vvar) is empty, by which the code knows no clock that it could read and makes the system call.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "images/core-x86.pb-c.h"
#include "kernel/uapi.h"
#include "lib/io.h"
#include "macro.h"
#include "mem/restore.h"
#include "restore/inherit.h"

#define SEARCH_SIZE (64ULL << 10)

/* The image's own layout. */
struct recorded {
        struct restore_area *vdso;
        uint64_t vvar_start, vvar_end; /* 0: none */
        uint8_t *code;                 /* of vdso */
        uint64_t size;
};

static void recorded_done(struct recorded *rec) {
        free(rec->code);
}

static int find_areas(struct restore_task *t, struct recorded *rec, struct ckpt_error *err) {
        for (size_t i = 0; i < t->mem->areas.n; i++) {
                struct restore_area *area = &t->mem->areas.v[i];

                if (area->kind == MEM_VVAR) {
                        if (!rec->vvar_end)
                                rec->vvar_start = area->start;
                        else if (rec->vvar_end != area->start)
                                return ckpt_error(err, -ENOTSUP,
                                                  "%s: the data of its vDSO was moved; nothing was created",
                                                  restore_task_name(t));
                        rec->vvar_end = area->end;
                } else if (area->kind == MEM_VDSO) {
                        if (rec->vdso)
                                return ckpt_error(err, -EBADMSG, "mm-%d.img is damaged: it has two vDSOs",
                                                  t->pid);
                        rec->vdso = area;
                        rec->size = area->end - area->start;
                }
        }
        if (rec->vvar_end && !rec->vdso)
                return ckpt_error(err, -ENOTSUP,
                                  "%s has the data of a vDSO without the code; nothing was created",
                                  restore_task_name(t));
        return 0;
}

/* The code from the pages file. */
static int read_code(struct restore_task *t, struct recorded *rec, struct ckpt_error *err) {
        const struct mem_run_vec *runs = &t->mem->runs;
        _cleanup_close_ int fd = -EBADF;
        uint64_t file_size, found = 0;
        int r;

        rec->code = calloc(1, rec->size);
        if (!rec->code)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        if (!mem_runs_touch(runs, rec->vdso->start, rec->vdso->end))
                return ckpt_error(err, -ENOTSUP,
                                  "%s: the checkpoint has no copy of its vDSO; nothing was created",
                                  restore_task_name(t));
        r = image_pages_fd(t->restore->dir, t->mem->pages_id, &fd, &file_size, err);
        if (r < 0)
                return r;
        for (size_t i = mem_runs_find(runs, rec->vdso->start);
             i < runs->n && runs->v[i].start < rec->vdso->end; i++) {
                uint64_t start = MAX(runs->v[i].start, rec->vdso->start),
                         end = MIN(runs->v[i].end, rec->vdso->end);
                ssize_t n = pread_full(fd, rec->code + (start - rec->vdso->start), end - start,
                                       (off_t)(runs->v[i].offset + start - runs->v[i].start));

                if (n != (ssize_t)(end - start))
                        return ckpt_error_errno(err, n < 0 ? (int)n : -EIO, "cannot read pages-%u.img",
                                                t->mem->pages_id);
                found += end - start;
        }
        return found > 0 ? 0 : -EBADMSG;
}

/* Take [start, end) out of the runs that are read into place. */
static int cut_runs(struct restore_mem *mem, uint64_t start, uint64_t end) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec out = { 0 };
        struct mem_run_vec old = mem->runs;
        int r = 0;

        for (size_t i = 0; r == 0 && i < old.n; i++) {
                struct mem_run run = old.v[i];

                if (run.start < start) {
                        struct mem_run part = run;

                        part.end = MIN(run.end, start);
                        r = mem_run_vec_push(&out, part);
                }
                if (r == 0 && run.end > end) {
                        uint64_t from = MAX(run.start, end);

                        run.offset += from - run.start;
                        run.start = from;
                        r = mem_run_vec_push(&out, run);
                }
        }
        if (r == 0) {
                mem->runs = out;
                out = old;
        }
        return r;
}

static bool is_same(const struct recorded *rec, const struct vdso_layout *own) {
        return own->end && rec->size == own->end - own->vdso && rec->vvar_end == rec->vdso->start &&
               rec->vvar_end - rec->vvar_start == own->vdso - own->vvar &&
               memcmp(rec->code, own->code, MIN(own->elf.size, rec->size)) == 0;
}

static Img__UserX86Regs *regs_of(const struct restore_thread *th) {
        return th->core && th->core->thread_info ? th->core->thread_info->gpregs : NULL;
}

static bool is_inside(const struct restore_thread *th, const struct restore_area *vdso) {
        const Img__UserX86Regs *regs = regs_of(th);

        return regs && regs->ip >= vdso->start && regs->ip < vdso->end;
}

static bool any_inside(const struct restore_task *t, const struct restore_area *vdso) {
        for (size_t i = 0; i < t->nr_threads; i++)
                if (is_inside(&t->threads[i], vdso))
                        return true;
        return false;
}

/* Append code to the file from which the tasks read it. */
static int append(struct restore *r, const uint8_t *code, uint64_t size, uint64_t *ret_offset,
                  struct ckpt_error *err) {
        struct restore_mem_tree *tree = restore_mem_tree_of(r);
        int ret;

        if (tree->patch_file < 0) {
                tree->patch_file = (int)syscall(SYS_memfd_create, "ckpt-vdso", MFD_CLOEXEC);
                if (tree->patch_file < 0)
                        return ckpt_error_errno(err, -errno, "cannot create a file in memory for the vDSO");
                tree->patch_fd = restore_inherit(r, tree->patch_file, err);
                if (tree->patch_fd < 0)
                        return tree->patch_fd;
        }
        ret = pwrite_full(tree->patch_file, code, size, (off_t)tree->patch_size);
        if (ret < 0)
                return ckpt_error_errno(err, ret, "cannot prepare the vDSO");
        *ret_offset = tree->patch_size;
        tree->patch_size += size;
        return 0;
}

/* Places for this kernel's vDSO and, if needed, for the copy. */
static int choose_places(struct restore_task *t, const struct recorded *rec, const struct vdso_layout *own,
                         bool copy, struct ckpt_error *err) {
        _cleanup_(mem_run_vec_done) struct mem_run_vec taken = { 0 };
        uint64_t vvar_size = rec->vvar_end - rec->vvar_start;
        struct vdso_plan *plan = &t->mem->vdso;
        uint64_t size = vdso_layout_size(own) + (copy ? vvar_size + rec->size : 0), start;
        int r;

        if (size == 0)
                return 0;
        r = mem_taken_by_task(t, &taken);
        if (r == 0)
                r = mem_find_gap(&taken, size, PAGE_SIZE, &start);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot find a place for the vDSO of this kernel",
                                        restore_task_name(t));
        plan->start = start;
        plan->size = size;
        if (copy) {
                plan->copy_vvar = start;
                plan->copy = start + vvar_size;
                plan->copy_size = rec->size;
                start += vvar_size + rec->size;
        }
        plan->map = own->end != 0;
        plan->at = start;
        return 0;
}

static void move_threads(struct restore_task *t, const struct restore_area *vdso) {
        for (size_t i = 0; i < t->nr_threads; i++)
                if (is_inside(&t->threads[i], vdso))
                        regs_of(&t->threads[i])->ip += t->mem->vdso.copy - vdso->start;
}

/* The areas of the old one become ordinary memory. */
static void convert_areas(struct restore_task *t) {
        for (size_t i = 0; i < t->mem->areas.n; i++) {
                struct restore_area *area = &t->mem->areas.v[i];

                if (area->kind == MEM_VDSO) {
                        area->content = area->patch = true;
                        area->kind = MEM_ANON;
                } else if (area->kind == MEM_VVAR) {
                        area->content = false;
                        area->kind = MEM_ANON;
                }
        }
}

static int prepare_other(struct restore_task *t, struct recorded *rec, const struct vdso_layout *own,
                         struct ckpt_error *err) {
        _cleanup_(vdso_elf_done) struct vdso_elf elf = { 0 };
        _cleanup_free_ uint8_t *patched = malloc(rec->size);
        bool copy = any_inside(t, rec->vdso);
        const char *name = NULL;
        int r;

        if (!patched)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        r = vdso_parse(rec->code, rec->size, &elf);
        if (r < 0)
                return ckpt_error(
                        err, r,
                        "%s: the vDSO in the checkpoint is damaged, or of an unknown form; nothing was created",
                        restore_task_name(t));
        r = choose_places(t, rec, own, copy, err);
        if (r < 0)
                return r;
        memcpy(patched, rec->code, rec->size);
        memset(patched + MIN(elf.size, rec->size), 0, rec->size - MIN(elf.size, rec->size));
        r = vdso_redirect(patched, &elf, own->end ? &own->elf : NULL,
                          t->mem->vdso.at + own->vdso - own->vvar, &name);
        if (r < 0)
                return ckpt_error(
                        err, r,
                        "%s comes from a kernel whose vDSO cannot be replaced by this one's: its function %s "
                        "is too short; nothing was created",
                        restore_task_name(t), name);
        r = append(t->restore, patched, rec->size, &rec->vdso->patch_offset, err);
        if (r == 0 && copy)
                r = append(t->restore, rec->code, rec->size, &t->mem->vdso.copy_offset, err);
        if (r < 0)
                return r;
        if (copy)
                move_threads(t, rec->vdso);
        convert_areas(t);
        return 0;
}

int mem_prepare_vdso(struct restore_task *t, struct ckpt_error *err) {
        const struct vdso_layout *own = &restore_mem_tree_of(t->restore)->vdso;
        _cleanup_(recorded_done) struct recorded rec = { 0 };
        struct vdso_plan *plan = &t->mem->vdso;
        int r;

        r = find_areas(t, &rec, err);
        if (r < 0 || !rec.vdso)
                return r;
        r = read_code(t, &rec, err);
        if (r == 0 && cut_runs(t->mem, rec.vdso->start, rec.vdso->end) < 0)
                r = ckpt_error(err, -ENOMEM, "not enough memory");
        if (r < 0)
                return r;
        if (!is_same(&rec, own))
                return prepare_other(t, &rec, own, err);
        *plan = (struct vdso_plan){ .map = true,
                                    .at = rec.vvar_start,
                                    .start = rec.vvar_start,
                                    .size = rec.vdso->end - rec.vvar_start };
        return 0;
}

static void add_copy(const struct restore_mem_tree *tree, const struct vdso_plan *plan,
                     struct compel_batch *b) {
        const uint64_t flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;

        if (plan->copy_size == 0)
                return;
        if (plan->copy > plan->copy_vvar)
                compel_call(b, "map data for the old vDSO", SYS_mmap, plan->copy_vvar,
                            plan->copy - plan->copy_vvar, PROT_READ, flags, ~0ULL, 0);
        compel_call(b, "map the old vDSO", SYS_mmap, plan->copy, plan->copy_size, PROT_READ | PROT_WRITE,
                    flags, ~0ULL, 0);
        mem_add_read(b, "fill the old vDSO", tree->patch_fd, plan->copy, plan->copy_size, plan->copy_offset);
        compel_call(b, "protect the old vDSO", SYS_mprotect, plan->copy, plan->copy_size,
                    PROT_READ | PROT_EXEC);
}

void mem_add_vdso(struct restore_task *t, struct compel_batch *b) {
        const struct restore_mem_tree *tree = restore_mem_tree_of(t->restore);
        const struct vdso_plan *plan = &t->mem->vdso;
        struct compel_op *op;
        raddr_t vec;

        add_copy(tree, plan, b);
        if (!plan->map || t->mem->vdso_kept)
                return;
        compel_call(b, "map the vDSO", SYS_arch_prctl, ARCH_MAP_VDSO_64, plan->at);
        /* The kernel takes the address for a hint. */
        compel_room(b, 9, vdso_layout_size(&tree->vdso) / PAGE_SIZE);
        compel_data(b, vdso_layout_size(&tree->vdso) / PAGE_SIZE, &vec);
        op = compel_call(b, "find the vDSO where it was to be mapped", SYS_mincore, plan->at,
                         vdso_layout_size(&tree->vdso), vec);
        op->check = COMPEL_CHECK_EQUAL;
        op->want = 0;
}

/* In any other code of the task. */
static raddr_t search_areas(struct restore_task *t) {
        _cleanup_free_ uint8_t *buf = malloc(SEARCH_SIZE);
        _cleanup_close_ int fd = -EBADF;
        char path[32];

        snprintf(path, sizeof(path), "/proc/%d/mem", task_lane(t)->tid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        for (size_t i = 0; buf && fd >= 0 && i < t->mem->areas.n; i++) {
                const struct restore_area *area = &t->mem->areas.v[i];

                for (uint64_t at = area->start; at < area->end && (area->msg->prot & PROT_EXEC);
                     at += SEARCH_SIZE) {
                        ssize_t n = pread(fd, buf, MIN(SEARCH_SIZE, area->end - at), (off_t)at);
                        uint64_t offset = n > 0 ? vdso_find_syscall(buf, (size_t)n) : 0;

                        if (offset)
                                return at + offset;
                }
        }
        return 0;
}

raddr_t mem_syscall_insn(struct restore_task *t) {
        const struct vdso_layout *own = &restore_mem_tree_of(t->restore)->vdso;
        uint64_t offset = 0;

        if (!t->mem)
                return 0;
        if (t->mem->vdso.map)
                offset = vdso_find_syscall(own->code, own->end - own->vdso);
        return offset ? t->mem->vdso.at + (own->vdso - own->vvar) + offset : search_areas(t);
}
