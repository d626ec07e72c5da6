/* SPDX-License-Identifier: GPL-2.0-only */
/* The table of contents of a restore. */
#include "restore/restore.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/action.h"
#include "cli/interrupt.h"
#include "cli/pidfile.h"
#include "fd/fd.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "log.h"
#include "mem/mem.h"
#include "ns/ipc.h"
#include "ns/time.h"
#include "restore/inherit.h"
#include "restore/stages.h"
#include "sock/sock.h"
#include "task/kind.h"
#include "task/seccomp.h"

static int run_action(struct restore *r, enum action action, struct ckpt_error *err) {
        return action_run(r->run, action, r->tasks[0]->pid, err);
}

/* Nothing exists yet, but everything that can be known beforehand is. */
static int prepare(struct restore *r, struct ckpt_error *err) {
        int ret;

        ret = kernel_probe_for_restore(&r->kernel, err);
        if (ret == 0)
                ret = pool_create(0, &r->pool, err);
        if (ret == 0)
                ret = load(r, err);
        if (ret == 0)
                ret = plan_tree(r, err);
        if (ret == 0)
                ret = check_pids(r, err);
        if (ret == 0)
                ret = plan_sharing(r, err);
        if (ret == 0)
                ret = run_action(r, ACTION_PRE_RESTORE, err);
        if (ret == 0)
                ret = inherit_init(r, err);
        if (ret == 0)
                ret = mem_prepare(r, err);
        if (ret == 0)
                fd_prepare(r);
        if (ret == 0)
                ret = lanes_create(r, err);
        if (ret == 0)
                ret = time_enter(r, err);
        if (ret == 0)
                ret = ipc_enter(r, err);
        return ret;
}

/*
 * Children have been cloned from it, so its memory may become what it is to be. What is added here runs with the batch
 * that fills its descriptor table.
 */
static int finish_memory(struct restore *r, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];

                if (t->kind != RESTORE_TASK_LIVE)
                        continue;
                ret = mem_finish(t, task_lane(t), err);
        }
        return ret;
}

static int restore_attributes(struct restore *r, struct ckpt_error *err) {
        int ret = task_restore(r, err);

        return ret < 0 ? ret : fault_point_error(FAULT_RESTORE_ATTRIBUTES, err);
}

/* From the first task to the point of no return. */
static int build(struct restore *r, struct ckpt_error *err) {
        uint64_t start = clock_us(CLOCK_MONOTONIC);
        int ret;

        log_debug("loaded");
        ret = build_tree(r, err);
        if (ret == -ENOMEM && !err->hint)
                ckpt_error_hint(
                        err, "Memory is short, or vm.max_map_count (sysctl) too low for its memory areas");
        r->stats.forking_time = clock_us(CLOCK_MONOTONIC) - start;
        log_debug("the tree is there");
        if (ret == 0)
                ret = finish_memory(r, err);
        if (ret == 0)
                ret = fd_restore(r, err);
        if (ret == 0)
                ret = ipc_leave(r, err);
        log_debug("memory and files are there");
        if (ret == 0)
                ret = build_threads(r, err);
        if (ret == 0)
                ret = fd_restore_owners(r, err);
        log_debug("threads are there");
        if (ret == 0)
                ret = restore_attributes(r, err);
        log_debug("attributes are set");
        if (ret == 0)
                ret = run_action(r, ACTION_POST_RESTORE, err);
        if (ret == 0)
                ret = finish(r, err);
        log_debug("finished");
        if (ret == 0)
                ret = sock_restore(r, err);
        if (ret == 0)
                ret = run_action(r, ACTION_PRE_RESUME, err);
        return ret;
}

static void show_stats(const struct restore_stats *s) {
        printf("Restored in %" PRIu64 " us, of which %" PRIu64 " us for the tree and its memory\n"
               "Memory: restored %" PRIu64 " pages; %" PRIu64 " are still shared with a parent\n",
               s->restore_time, s->forking_time, s->pages_restored, s->pages_skipped_cow);
}

static void finish_stats(struct restore *r) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        if (r->opts->display_stats)
                show_stats(&r->stats);
        /* The tree runs: this is no reason to fail any more. */
        if (stats_write_restore(r->run->work_dirfd, &r->stats, &err) < 0)
                log_warn("%s", ckpt_error_message(&err));
}

static void release(struct restore *r) {
        fd_restore_free(r);
        inherit_done(r);
        ipc_restore_free(r);
        team_free(&r->tracers);
        load_free(r);
        seccomp_load_free(r);
        compel_host_free(&r->host);
        image_dir_free(r->dir);
        pool_free(&r->pool);
        arena_done(&r->arena);
        free(r->self);
        kernel_features_done(&r->kernel);
}

int restore_run(struct ckpt_run *run) {
        struct restore r = {
                .run = run, .opts = run->opts, .transport = -EBADF, .naming = PTHREAD_MUTEX_INITIALIZER
        };
        uint64_t start = clock_us(CLOCK_MONOTONIC);
        int ret;

        kernel_features_init(&r.kernel);
        ret = prepare(&r, &run->err);
        if (ret == 0)
                ret = build(&r, &run->err);
        interrupt_not_now();
        /* Not before: it would stay behind. */
        if (ret == 0)
                ret = pidfile_write(run, r.tasks[0]->pid, &run->err);
        if (ret == 0)
                ret = sock_resume(&r, &run->err);
        if (ret == 0)
                ret = resume(&r, &run->err);
        if (ret == 0) {
                run->root_pid = r.tasks[0]->pid;
                fd_restore_remove_links(&r);
                r.stats.restore_time = clock_us(CLOCK_MONOTONIC) - start;
                action_run(run, ACTION_POST_RESUME, run->root_pid, &run->err);
                finish_stats(&r);
                log_info("restored the tree of pid %d", run->root_pid);
        } else
                undo(&r);
        release(&r);
        return ret;
}
