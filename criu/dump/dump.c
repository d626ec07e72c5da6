/* SPDX-License-Identifier: GPL-2.0-only */
/* The table of contents of a dump. */
#include "dump/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/action.h"
#include "cli/interrupt.h"
#include "cleanup.h"
#include "dump/facts.h"
#include "dump/stages.h"
#include "dump/tracers.h"
#include "fd/fd.h"
#include "kernel/bpf.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "log.h"
#include "macro.h"
#include "ns/ipc.h"
#include "sock/sock.h"
#include "task/facts.h"
#include "task/hidden.h"
#include "task/seccomp.h"

enum {
        ATTEMPTS_MAX = 5,
        RETRY_PAUSE_MS = 20,
};

static int look(struct dump *d, struct ckpt_error *err) {
        int r;

        r = tree_read(d, d->opts->tree_pid, err);
        if (r == 0)
                r = look_tasks(d, err);
        if (r < 0)
                return r;
        look_sessions(d);
        look_frozen(d);
        return blockers_to_error(d->blockers, "nothing was stopped or changed", err);
}

static int run_action(struct dump *d, enum action action, struct ckpt_error *err) {
        return action_run(d->run, action, d->opts->tree_pid, err);
}

/* -EAGAIN: what stood against it came between look and freeze, or ends by itself once the tree runs again. */
static int freeze_and_collect(struct dump *d, struct ckpt_error *err) {
        uint64_t start = clock_us(CLOCK_MONOTONIC);
        int r;

        log_debug("looked at %zu processes", d->nr_tasks);
        r = freeze(d, err);
        d->stats.freezing_time = clock_us(CLOCK_MONOTONIC) - start;
        log_debug("frozen");
        if (r == 0)
                r = sock_prepare(d, err);
        if (r == 0)
                r = collect(d, err);
        if (r == 0)
                r = ipc_save(d, err);
        if (r == 0)
                r = unix_collect(d, err);
        if (r == 0)
                r = sock_collect(d, err);
        log_debug("collected");
        d->may_retry = r == -EAGAIN;
        return r;
}

/* From the first stop to the last resume; a failure lets the tree go on. */
static int dump_frozen(struct dump *d, struct ckpt_error *err) {
        uint64_t start = clock_us(CLOCK_MONOTONIC), memory;
        int r;

        r = freeze_and_collect(d, err);
        memory = clock_us(CLOCK_MONOTONIC);
        if (r == 0)
                r = save(d, err);
        d->stats.memdump_time = clock_us(CLOCK_MONOTONIC) - memory;
        log_debug("saved");
        if (r == 0)
                r = run_action(d, ACTION_POST_DUMP, err);
        interrupt_not_now();
        if (r == 0)
                r = commit(d, err);
        if (r == 0)
                fd_dump_committed(d);
        log_debug("committed");
        if (r == 0)
                r = dispose(d, err);
        if (r < 0) {
                sock_undo(d);
                thaw(d);
        }
        d->stats.frozen_time = clock_us(CLOCK_MONOTONIC) - start;
        return r;
}

static void show_stats(const struct dump_stats *s) {
        printf("Froze the tree in %" PRIu64 " us, kept it frozen for %" PRIu64 " us\n"
               "Memory: %" PRIu64 " us; scanned %" PRIu64 " pages, wrote %" PRIu64 " (and %" PRIu64
               " of shared memory)\n",
               s->freezing_time, s->frozen_time, s->memdump_time, s->pages_scanned, s->pages_written,
               s->shpages_written);
}

/* The checkpoint is complete, and the tree has ended or runs: this is no reason to fail any more. */
static void finish_stats(struct dump *d) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        if (d->opts->display_stats)
                show_stats(&d->stats);
        if (stats_write_dump(d->run->work_dirfd, &d->stats, &err) < 0)
                log_warn("%s", ckpt_error_message(&err));
}

/* What the look stage works with. */
static int prepare(struct dump *d, struct ckpt_error *err) {
        int r = bpf_new(&d->bpf);

        if (r < 0)
                return ckpt_error_errno(err, r, "cannot begin");
        r = pool_create(1, &d->aside, err);
        if (r == 0)
                hidden_prepare(d);
        return r;
}

static int run_stages(struct dump *d, struct ckpt_error *err) {
        int r;

        raise_descriptor_limit();
        r = kernel_probe_for_dump(&d->kernel, err);
        if (r == 0 && !d->opts->leave_running && !d->opts->leave_stopped)
                r = kill_guard_start(&d->guard, err);
        if (r == 0)
                r = prepare(d, err);
        if (r == 0)
                r = pool_create(0, &d->pool, err);
        if (r == 0)
                r = look(d, err);
        if (r == 0)
                r = image_set_create(d->run->images_dirfd, &dump_image_hooks, &d->set, err);
        if (r == 0 && d->attempt == 1)
                r = run_action(d, ACTION_PRE_DUMP, err);
        if (r == 0)
                r = dump_frozen(d, err);
        if (r == 0)
                finish_stats(d);
        return r;
}

static void release(struct dump *d) {
        kill_guard_disarm(&d->guard);
        task_facts_free(d);
        hidden_free(d);
        pool_free(&d->pool);
        pool_free(&d->aside);
        image_set_abort(d->set);
        sock_dump_free(d);
        fd_dump_free(d);
        ipc_dump_free(d);
        seccomp_dump_free(d);
        tracers_free(d);
        compel_tracer_free(&d->tracer);
        tree_free(d);
        proc_ns_let_go(&d->held_ns);
        blockers_free(&d->blockers);
        free(d->self);
        dump_facts_free(d);
        bpf_free(&d->bpf);
        peek_free(&d->peek);
        d->low_fd = safe_close(d->low_fd);
        kernel_features_done(&d->kernel);
        kill_guard_end(&d->guard);
}

/* Everything anew: nothing that a failed attempt has found out need be true any more. */
static int attempt(struct dump *d, struct ckpt_error *err) {
        int r;

        kernel_features_init(&d->kernel);
        d->guard = KILL_GUARD_INIT;
        d->low_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        d->blockers = blockers_new();
        r = run_stages(d, err);
        release(d);
        return r;
}

/* The tree runs for a moment, and is looked at again as if for the first time. */
static bool try_again(struct dump *d, uint64_t start, struct ckpt_error *err) {
        struct timespec pause = { 0, RETRY_PAUSE_MS * 1000000L };

        if (!d->may_retry || d->attempt == ATTEMPTS_MAX ||
            clock_us(CLOCK_MONOTONIC) - start > 1000000 * (uint64_t)d->opts->timeout)
                return false;
        log_info("%s; trying again", ckpt_error_message(err));
        ckpt_error_clear(err);
        interrupt_says_tree_runs_on();
        *d = (struct dump){
                .run = d->run,
                .opts = d->opts,
                .attempt = d->attempt + 1,
                .trace_all = d->trace_all,
                .no_facts = d->no_facts,
                .peek_lock = PTHREAD_MUTEX_INITIALIZER,
        };
        nanosleep(&pause, NULL);
        return true;
}

int dump_run(struct ckpt_run *run) {
        struct dump d = {
                .run = run, .opts = run->opts, .attempt = 1, .peek_lock = PTHREAD_MUTEX_INITIALIZER
        };
        uint64_t start = clock_us(CLOCK_MONOTONIC);
        int r;

        do
                r = attempt(&d, &run->err);
        while (r < 0 && try_again(&d, start, &run->err));
        if (r == 0)
                log_info("dumped the tree of pid %d", run->opts->tree_pid);
        return r;
}

int dump_look(struct ckpt_run *run, pid_t root, struct blockers **ret) {
        struct dump d = {
                .run = run,
                .opts = run->opts,
                .guard = KILL_GUARD_INIT,
                .low_fd = -EBADF,
                .checking = true,
                .peek_lock = PTHREAD_MUTEX_INITIALIZER,
        };
        int r;

        raise_descriptor_limit();
        kernel_features_init(&d.kernel);
        d.blockers = blockers_new();
        r = kernel_probe_for_dump(&d.kernel, &run->err);
        if (r == 0)
                r = prepare(&d, &run->err);
        if (r == 0)
                r = tree_read(&d, root, &run->err);
        if (r == 0)
                r = look_tasks(&d, &run->err);
        if (r == 0) {
                look_sessions(&d);
                look_frozen(&d);
                *ret = TAKE_PTR(d.blockers);
        }
        release(&d);
        return r;
}
