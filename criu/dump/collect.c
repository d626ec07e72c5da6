/* SPDX-License-Identifier: GPL-2.0-only */
/* Everything about the tasks but the bytes of their memory. */
#include <errno.h>

#include "dump/stages.h"
#include "dump/tracers.h"
#include "fd/fd.h"
#include "image/wire_values.h"
#include "lib/fault.h"
#include "macro.h"
#include "mem/mem.h"
#include "ns/ipc.h"
#include "sock/sock.h"
#include "task/kind.h"

/* Equal numbers in the inventory's root_ids say that a namespace is ckpt's own. */
void collect_namespace_ids(Img__TaskKobjIds *ids) {
        uint32_t id = 1;

        ids->has_pid_ns_id = ids->has_net_ns_id = ids->has_ipc_ns_id = ids->has_uts_ns_id = true;
        ids->has_mnt_ns_id = ids->has_user_ns_id = ids->has_cgroup_ns_id = ids->has_time_ns_id = true;
        ids->pid_ns_id = id++;
        ids->net_ns_id = id++;
        ids->ipc_ns_id = id++;
        ids->uts_ns_id = id++;
        ids->mnt_ns_id = id++;
        ids->user_ns_id = id++;
        ids->cgroup_ns_id = id++;
        ids->time_ns_id = id++;
}

/* Memory and signal handlers are each task's own (look and freeze see to it); fd/ gives sharers equal files_id, fs_id. */
static void make_ids(struct dump_task *t, size_t index) {
        t->ids = arena_message(&t->arena, Img__TaskKobjIds, img__task_kobj_ids__init);
        t->ids->vm_id = (uint32_t)index + 1;
        t->ids->sighand_id = (uint32_t)index + 1;
        t->ids->files_id = (uint32_t)index + 1;
        t->ids->fs_id = (uint32_t)index + 1;
        collect_namespace_ids(t->ids);
        t->ids->ipc_ns_id = ipc_image_id(t->dump, t->ids->ipc_ns_id);
}

static uint32_t task_state(const struct dump_task *t) {
        if (t->state == 'Z')
                return WIRE_TASK_DEAD;
        return t->state == 'T' ? WIRE_TASK_STOPPED : WIRE_TASK_ALIVE;
}

/* The leader's core exists also when the leader, or the whole process, is dead. */
static void fill_leader_core(struct dump_task *t) {
        Img__TaskCore *tc;

        if (!t->leader_core) {
                t->leader_core = arena_message(&t->arena, Img__Core, img__core__init);
                t->leader_core->mtype = IMG__CORE__MARCH__X86_64;
        }
        if (!t->leader_core->tc)
                t->leader_core->tc = arena_message(&t->arena, Img__TaskCore, img__task_core__init);
        tc = t->leader_core->tc;
        tc->task_state = task_state(t);
        tc->exit_code = (uint32_t)t->stat.exit_code;
        tc->flags = t->stat.flags;
        if (!tc->comm || !*tc->comm)
                tc->comm = arena_strdup(&t->arena, t->stat.comm);
        if (t->state == 'T') {
                tc->has_stop_signo = true;
                tc->stop_signo = (uint32_t)t->threads[0].stop.stop_signal;
        }
        if (t->state != 'Z')
                t->leader_core->ids = t->ids;
}

/* In the worker, or in the main thread when that has nothing else to do. */
static int collect_rest(void *arg, struct ckpt_error *err) {
        struct dump_task *t = arg;
        int r;

        r = task_collect_aside(t, err);
        if (r == 0)
                r = mem_collect(t, err);
        if (r == 0)
                r = fd_collect(t, err);
        if (r == 0)
                fill_leader_core(t);
        return r;
}

static int collect_zombie(struct dump_task *t, struct ckpt_error *err) {
        int r;

        mem_dump_free(&t->mem); /* it may have lived when it was looked at */
        r = task_collect_zombie(t, err);
        if (r == 0)
                fill_leader_core(t);
        return r;
}

/* The tasks that are visited side by side. */
struct group {
        struct dump_task *v[TASK_GROUP_MAX];
        size_t n;
};

static int add_rest(struct dump_task *t, struct ckpt_error *err) {
        if (pool_add(t->dump->aside, collect_rest, t) < 0)
                return ckpt_error_errno(err, -ENOMEM, "cannot go on with pid %d (%s)", t->pid, t->stat.comm);
        return 0;
}

static int collect_group(struct group *g, struct ckpt_error *err) {
        int r = 0;

        if (g->n > 0)
                r = task_collect(g->v, g->n, err);
        for (size_t i = 0; r == 0 && i < g->n; i++)
                if (!g->v[i]->visit_later)
                        r = add_rest(g->v[i], err);
        g->n = 0;
        return r;
}

static int collect_task(struct dump_task *t, struct group *g, struct ckpt_error *err) {
        bool alone = task_collects_alone(t);
        int r = 0;

        if (alone)
                r = collect_group(g, err);
        if (r == 0)
                g->v[g->n++] = t;
        return r == 0 && (alone || g->n == ELEMENTSOF(g->v)) ? collect_group(g, err) : r;
}

/* The processes that this tracer has alone. */
static int collect_part(void *arg, unsigned int tracer, struct ckpt_error *err) {
        const struct dump *d = arg;
        struct group group = { .n = 0 };
        int r = 0;

        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++)
                if (d->tasks[i]->state != 'Z' && !d->tasks[i]->spread && d->tasks[i]->tracer == tracer)
                        r = collect_task(d->tasks[i], &group, err);
        return r < 0 ? r : collect_group(&group, err);
}

static int collect_later(void *arg, unsigned int tracer __attribute__((unused)), struct ckpt_error *err) {
        return task_visit_alone(arg, err);
}

/* Those that nobody else may be visited beside, and those that all tracers share. */
static int collect_others(struct dump *d, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++) {
                struct dump_task *t = d->tasks[i];

                if (t->state == 'Z' || (!t->visit_later && !t->spread))
                        continue;
                if (t->visit_later)
                        r = tracers_run_at(&t->threads[0], collect_later, t, err);
                else
                        r = task_collect_spread(t, err);
                if (r == 0)
                        r = add_rest(t, err);
        }
        return r;
}

static int collect_tasks(struct dump *d, struct ckpt_error *err) {
        int r = 0;

        /* The main thread enters the namespace for it; all tasks want to know. */
        ipc_list_sems(d);
        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++) {
                make_ids(d->tasks[i], i);
                if (d->tasks[i]->state == 'Z')
                        r = collect_zombie(d->tasks[i], err);
        }
        if (r == 0)
                r = tracers_run(d, collect_part, d, err);
        return r < 0 ? r : collect_others(d, err);
}

int collect(struct dump *d, struct ckpt_error *err) {
        int r, waited;

        r = tree_find_parent_threads(d, err);
        if (r == 0)
                r = collect_tasks(d, err);
        waited = pool_join(d->aside, err);
        if (r == 0)
                r = waited;
        if (r == 0)
                r = collect_sharing(d, err);
        if (r == 0)
                r = packet_collect_mapped(d, err);
        if (r == 0)
                r = mem_collect_shared(d, err);
        if (r == 0)
                r = fault_point_error(FAULT_DUMP_COLLECT, err);
        return r;
}
