/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * NUMA policies of areas: mbind(2), set_mempolicy_home_node(2). Only the process itself can ask for them, area by area;
 * numa_maps shows them too, but for that the kernel walks all page tables. mbind(2) parts areas where a policy begins or
 * ends, so that the first address of an area tells what that area has been given. That of shared memory belongs to the
 * memory, and another process that maps it may have it in one piece: see mem_settle_policies().
 */
#include <errno.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "macro.h"
#include "mem/dump.h"
#include "mem/policy.h"
#include "mem/restore.h"
#include "mem/uapi.h"
#include "task/kind.h"
#include "task/numa.h"

enum {
        WORDS = NUMA_NODES_MAX / 64,
        PREFERRED_MANY = 5, /* Linux 5.15 */
        MODES = 0xff,       /* the mode without flags */
};

/* ---- dump: asking ---- */

struct asked_policies {
        const char *data; /* in the batch: for each a 64-bit mode, and nodes */
        size_t n;
        uint32_t first; /* operation */
};

static size_t answer_size(const struct mem_policies *p) {
        return sizeof(uint64_t) * (1 + p->words);
}

/* How many words of nodes this kernel wants to fill; 0: it knows nothing of NUMA. */
static unsigned int words_of_nodes(void) {
        uint64_t nodes[WORDS];
        int mode;

        if (syscall(SYS_get_mempolicy, &mode, nodes, 64, 0, 0) == 0)
                return 1;
        return errno == EINVAL ? WORDS : 0;
}

static bool is_asked(const struct proc_vma *vma) {
        return vma->kind != PROC_VMA_VDSO && vma->kind != PROC_VMA_VVAR &&
               vma->kind != PROC_VMA_VVAR_VCLOCK && vma->kind != PROC_VMA_VSYSCALL;
}

static int note_area(void *arg, const struct proc_vma *vma) {
        return is_asked(vma) && mem_start_vec_push(arg, vma->start) < 0 ? -ENOMEM : 0;
}

/* Which areas to ask about. It may have other areas by now than when it was looked at. */
static void list_areas(struct dump_thread *t, struct mem_policies *p) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const struct proc_smap_vec *smaps = &t->task->smaps;
        const struct proc_dir *dir;

        p->listed = true;
        p->words = words_of_nodes();
        p->current = mem_areas_stand(t->task);
        if (p->words == 0)
                return;
        if (!p->current) {
                p->error = dump_thread_proc(t, &dir);
                if (p->error == 0)
                        p->error = proc_maps_each(dir, &buf, note_area, &p->starts);
                return;
        }
        for (size_t i = 0; p->error == 0 && i < smaps->n; i++)
                if (!smaps->v[i].no_policy || smaps->v[i].vma.shared)
                        p->error = note_area(&p->starts, &smaps->v[i].vma);
}

/* As many as half of the batch has room for; for the others there will be another pass. */
static void *ask(struct dump_thread *t, struct compel_batch *b) {
        struct asked_policies *asked = arena_new(&t->task->arena, struct asked_policies);
        struct mem_policies *p = &dump_mem_of(t->task)->policies;
        size_t size, fit;
        raddr_t at;

        if (!p->listed)
                list_areas(t, p);
        if (p->error < 0 || p->done == p->starts.n)
                return asked;
        size = answer_size(p);
        fit = compel_capacity(b) / 2 / (size + 2 * sizeof(struct compel_op));
        asked->n = MIN(p->starts.n - p->done, fit);
        compel_room(b, (unsigned int)asked->n + 1, asked->n * size);
        asked->data = compel_data(b, asked->n * size, &at);
        for (size_t i = 0; i < asked->n; i++) {
                uint64_t to = at + i * size;
                struct compel_op *op = compel_call(b, "read the NUMA policy of an area", SYS_get_mempolicy,
                                                   to, to + sizeof(uint64_t), p->words * 64,
                                                   p->starts.v[p->done + i], MPOL_F_ADDR);

                op->check = COMPEL_CHECK_NOTHING;
                if (i == 0)
                        asked->first = compel_index(b, op);
        }
        return asked;
}

static int take_answer(struct dump_thread *t, uint64_t start, const char *data, struct ckpt_error *err) {
        struct mem_policies *p = &dump_mem_of(t->task)->policies;
        struct mem_policy policy = { .start = start };
        uint64_t nodes[WORDS] = { 0 };

        memcpy(&policy.mode, data, sizeof(policy.mode));
        memcpy(nodes, data + sizeof(uint64_t), p->words * sizeof(uint64_t));
        if (policy.mode == MPOL_DEFAULT)
                return 0;
        for (unsigned int i = 1; i < p->words; i++)
                if (nodes[i] != 0)
                        return ckpt_error(
                                err, -ENOTSUP,
                                "%s: the area at %#llx has a NUMA policy (mbind) for nodes beyond 63, "
                                "which is not supported; the tree runs on",
                                dump_task_name(t->task), (unsigned long long)start);
        policy.nodes = nodes[0];
        if (mem_policy_vec_push(&p->found, policy) < 0)
                return ckpt_error(err, -ENOMEM, "not enough memory");
        return 0;
}

static int answer(struct dump_thread *t, struct compel_batch *b, void *ptr, struct ckpt_error *err) {
        struct mem_policies *p = &dump_mem_of(t->task)->policies;
        const struct asked_policies *asked = ptr;
        int r = 0;

        if (p->error < 0)
                return ckpt_error_errno(err, p->error, "%s: cannot read its memory areas",
                                        dump_task_name(t->task));
        for (size_t i = 0; r == 0 && i < asked->n; i++) {
                int64_t result = b->ops[asked->first + i].ret;

                if (result == 0)
                        r = take_answer(t, p->starts.v[p->done + i], asked->data + i * answer_size(p), err);
                else
                        return ckpt_error_errno(
                                err, (int)result, "%s: cannot read the NUMA policy of the area at %#llx",
                                dump_task_name(t->task), (unsigned long long)p->starts.v[p->done + i]);
        }
        p->done += asked->n;
        return r < 0 ? r : p->done < p->starts.n ? TASK_ANSWER_MORE : 0;
}

void mem_policies_done(struct mem_policies *p) {
        mem_start_vec_done(&p->starts);
        mem_policy_vec_done(&p->found);
}

/* ---- dump: into the image ---- */

static bool may_have_home(uint32_t mode) {
        return (mode & MODES) == MPOL_BIND || (mode & MODES) == PREFERRED_MANY;
}

/* Nothing but the kernel's memory shows it. */
static void add_home(const struct proc_smap_vec *homes, Img__Vma *v) {
        for (size_t i = 0; i < homes->n; i++)
                if (homes->v[i].vma.start == v->start && homes->v[i].has_home_node) {
                        v->has_home_node = true;
                        v->home_node = homes->v[i].home_node;
                }
}

static int compare_starts(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

static int compare_policies(const void *a, const void *b) {
        return compare_starts(&((const struct mem_policy *)a)->start,
                              &((const struct mem_policy *)b)->start);
}

static int compare_smaps(const void *a, const void *b) {
        return compare_starts(&((const struct proc_smap *)a)->vma.start,
                              &((const struct proc_smap *)b)->vma.start);
}

/* Was it asked about, or is it one that needed not be? */
static bool is_known(const struct dump_task *t, uint64_t start) {
        const struct mem_policies *p = &t->mem->policies;
        const struct proc_smap key = { .vma.start = start };

        if (p->starts.n > 0 && bsearch(&start, p->starts.v, p->starts.n, sizeof(start), compare_starts))
                return true;
        return p->current && t->smaps.n > 0 &&
               bsearch(&key, t->smaps.v, t->smaps.n, sizeof(key), compare_smaps);
}

/* Something outside has changed its areas since it was asked. */
static bool has_new_areas(const struct dump_task *t) {
        for (size_t i = 0; i < t->mem->areas.n; i++)
                if (is_asked(&t->mem->areas.v[i].vma) && !is_known(t, t->mem->areas.v[i].vma.start))
                        return true;
        return false;
}

static const struct mem_policy *find_policy(const struct mem_policies *p, uint64_t start) {
        const struct mem_policy key = { .start = start };

        return bsearch(&key, p->found.v, p->found.n, sizeof(key), compare_policies);
}

int mem_add_policies(struct dump_task *t, const struct proc_smap_vec *smaps, struct ckpt_error *err) {
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec homes = { 0 };
        const struct mem_policies *p = &t->mem->policies;
        bool has_homes = false;

        if (smaps != &t->smaps && p->words > 0 && has_new_areas(t))
                return ckpt_error(err, -EAGAIN, "%s: its memory areas change while they are being read",
                                  dump_task_name(t));
        for (size_t i = 0; p->found.n > 0 && i < t->mem->areas.n; i++) {
                Img__Vma *v = t->mem->areas.v[i].msg;
                const struct mem_policy *found = find_policy(p, v->start);

                if (!found)
                        continue;
                v->has_mempolicy = v->has_mempolicy_nodes = true;
                v->mempolicy = found->mode;
                v->mempolicy_nodes = found->nodes;
                if (!may_have_home(found->mode))
                        continue;
                if (!has_homes)
                        (void)mem_read_homes(t, &homes);
                has_homes = true;
                add_home(&homes, v);
        }
        return 0;
}

/* ---- dump: shared memory ---- */

static bool same_memory(const struct mem_area *a, const struct mem_area *b) {
        return b->vma.shared && a->vma.ino == b->vma.ino && a->vma.dev_major == b->vma.dev_major &&
               a->vma.dev_minor == b->vma.dev_minor;
}

static bool same_policy(const Img__Vma *a, const Img__Vma *b) {
        return a->has_mempolicy == b->has_mempolicy && a->mempolicy == b->mempolicy &&
               a->mempolicy_nodes == b->mempolicy_nodes;
}

/* Does another area of the same memory begin within this one, and have another policy? */
static bool is_in_pieces(const struct dump *d, const struct mem_area *area) {
        uint64_t from = area->vma.pgoff, to = from + (area->vma.end - area->vma.start);

        for (size_t i = 0; i < d->nr_tasks; i++) {
                const struct dump_mem *mem = d->tasks[i]->mem;

                for (size_t j = 0; mem && j < mem->areas.n; j++) {
                        const struct mem_area *other = &mem->areas.v[j];

                        if (same_memory(area, other) && other->vma.pgoff > from && other->vma.pgoff < to &&
                            !same_policy(area->msg, other->msg))
                                return true;
                }
        }
        return false;
}

static void forget_policy(Img__Vma *v) {
        v->has_mempolicy = v->has_mempolicy_nodes = v->has_home_node = false;
}

void mem_settle_policies(struct dump *d) {
        for (size_t i = 0; i < d->nr_tasks; i++) {
                struct dump_mem *mem = d->tasks[i]->mem;

                for (size_t j = 0; mem && mem->policies.found.n > 0 && j < mem->areas.n; j++) {
                        struct mem_area *area = &mem->areas.v[j];

                        if (area->msg->has_mempolicy && area->vma.shared)
                                area->in_pieces = is_in_pieces(d, area);
                }
        }
        for (size_t i = 0; i < d->nr_tasks; i++) {
                const struct dump_mem *mem = d->tasks[i]->mem;

                for (size_t j = 0; mem && j < mem->areas.n; j++)
                        if (mem->areas.v[j].in_pieces)
                                forget_policy(mem->areas.v[j].msg);
        }
}

/* ---- restore ---- */

int mem_check_policy(const struct restore_task *t, const Img__Vma *v, struct ckpt_error *err) {
        char what[64];

        if (!v->has_mempolicy)
                return 0;
        snprintf(what, sizeof(what), "pid %d, area at %#llx,", t->pid, (unsigned long long)v->start);
        return numa_check(what, "mbind", v->mempolicy, v->mempolicy_nodes, err);
}

void mem_add_policy(const Img__Vma *v, struct compel_batch *b) {
        uint64_t nodes[2] = { v->mempolicy_nodes }; /* the number of bits is one more than are looked at */
        uint64_t size = v->end - v->start;

        if (!v->has_mempolicy)
                return;
        compel_call(b, "give an area its NUMA policy", SYS_mbind, v->start, size, v->mempolicy,
                    nodes[0] ? compel_copy(b, nodes, sizeof(nodes)) : 0, nodes[0] ? 65 : 0, MPOL_MF_MOVE);
        if (v->has_home_node) {
                struct compel_op *op =
                        compel_call(b, "give an area its NUMA home node", SYS_set_mempolicy_home_node,
                                    v->start, size, v->home_node, 0);

                op->check = COMPEL_CHECK_NOTHING;
        }
}

const struct task_kind mem_policy_kind = {
        .name = "NUMA policies of areas",
        .ask = ask,
        .answer = answer,
};
