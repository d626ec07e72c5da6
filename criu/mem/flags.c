/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The areas of a frozen task with their flags. Only smaps shows those to everybody, and it is slow (the kernel walks
 * the page tables and formats some 700 bytes per area; see kernel/area_flags.h), so what was read before the freeze
 * is used where it must still be true: the areas are the same, and every thread has slept on in the system call in which
 * it was before smaps was read; or the kernel tells that nobody has changed the areas since.
 */
#include <errno.h>
#include <string.h>

#include "log.h"
#include "macro.h"
#include "mem/dump.h"
#include "task/facts.h"
#include "task/still.h"

enum { MANY_TASKS = 256 };

/* Below that, smaps is always fast enough, unless there are MANY_TASKS. */
#define LARGE        ((uint64_t)16 << 20)
#define LARGE_TABLES ((uint64_t)2 << 20)

static const struct area_flags *area_flags_of(struct dump *d) {
        struct mem_tree *tree = mem_tree_of(d);
        struct area_flags *flags;
        int r = 0;

        pthread_mutex_lock(&tree->lock);
        if (!tree->area_flags_tried)
                r = area_flags_open(d->bpf, &tree->area_flags);
        tree->area_flags_tried = true;
        flags = tree->area_flags;
        pthread_mutex_unlock(&tree->lock);
        if (r < 0)
                log_debug("no BPF iterator: flags of areas are read from smaps (%s)", strerror(-r));
        return flags;
}

/*
 * What smaps would take, in ns, as measured on Linux 6.18: for each area, for each page that is there, and for each table,
 * all 512 places of which are looked at. The iterator takes 1 to 2 ms.
 */
static bool is_slow(const struct dump_task *t, size_t nr_areas) {
        enum { PER_AREA = 2500, PER_PAGE = 45, PER_TABLE = 1500, WORTH_IT = 2 * 1000 * 1000 };

        return nr_areas * PER_AREA + t->resident / PAGE_SIZE * PER_PAGE +
                       t->page_tables / PAGE_SIZE * PER_TABLE >
               WORTH_IT;
}

static bool has_many_tasks(const struct dump *d) {
        return d->nr_tasks >= MANY_TASKS;
}

static int open_area_flags(void *arg, struct ckpt_error *err __attribute__((unused))) {
        (void)area_flags_of(arg);
        return 0;
}

void mem_prepare_areas(struct dump *d) {
        if (has_many_tasks(d) && d->aside)
                (void)pool_add(d->aside, open_area_flags, d); /* else who needs them first will do it */
}

static int read_fast(struct dump_task *t, const struct proc_dir *dir, struct proc_buf *buf,
                     struct proc_smap_vec *ret) {
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        const struct area_flags *flags = NULL;
        int r;

        r = proc_maps_read(dir, buf, &maps);
        if (r == 0 && (has_many_tasks(t->dump) || is_slow(t, maps.n)))
                flags = area_flags_of(t->dump);
        return flags ? area_flags_read(flags, dir->pid, &maps, ret) : -EOPNOTSUPP;
}

int mem_read_areas(struct dump_task *t, const struct proc_dir *dir, struct proc_buf *buf,
                   struct proc_smap_vec *ret) {
        if ((t->resident >= LARGE || t->page_tables >= LARGE_TABLES || has_many_tasks(t->dump)) &&
            read_fast(t, dir, buf, ret) == 0)
                return 0;
        return proc_smaps_read(dir, t->dump->aside, buf, ret);
}

int mem_read_homes(struct dump_task *t, struct proc_smap_vec *ret) {
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const struct area_flags *flags = area_flags_of(t->dump);
        int r;

        if (!flags)
                return -EOPNOTSUPP;
        r = proc_maps_read(&t->proc, &buf, &maps);
        return r < 0 ? r : area_flags_read(flags, t->pid, &maps, ret);
}

static bool same_vma(const struct proc_vma *a, const struct proc_vma *b) {
        return a->start == b->start && a->end == b->end && a->prot == b->prot && a->shared == b->shared &&
               a->kind == b->kind && a->pgoff == b->pgoff && a->ino == b->ino &&
               a->dev_major == b->dev_major && a->dev_minor == b->dev_minor && strcmp(a->name, b->name) == 0;
}

struct comparison {
        const struct proc_smap_vec *smaps;
        size_t n; /* that were the same so far */
};

/* 1: it is not. */
static int is_next(void *arg, const struct proc_vma *vma) {
        struct comparison *c = arg;

        if (c->n == c->smaps->n || !same_vma(vma, &c->smaps->v[c->n].vma))
                return 1;
        c->n++;
        return 0;
}

static int compare_with_look(struct dump_task *t, bool *ret_same) {
        struct comparison c = { .smaps = &t->smaps };
        int r = proc_maps_each(&t->proc, &t->mem->maps_buf, is_next, &c);

        if (r < 0)
                return r;
        *ret_same = r == 0 && c.n == t->smaps.n;
        return 0;
}

static int read_anew(struct dump_task *t, struct ckpt_error *err) {
        struct blockers *b;
        int r;

        r = mem_read_areas(t, &t->proc, &t->mem->maps_buf, &t->mem->smaps);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its memory areas", dump_task_name(t));
        b = blockers_new();
        mem_look_areas(t, &t->mem->smaps, b);
        r = blockers_to_error(b, "the tree runs on as before", err);
        blockers_free(&b);
        return r;
}

bool mem_areas_stand(const struct dump_task *t) {
        /* Read ahead of what the threads did, it is not known how long they had stood still. */
        return task_facts_same_areas(t) || (!t->areas_ahead && task_stood_still(t));
}

int mem_current_areas(struct dump_task *t, const struct proc_smap_vec **ret, struct ckpt_error *err) {
        struct dump_mem *mem = dump_mem_of(t);
        bool same = false;
        int r = 0;

        if (mem_areas_stand(t))
                r = compare_with_look(t, &same);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its memory areas", dump_task_name(t));
        if (same) {
                *ret = &t->smaps;
                return 0;
        }
        r = read_anew(t, err);
        if (r == 0)
                *ret = &mem->smaps;
        return r;
}
