/* SPDX-License-Identifier: GPL-2.0-only */
#include "dump/facts.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "macro.h"

enum { MANY_TASKS = 256 /* what it takes to load it is worth it */ };

struct dump_facts {
        struct process_facts *source;
        struct process_fact_vec facts;
        bool there; /* atomic */
};

static void stop_using(struct dump_facts *f, int r) {
        if (r < 0)
                log_debug("what processes have in common is asked of each (%s)", strerror(-r));
        f->there = false;
        f->facts.n = 0;
}

static int read_first(void *arg, struct ckpt_error *err __attribute__((unused))) {
        struct dump *d = arg;
        struct dump_facts *f = d->process_facts;
        int r = f->source ? 0 : process_facts_open(d->bpf, &f->source);

        if (r == 0)
                r = process_facts_read(f->source, &f->facts);
        if (r < 0)
                stop_using(f, r);
        else
                __atomic_store_n(&f->there, true, __ATOMIC_RELEASE);
        return 0;
}

void dump_facts_look(struct dump *d) {
        if (d->process_facts || d->nr_tasks < MANY_TASKS || !d->aside)
                return;
        d->process_facts = calloc(1, sizeof(*d->process_facts));
        if (d->process_facts && pool_add(d->aside, read_first, d) < 0)
                dump_facts_free(d);
}

static int compare_tasks(const void *a, const void *b, void *part_) {
        enum process_part part = *(enum process_part *)part_;
        uint64_t x = (*(struct dump_task *const *)a)->fact->part[part],
                 y = (*(struct dump_task *const *)b)->fact->part[part];

        return x < y ? -1 : x > y;
}

/* Of processes that are all known, those whose number no other has. */
static void find_alone(struct dump_task **tasks, size_t n, enum process_part part) {
        qsort_r(tasks, n, sizeof(struct dump_task *), compare_tasks, &part);
        for (size_t i = 0; i < n; i++)
                if ((i == 0 || compare_tasks(&tasks[i - 1], &tasks[i], &part) != 0) &&
                    (i + 1 == n || compare_tasks(&tasks[i], &tasks[i + 1], &part) != 0))
                        tasks[i]->alone |= 1U << part;
}

static void note_facts(struct dump *d) {
        _cleanup_free_ struct dump_task **tasks = calloc(d->nr_tasks, sizeof(struct dump_task *));
        bool all = true;
        size_t n = 0;

        ckpt_assert(tasks);
        for (size_t i = 0; i < d->nr_tasks; i++) {
                struct dump_task *t = d->tasks[i];

                t->fact = t->nr_threads > 0 ? process_facts_find(&d->process_facts->facts, t->pid) : NULL;
                t->alone = 0;
                all &= t->fact || t->nr_threads == 0;
                if (t->fact)
                        tasks[n++] = t;
        }
        for (enum process_part part = 0; all && part < PROCESS_PARTS_MAX; part++)
                find_alone(tasks, n, part);
}

void dump_facts_freeze(struct dump *d) {
        struct dump_facts *f = d->process_facts;
        int r;

        if (!f || !f->there)
                return;
        r = process_facts_read(f->source, &f->facts);
        if (r < 0) {
                stop_using(f, r);
                return;
        }
        note_facts(d);
}

void dump_facts_free(struct dump *d) {
        if (!d->process_facts)
                return;
        process_facts_free(&d->process_facts->source);
        process_fact_vec_done(&d->process_facts->facts);
        free(d->process_facts);
        d->process_facts = NULL;
}

const struct process_fact *dump_fact_seen(const struct dump_task *t) {
        const struct dump_facts *f = t->dump->process_facts;

        if (!f || !__atomic_load_n(&f->there, __ATOMIC_ACQUIRE))
                return NULL;
        return process_facts_find(&f->facts, t->pid);
}
