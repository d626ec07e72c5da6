/* SPDX-License-Identifier: GPL-2.0-only */
#include "mem/mem.h"
#include "macro.h"
#include "restore/stages.h"
#include "task/seccomp.h"

enum {
        LEADER_LANE_SIZE = 512 * 1024,
        HELPER_LANE_SIZE = 64 * 1024,
        THREAD_LANE_SIZE = 32 * 1024,
};

/* The list of groups and seccomp filters are the attributes of a thread without a small bound. */
static size_t thread_lane_size(const struct restore_thread *th) {
        size_t groups = 0;

        if (th->core && th->core->thread_core && th->core->thread_core->creds)
                groups = th->core->thread_core->creds->n_groups;
        return THREAD_LANE_SIZE + page_align_up(groups * sizeof(uint32_t)) +
               page_align_up(seccomp_lane_room(th));
}

static size_t lane_size(const struct restore_task *t, size_t thread) {
        size_t extra = thread_lane_size(&t->threads[thread]) - THREAD_LANE_SIZE;

        if (thread > 0)
                return THREAD_LANE_SIZE + extra;
        return (t->kind == RESTORE_TASK_LIVE ? LEADER_LANE_SIZE : HELPER_LANE_SIZE) + extra;
}

int lanes_create(struct restore *r, struct ckpt_error *err) {
        size_t size = compel_host_overhead();
        raddr_t addr;
        int ret;

        for (size_t i = 0; i < r->nr_tasks; i++)
                for (size_t j = 0; j < r->tasks[i]->nr_threads; j++)
                        size += lane_size(r->tasks[i], j);
        ret = mem_find_hole(r, size, &addr, err);
        if (ret == 0)
                ret = compel_host_create(addr, size, &r->host, err);
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                for (size_t j = 0; ret == 0 && j < r->tasks[i]->nr_threads; j++) {
                        struct restore_thread *th = &r->tasks[i]->threads[j];

                        ret = compel_host_lane(r->host, lane_size(r->tasks[i], j), &th->lane, err);
                        th->lane.tid = th->tid;
                }
        return ret;
}

int lane_wait(struct restore_task *t, struct ckpt_error *err) {
        struct compel_batch *b = task_lane(t);
        int ret = 0;

        if (b->started)
                ret = compel_wait(b, err);
        else if (b->error)
                ret = compel_run(b, err);
        if (ret == 0)
                compel_reset(b);
        return ret;
}
