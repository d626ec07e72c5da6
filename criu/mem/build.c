/* SPDX-License-Identifier: GPL-2.0-only */
/* The address space of a task, from the moment it is cloned until it is what the image says. */
#include <errno.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "macro.h"
#include "mem/aio.h"
#include "mem/policy.h"
#include "mem/restore.h"
#include "mem/uapi.h"

#define LARGE ((uint64_t)8 << 20)

bool mem_outlives(const struct restore_task *t) {
        for (size_t i = 0; t->mem && i < t->mem->areas.n; i++) {
                const struct restore_area *area = &t->mem->areas.v[i];

                if ((area->kind == MEM_FILE_SHARED || area->kind == MEM_SYSV) &&
                    (area->msg->prot & PROT_WRITE))
                        return true;
        }
        return false;
}

bool mem_is_large(const struct restore_task *t) {
        return t->mem->pages_size >= LARGE;
}

bool mem_fits(const struct restore_task *t, const struct compel_batch *b) {
        /* Of an operation, and of what it needs besides; for an area: mapped, widened, protected, dropped ... */
        enum { OP = sizeof(struct compel_op) + 32, PER_AREA = 8, PER_RUN = 3, OTHERS = 64 };
        size_t need = (OTHERS + t->mem->runs.n * PER_RUN + t->mem->guards.n) * OP;

        for (size_t i = 0; i < t->mem->areas.n; i++) {
                const struct restore_area *area = &t->mem->areas.v[i];

                if (mem_is_attached(area->kind))
                        return false;
                need += (PER_AREA + (size_t)__builtin_popcountll(area->msg->madv)) * OP;
                if (area->msg->anon_name)
                        need += strlen(area->msg->anon_name) + OP;
        }
        return need < compel_capacity(b);
}

int mem_restore(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err) {
        int r;

        mem_choose_kept(t);
        r = mem_add_unmapping(t, b);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot plan its memory", restore_task_name(t));
        mem_add_vdso(t, b);
        mem_add_areas(t, b);
        r = mem_add_attachments(t, b);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot plan its memory", restore_task_name(t));
        mem_add_widening(t, b);
        r = mem_fill(t, b, err);
        if (r < 0)
                return r;
        mem_add_properties(t, b);
        return 0;
}

/* Without the zeroes at the end: the kernel has room for its own entries only. */
static size_t auxv_words(const Img__Mm *mm) {
        size_t n = mm->n_mm_saved_auxv;

        while (n >= 2 && mm->mm_saved_auxv[n - 1] == 0 && mm->mm_saved_auxv[n - 2] == 0)
                n -= 2;
        return n;
}

static void add_mm_map(struct restore_task *t, struct compel_batch *b) {
        const Img__Mm *mm = t->mm;
        size_t auxv_size = auxv_words(mm) * sizeof(uint64_t);
        struct prctl_mm_map map = {
                .start_code = mm->mm_start_code,
                .end_code = mm->mm_end_code,
                .start_data = mm->mm_start_data,
                .end_data = mm->mm_end_data,
                .start_brk = mm->mm_start_brk,
                .brk = mm->mm_brk,
                .start_stack = mm->mm_start_stack,
                .arg_start = mm->mm_arg_start,
                .arg_end = mm->mm_arg_end,
                .env_start = mm->mm_env_start,
                .env_end = mm->mm_env_end,
                .auxv_size = (uint32_t)auxv_size,
                .exe_fd = (uint32_t)t->mem->exe_fd,
        };
        uint64_t auxv = 0;

        compel_room(b, 9, auxv_size + sizeof(map));
        if (auxv_size > 0)
                auxv = compel_copy(b, mm->mm_saved_auxv, auxv_size);
        map.auxv = (void *)(uintptr_t)auxv;
        compel_call(b, "set the limits of its memory and its executable", SYS_prctl, PR_SET_MM,
                    PR_SET_MM_MAP, compel_copy(b, &map, sizeof(map)), sizeof(map), 0);
}

static void add_lock(const struct restore_area *area, struct compel_batch *b) {
        bool onfault = area->msg->has_lock_onfault && area->msg->lock_onfault;
        struct compel_op *op;

        if (!(area->msg->flags & MAP_LOCKED))
                return;
        op = compel_call(b, "lock memory", SYS_mlock2, area->start, area->end - area->start,
                         onfault ? MLOCK_ONFAULT : 0);
        /*
         * The area is locked all the same when not all of its pages can be there: PROT_NONE, the end of
         * the file.
         */
        if (area->msg->prot == PROT_NONE || area->fd >= 0)
                op->check = COMPEL_CHECK_NOTHING;
}

static void add_late_advice(const struct restore_area *area, struct compel_batch *b) {
        for (size_t i = 0; i < mem_nr_advices; i++)
                if (mem_advices[i].late && area->msg->has_madv &&
                    (area->msg->madv & (1ULL << mem_advices[i].value)))
                        compel_call(b, mem_advices[i].what, SYS_madvise, area->start,
                                    area->end - area->start, (uint64_t)mem_advices[i].value);
}

int mem_finish(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err) {
        const Img__Mm *mm = t->mm;
        int r = aio_restore(t, b, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < t->mem->areas.n; i++) {
                if (t->mem->areas.v[i].kind == MEM_VDSO || t->mem->areas.v[i].kind == MEM_VVAR)
                        continue;
                mem_add_policy(t->mem->areas.v[i].msg, b);
                add_late_advice(&t->mem->areas.v[i], b);
                add_lock(&t->mem->areas.v[i], b);
        }
        add_mm_map(t, b);
        if (mm->has_lock_future && mm->lock_future)
                compel_call(b, "give mlockall(MCL_FUTURE) back", SYS_mlockall, mm->lock_future);
        if (mm->has_mdwe && mm->mdwe)
                compel_call(b, "give PR_SET_MDWE back", SYS_prctl, PR_SET_MDWE, mm->mdwe, 0, 0, 0);
        return 0;
}
