/* SPDX-License-Identifier: GPL-2.0-only */
#include "task/facts.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/bpf.h"
#include "lib/pool.h"
#include "log.h"
#include "macro.h"
#include "task/internal.h"

/* Once per dump. */
struct task_facts {
        struct bpf *bpf;
        pthread_mutex_t lock;    /* of the rest */
        struct pool_offer offer; /* to open it; of the first who needs it, if nobody has taken it by then */
        bool claimed;
        struct thread_facts *facts; /* NULL: not to be had */
};

/* ---- opening ---- */

static int open_facts(void *arg, struct ckpt_error *err __attribute__((unused))) {
        struct task_facts *f = arg;
        int r = bpf_load(f->bpf);

        if (r == 0)
                r = thread_facts_open(f->bpf, &f->facts);
        if (r < 0)
                log_debug("no BPF iterator: all threads are visited (%s)", strerror(-r));
        return 0;
}

static bool has_many_threads(const struct dump *d) {
        for (size_t i = 0; i < d->nr_tasks; i++)
                if (d->tasks[i]->stat.num_threads >= FACTS_MIN_THREADS)
                        return true;
        return false;
}

void task_facts_prepare(struct dump *d) {
        struct task_facts *f;

        if (d->facts || d->no_facts || !has_many_threads(d))
                return;
        f = d->facts = calloc(1, sizeof(*f));
        ckpt_assert(f);
        f->bpf = d->bpf;
        pthread_mutex_init(&f->lock, NULL);
        f->claimed = pool_offer(d->pool ? d->pool : d->aside, open_facts, f, &f->offer) < 0;
}

static const struct thread_facts *facts_of(const struct dump *d) {
        struct task_facts *f = d->facts;

        if (!f)
                return NULL;
        pthread_mutex_lock(&f->lock);
        if (!f->claimed)
                (void)pool_claim(&f->offer, NULL);
        f->claimed = true;
        pthread_mutex_unlock(&f->lock);
        return f->facts;
}

void task_facts_free(struct dump *d) {
        struct task_facts *f = d->facts;

        if (!f)
                return;
        if (!f->claimed)
                pool_withdraw(&f->offer);
        pthread_mutex_destroy(&f->lock);
        thread_facts_free(&f->facts);
        free(f);
        d->facts = NULL;
}

/* ---- threads ---- */

static void read_facts(struct dump_task *t, size_t nr_threads) {
        const struct thread_facts *facts = nr_threads >= FACTS_MIN_THREADS ? facts_of(t->dump) : NULL;
        int r = facts ? thread_facts_read(facts, t->pid, &t->facts) : 0;

        if (r < 0)
                log_debug("%s: all its threads are asked (%s)", dump_task_name(t), strerror(-r));
}

static bool have_one_table(const struct dump_task *t) {
        for (size_t i = 0; i < t->facts.n; i++)
                if (!thread_facts_same_tables(&t->facts.v[i], &t->facts.v[0]))
                        return false;
        return t->facts.n > 0;
}

void task_facts_look(struct dump_task *t) {
        read_facts(t, t->stat.num_threads > 0 ? (size_t)t->stat.num_threads : 0);
        t->seen_areas = t->facts.n > 0 ? t->facts.v[0].areas : 0;
        t->seen_sharing = have_one_table(t);
}

void task_facts_read(struct dump_task *t) {
        thread_fact_vec_done(&t->facts);
        read_facts(t, t->nr_threads);
}

bool task_facts_same_namespaces(const struct dump_task *t, pid_t a, pid_t b) {
        const struct thread_fact *x = thread_facts_find(&t->facts, a), *y = thread_facts_find(&t->facts, b);

        return x && y && x->namespaces == y->namespaces && x->namespaces != 0;
}

bool task_facts_same_tables(const struct dump_task *t, pid_t a, pid_t b) {
        const struct thread_fact *x = thread_facts_find(&t->facts, a), *y = thread_facts_find(&t->facts, b);

        return x && y && thread_facts_same_tables(x, y);
}

bool task_facts_same_status(const struct dump_task *t, pid_t a, pid_t b) {
        const struct thread_fact *x = thread_facts_find(&t->facts, a), *y = thread_facts_find(&t->facts, b);

        return x && y && x->seccomp == y->seccomp && x->features == y->features;
}

const struct thread_fact *task_fact_of(const struct dump_thread *t) {
        return thread_facts_find(&t->task->facts, t->tid);
}

const struct dump_thread *task_facts_like(const struct facts_known *known, const struct dump_thread *t) {
        const struct thread_fact *fact = task_fact_of(t);

        for (size_t i = 0; fact && i < known->n; i++)
                if (thread_facts_alike(fact, task_fact_of(known->v[i])))
                        return known->v[i];
        return NULL;
}

static int disagree(const struct dump_thread *t, struct ckpt_error *err) {
        __atomic_store_n(&t->task->dump->no_facts, true, __ATOMIC_RELAXED);
        return ckpt_error(err, -EAGAIN,
                          "%s: what BPF tells of it is not what it tells itself; the tree runs on",
                          dump_thread_name(t));
}

static void note_known(struct facts_known *known, const struct dump_thread *t) {
        if (known->n < ELEMENTSOF(known->v))
                known->v[known->n++] = t;
}

/* Threads of a process share their memory, so that what the status tells of that is the same. */
bool task_facts_infer_status(const struct facts_known *known, struct dump_thread *t) {
        const struct thread_fact *fact = task_fact_of(t);
        const struct proc_status *from = NULL;

        for (size_t i = 0; fact && !from && i < known->n; i++)
                if (thread_facts_same_rights(fact, task_fact_of(known->v[i])))
                        from = &known->v[i]->status;
        if (!from)
                return false;
        t->status = *from;
        t->status.groups = (struct gid_vec){ 0 };
        for (size_t i = 0; i < from->groups.n; i++)
                ckpt_assert(gid_vec_push(&t->status.groups, from->groups.v[i]) == 0);
        t->status.pid = t->tid;
        t->status.sig_pnd = fact->pending;
        t->status.sig_blk = t->stop.sigmask;
        t->status.present &= ~(1ULL << PROC_STATUS_SLEEPS | 1ULL << PROC_STATUS_THREAD_FEATURES |
                               1ULL << PROC_STATUS_NSPID);
        return true;
}

int task_facts_status_read(struct facts_known *known, const struct dump_thread *t, struct ckpt_error *err) {
        const struct thread_fact *fact = task_fact_of(t);

        if (!fact)
                return 0;
        if (fact->seccomp != t->status.seccomp)
                return disagree(t, err);
        note_known(known, t);
        return 0;
}

static bool agrees(const struct dump_thread *t, const struct thread_fact *fact) {
        const Img__ThreadCore *core = dump_thread_core(t);

        return strncmp(core->comm, fact->comm, sizeof(fact->comm)) == 0 &&
               t->core->thread_info->clear_tid_addr == fact->tid_address &&
               core->sas->ss_sp == fact->ss_sp && core->sas->ss_size == fact->ss_size &&
               core->sas->ss_flags == fact->ss_flags;
}

int task_facts_visited(struct facts_known *known, const struct dump_thread *t, struct ckpt_error *err) {
        const struct thread_fact *fact = task_fact_of(t);

        if (!fact)
                return 0;
        if (!agrees(t, fact))
                return disagree(t, err);
        note_known(known, t);
        return 0;
}
