/* SPDX-License-Identifier: GPL-2.0-only */
/* Areas at their addresses, and their properties. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "macro.h"
#include "mem/restore.h"
#include "mem/uapi.h"

/*
 * Larger areas that may not be written to are made writable only where they have content: what
 * is writable counts as memory that could be used up.
 */
#define WIDEN_MAX (256ULL << 20)

static bool widen_parts(const struct restore_area *area) {
        return area->content && !(area->msg->prot & PROT_WRITE) && area->end - area->start > WIDEN_MAX;
}

/* All of it and all of its pages are there already. */
static bool needs_no_filling(const struct restore_task *t, const struct restore_area *area) {
        const struct mem_run_vec *runs = &t->mem->runs;

        if (area->kept_start != area->start || area->kept_end != area->end)
                return false;
        for (size_t i = mem_runs_find(runs, area->start); i < runs->n && runs->v[i].start < area->end; i++)
                if (!(runs->v[i].sort & MEM_SORT_COW))
                        return false;
        return true;
}

static void choose_prot(const struct restore_task *t, struct restore_area *area) {
        area->map_prot = area->msg->prot;
        if (area->kind == MEM_SYSV)
                area->map_prot = PROT_READ | (mem_sysv_read_only(area->msg) ? 0 : PROT_WRITE);
        if (area->kind == MEM_SOCKET) /* all areas of a mapping begin as one */
                area->map_prot = PROT_READ | PROT_WRITE;
        if (area->content && !widen_parts(area) && !needs_no_filling(t, area))
                area->map_prot = PROT_READ | PROT_WRITE;
}

static uint64_t map_flags(const struct restore_area *area) {
        uint64_t flags = MAP_FIXED_NOREPLACE | (area->msg->flags & (MAP_NORESERVE | MAP_GROWSDOWN));

        flags |= area->kind == MEM_FILE_SHARED || area->kind == MEM_SHMEM ? MAP_SHARED : MAP_PRIVATE;
        if (area->kind == MEM_AIO) /* keeps the place, and what will be in the ring */
                flags |= MAP_ANONYMOUS;
        if (area->kind == MEM_ANON)
                flags |= MAP_ANONYMOUS | mem_huge_flags(area->msg->flags);
        return flags;
}

/* Each mapping of huge pages is a file to the kernel: those that were made by one have offsets that go on. */
static bool same_huge_file(const struct restore_area *a, const struct restore_area *b) {
        return mem_huge_flags(a->msg->flags) == 0 || b->msg->pgoff - a->msg->pgoff == b->start - a->start;
}

bool mem_made_by_one(const struct restore_area *a, const struct restore_area *b) {
        return a->kind == MEM_ANON && b->kind == MEM_ANON && a->end == b->start &&
               a->map_prot == b->map_prot && map_flags(a) == map_flags(b) &&
               !(a->msg->flags & MAP_GROWSDOWN) && b->kept_end == 0 && same_huge_file(a, b);
}

/*
 * A heap may have grown in steps to more than the machine has of memory. In one step, the kernel would not give so much
 * (vm.overcommit_memory=0 looks at each call by itself); it makes one area of the steps again.
 */
#define STEP_MAX (1ULL << 30)

static bool goes_in_steps(const struct restore_area *area) {
        return area->kind == MEM_ANON && mem_huge_flags(area->msg->flags) == 0 &&
               !(area->msg->flags & (MAP_GROWSDOWN | MAP_NORESERVE)) && (area->map_prot & PROT_WRITE);
}

static void add_mmap(struct compel_batch *b, const struct restore_area *area, uint64_t start, uint64_t end) {
        uint64_t pgoff = area->kind == MEM_ANON || area->kind == MEM_AIO
                                 ? 0
                                 : area->msg->pgoff + (start - area->start);
        struct compel_op *op;

        op = compel_call(b, "map an area", SYS_mmap, start, end - start, area->map_prot, map_flags(area),
                         (uint64_t)(int64_t)area->fd, pgoff);
        op->check = COMPEL_CHECK_EQUAL;
        op->want = (int64_t)start;
}

void mem_add_areas(struct restore_task *t, struct compel_batch *b) {
        struct restore_area_vec *areas = &t->mem->areas;

        for (size_t i = 0; i < areas->n; i++)
                choose_prot(t, &areas->v[i]);
        for (size_t i = 0; i < areas->n; i++) {
                const struct restore_area *area = &areas->v[i];
                uint64_t start = area->kept_end > 0 ? area->kept_end : area->start, end = area->end;

                if (area->kind == MEM_VDSO || area->kind == MEM_VVAR || mem_is_attached(area->kind))
                        continue;
                while (i + 1 < areas->n && mem_made_by_one(&areas->v[i], &areas->v[i + 1]))
                        end = areas->v[++i].end;
                if (area->kept_end > 0 && area->map_prot != area->msg->prot)
                        compel_call(b, "make an area writable", SYS_mprotect, area->kept_start,
                                    area->kept_end - area->kept_start, area->map_prot);
                for (uint64_t step = end - start; start < end; start += step) {
                        if (goes_in_steps(area))
                                step = MIN(end - start, STEP_MAX);
                        add_mmap(b, area, start, start + step);
                }
        }
}

/* Before the filling, the parts of large areas; afterwards all protections. */
void mem_add_widening(struct restore_task *t, struct compel_batch *b) {
        const struct mem_run_vec *runs = &t->mem->runs;

        for (size_t i = 0; i < t->mem->areas.n; i++) {
                const struct restore_area *area = &t->mem->areas.v[i];

                if (!widen_parts(area))
                        continue;
                for (size_t j = mem_runs_find(runs, area->start);
                     j < runs->n && runs->v[j].start < area->end; j++) {
                        uint64_t start = MAX(runs->v[j].start, area->start),
                                 end = MIN(runs->v[j].end, area->end);

                        compel_call(b, "make pages writable", SYS_mprotect, start, end - start,
                                    (uint64_t)(PROT_READ | PROT_WRITE));
                }
        }
}

static bool needs_protection(const struct restore_area *area) {
        return area->kind != MEM_VDSO && area->kind != MEM_VVAR &&
               (area->map_prot != area->msg->prot || widen_parts(area));
}

static void add_protections(struct restore_task *t, struct compel_batch *b) {
        const struct restore_area_vec *areas = &t->mem->areas;

        for (size_t i = 0; i < areas->n; i++) {
                const struct restore_area *area = &areas->v[i];
                uint64_t end = area->end;

                if (!needs_protection(area))
                        continue;
                while (i + 1 < areas->n && areas->v[i + 1].start == end &&
                       needs_protection(&areas->v[i + 1]) && areas->v[i + 1].msg->prot == area->msg->prot)
                        end = areas->v[++i].end;
                compel_call(b, "protect an area", SYS_mprotect, area->start, end - area->start,
                            area->msg->prot);
        }
}

static void add_advice(struct compel_batch *b, const struct restore_area *area) {
        for (size_t i = 0; i < mem_nr_advices; i++)
                if (!mem_advices[i].late && (area->msg->madv & (1ULL << mem_advices[i].value)))
                        compel_call(b, mem_advices[i].what, SYS_madvise, area->start,
                                    area->end - area->start, (uint64_t)mem_advices[i].value);
}

static void add_name(struct compel_batch *b, const struct restore_area *area) {
        const char *name = area->msg->anon_name;
        struct compel_op *op;

        if (!name || !*name || (area->kind != MEM_ANON && area->kind != MEM_SHMEM))
                return;
        op = compel_call(b, "name an area", SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, area->start,
                         area->end - area->start, compel_copy(b, name, strlen(name) + 1));
        op->check =
                COMPEL_CHECK_NOTHING; /* for people who look at maps; not every kernel is built with it */
}

void mem_add_properties(struct restore_task *t, struct compel_batch *b) {
        add_protections(t, b);
        for (size_t i = 0; i < t->mem->areas.n; i++) {
                const struct restore_area *area = &t->mem->areas.v[i];

                if (area->kind == MEM_VDSO || area->kind == MEM_VVAR)
                        continue;
                if (area->msg->has_madv && area->msg->madv)
                        add_advice(b, area);
                add_name(b, area);
        }
        for (size_t i = 0; i < t->mem->guards.n; i++)
                compel_call(b, "install a guard range", SYS_madvise, t->mem->guards.v[i].start,
                            t->mem->guards.v[i].end - t->mem->guards.v[i].start, MADV_GUARD_INSTALL);
}
