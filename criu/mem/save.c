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

enum { MANY_AREAS = 2048 };

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

static int store_areas(void *arg, struct ckpt_error *err) {
        struct dump_task *t = arg;

        return image_store(t->dump->set, IMAGE_MM, (unsigned long)t->pid, &t->mem->mm->base, err);
}

static int store_pages(struct dump_task *t, struct ckpt_error *err) {
        struct mem_source source = { .task = t, .fd = -1, .name = dump_task_name(t) };

        return mem_store(t->dump, &source, IMAGE_PAGEMAP, (unsigned long)t->pid, t->mem->pages_id,
                         &t->mem->runs, err);
}

/* Many areas take a while to encode: another worker may do that, before it helps with the pages. */
int mem_save(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_(pool_withdraw) struct pool_offer areas = { 0 };
        int r = 0;

        add_guards(t);
        if (t->mem->mm->n_vmas < MANY_AREAS || pool_offer(t->dump->pool, store_areas, t, &areas) < 0)
                r = store_areas(t, err);
        if (r == 0)
                r = fault_point_error(FAULT_DUMP_MEMORY, err);
        if (r == 0)
                r = store_pages(t, err);
        return r == 0 && areas.pool ? pool_claim(&areas, err) : r;
}

void mem_release_killed(const struct dump_task *t) {
        _cleanup_close_ int pidfd = -EBADF;
        uint64_t size = t->mem ? mem_runs_bytes(&t->mem->runs) : 0;

        if (size < RELEASE_FROM || size / RELEASE_PER_AREA < t->mem->areas.n)
                return;
        pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
        if (pidfd >= 0)
                (void)syscall(SYS_process_mrelease, pidfd, 0);
}
