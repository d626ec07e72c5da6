/* SPDX-License-Identifier: GPL-2.0-only */
/* The memory of one process, into images; and, when it is there, out of the way. */
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/fault.h"
#include "macro.h"
#include "mem/dump.h"

#define RELEASE_FROM     ((uint64_t)16 << 20)
#define RELEASE_PER_AREA ((uint64_t)256 << 10) /* the kernel flushes the TLB for each area */

/* Guard ranges stand behind the real areas. */
static void add_guards(struct dump_task *t) {
        const struct mem_run_vec *guards = &t->mem->guards;
        Img__Mm *mm = t->mem->mm;
        Img__Vma **all, *messages;

        if (guards->n == 0)
                return;
        all = arena_new_array(&t->arena, Img__Vma *, mm->n_vmas + guards->n);
        messages = arena_new_array(&t->arena, Img__Vma, guards->n);
        memcpy(all, mm->vmas, mm->n_vmas * sizeof(*all));
        for (size_t i = 0; i < guards->n; i++) {
                img__vma__init(&messages[i]);
                messages[i].start = guards->v[i].start;
                messages[i].end = guards->v[i].end;
                messages[i].status = VMA_GUARD;
                messages[i].fd = -1;
                all[mm->n_vmas + i] = &messages[i];
        }
        mm->vmas = all;
        mm->n_vmas += guards->n;
}

int mem_save(struct dump_task *t, struct ckpt_error *err) {
        struct mem_source source = { .task = t, .fd = -1, .name = dump_task_name(t) };
        struct dump_mem *mem = t->mem;
        int r;

        add_guards(t);
        r = image_store(t->dump->set, IMAGE_MM, (unsigned long)t->pid, &mem->mm->base, err);
        if (r == 0)
                r = fault_point_error(FAULT_DUMP_MEMORY, err);
        if (r == 0)
                r = mem_store(t->dump, &source, IMAGE_PAGEMAP, (unsigned long)t->pid, mem->pages_id,
                              &mem->runs, err);
        return r;
}

void mem_release_killed(const struct dump_task *t) {
        _cleanup_close_ int pidfd = -EBADF;
        uint64_t size = 0;

        for (size_t i = 0; t->mem && i < t->mem->runs.n; i++)
                size += t->mem->runs.v[i].end - t->mem->runs.v[i].start;
        if (size < RELEASE_FROM || size / RELEASE_PER_AREA < t->mem->areas.n)
                return;
        pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
        if (pidfd >= 0)
                (void)syscall(SYS_process_mrelease, pidfd, 0);
}
