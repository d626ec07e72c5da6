/* SPDX-License-Identifier: GPL-2.0-only */
/* NUMA policies of areas (mbind(2)): asked of each process while it is visited, given back by mem_finish(). */
#pragma once

#include <stdint.h>

#include "compel/compel.h"
#include "dump/model.h"
#include "images/mm.pb-c.h"
#include "proc/maps.h"
#include "restore/model.h"
#include "vec.h"

struct mem_policy {
        uint64_t start; /* of the area */
        uint32_t mode;  /* with flags, as get_mempolicy(2) tells it; not MPOL_DEFAULT */
        uint64_t nodes; /* bit n: node n */
};
DEFINE_VEC(mem_policy_vec, struct mem_policy);
DEFINE_VEC(mem_start_vec, uint64_t);

/* Of a frozen process. */
struct mem_policies {
        bool listed, current;        /* `starts` is filled; the areas are those of the look */
        int error;                   /* negative errno: the areas cannot be read */
        unsigned int words;          /* of nodes, as this kernel tells them; 0: it has no NUMA */
        struct mem_start_vec starts; /* areas to be asked about, in order */
        size_t done;                 /* of them */
        struct mem_policy_vec found; /* in order */
};

void mem_policies_done(struct mem_policies *p);

/* Once t->mem->areas, which were made of `smaps`, have their messages. -EAGAIN: others than were asked about. */
int mem_add_policies(struct dump_task *t, const struct proc_smap_vec *smaps, struct ckpt_error *err);

/*
 * When all tasks are collected: who maps shared memory in one piece of which another task has given parts policies of their
 * own does not give it one; the other does.
 */
void mem_settle_policies(struct dump *d);

/* Is it one that can be had here? */
int mem_check_policy(const struct restore_task *t, const Img__Vma *v, struct ckpt_error *err);

void mem_add_policy(const Img__Vma *v, struct compel_batch *b);
