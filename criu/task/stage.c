/* SPDX-License-Identifier: GPL-2.0-only */
/* The kinds, one after the other, for the stages of dump and restore. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/fault.h"
#include "task/internal.h"

enum { PASSES_MAX = 100 };

/* ---- helpers of the kinds ---- */

const char *dump_thread_name(const struct dump_thread *t) {
        if (t->tid == t->task->pid)
                return dump_task_name(t->task);
        return arena_printf(&t->task->arena, "%s, thread %d", dump_task_name(t->task), t->tid);
}

const char *restore_thread_name(const struct restore_thread *t) {
        if (t->tid == t->task->pid)
                return restore_task_name(t->task);
        return arena_printf(&t->task->arena, "%s, thread %d", restore_task_name(t->task), t->tid);
}

int task_write_proc(pid_t pid, const char *name, const char *value) {
        _cleanup_close_ int fd = -EBADF;
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

/* ---- dump ---- */

void task_look(struct dump_task *t) {
        for (size_t i = 0; i < nr_task_kinds; i++)
                if (task_kinds[i]->look)
                        task_kinds[i]->look(t);
}

/* Does this kind have a part in this thread? */
static bool is_dumped_by(const struct task_kind *kind, const struct dump_thread *t) {
        return kind->per_thread || t == &t->task->threads[0];
}

static void make_core(struct dump_thread *t) {
        struct arena *a = &t->task->arena;

        t->core = arena_message(a, Img__Core, img__core__init);
        t->core->mtype = IMG__CORE__MARCH__X86_64;
        t->core->thread_info = arena_message(a, Img__ThreadInfoX86, img__thread_info_x86__init);
        t->core->thread_info->gpregs = arena_message(a, Img__UserX86Regs, img__user_x86_regs__init);
        t->core->thread_info->fpregs = arena_message(a, Img__UserX86Fpregs, img__user_x86_fpregs__init);
        t->core->thread_core = arena_message(a, Img__ThreadCore, img__thread_core__init);
}

/* A leader that has exited keeps a core with the process-wide part and nothing else. */
static void make_cores(struct dump_task *t) {
        struct arena *a = &t->arena;

        for (size_t i = 0; i < t->nr_threads; i++)
                make_core(&t->threads[i]);
        if (t->leader_dead) {
                t->leader_core = arena_message(a, Img__Core, img__core__init);
                t->leader_core->mtype = IMG__CORE__MARCH__X86_64;
        } else
                t->leader_core = t->threads[0].core;
        t->leader_core->ids = t->ids;
        t->leader_core->tc = arena_message(a, Img__TaskCore, img__task_core__init);
        t->leader_core->tc->comm = arena_strdup(a, t->stat.comm);
}

static int read_thread(struct dump_thread *t, struct ckpt_error *err) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        int r;

        proc_status_done(&t->status);
        r = proc_status_read(&t->proc, &buf, &t->status);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its status", dump_thread_name(t));
        for (size_t i = 0; r == 0 && i < nr_task_kinds; i++)
                if (task_kinds[i]->read && is_dumped_by(task_kinds[i], t))
                        r = task_kinds[i]->read(t, err);
        return r;
}

/* compel wants the threads of a process side by side: copies, which go back when the visit ends. */
struct visiting {
        struct dump_task *task;
        struct compel_thread *stops;
        struct compel_visit *visit;
};

static void visiting_done(struct visiting *v) {
        compel_visit_free(&v->visit);
        for (size_t i = 0; v->stops && i < v->task->nr_threads; i++)
                v->task->threads[i].stop = v->stops[i];
        free(v->stops);
}

static int visiting_begin(struct visiting *v, struct ckpt_error *err) {
        int r;

        ckpt_assert(v->task->nr_threads > 0);
        v->stops = calloc(v->task->nr_threads + 1, sizeof(*v->stops));
        ckpt_assert(v->stops);
        for (size_t i = 0; i < v->task->nr_threads; i++)
                v->stops[i] = v->task->threads[i].stop;
        r = compel_visit_begin(v->stops, v->task->nr_threads, &v->visit, err);
        if (r == -EAGAIN)
                return ckpt_error(
                        err, r,
                        "%s has not left yet what a ckpt that was killed had it do; it does that by itself as "
                        "soon as it runs; the tree runs on",
                        dump_task_name(v->task));
        return r;
}

/* One passage through the agent. 1: once more, please. */
static int pass(struct visiting *v, size_t index, struct ckpt_error *err) {
        struct compel_batch *b = compel_visit_batch(v->visit);
        struct dump_thread *t = &v->task->threads[index];
        void **asked = arena_new_array(&v->task->arena, void *, nr_task_kinds);
        int r;

        compel_reset(b);
        for (size_t i = 0; i < nr_task_kinds; i++)
                if (task_kinds[i]->ask && is_dumped_by(task_kinds[i], t))
                        asked[i] = task_kinds[i]->ask(t, b);
        r = compel_visit_run(v->visit, &v->stops[index], err);
        t->stop = v->stops[index];
        for (size_t i = 0; r == 0 && i < nr_task_kinds; i++)
                if (task_kinds[i]->answer && is_dumped_by(task_kinds[i], t))
                        r = task_kinds[i]->answer(t, b, asked[i], err);
        return r;
}

static int visit_thread(struct visiting *v, size_t index, struct ckpt_error *err) {
        int r = 1;

        for (int i = 0; r > 0 && i < PASSES_MAX; i++)
                r = pass(v, index, err);
        if (r > 0)
                return ckpt_error(err, -EBUSY,
                                  "%s: its state changes while it is being read; the tree runs on",
                                  dump_thread_name(&v->task->threads[index]));
        return r;
}

static int visit(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_(visiting_done) struct visiting v = { .task = t };
        int r;

        r = visiting_begin(&v, err);
        if (r == 0)
                r = fault_point_error(FAULT_DUMP_INJECT_MMAP, err);
        for (size_t i = 0; r == 0 && i < t->nr_threads; i++) {
                r = visit_thread(&v, i, err);
                /* The first thread stays inside until the end. */
                if (r == 0 && i == 0)
                        r = fault_point_error(FAULT_DUMP_IN_AGENT, err);
        }
        if (r == 0)
                r = compel_visit_end(v.visit, err);
        if (r == 0)
                r = fault_point_error(FAULT_DUMP_AGENT_LEFT, err);
        return r;
}

int task_collect(struct dump_task *t, struct ckpt_error *err) {
        int r = 0;

        ckpt_assert(t->nr_threads > 0);
        make_cores(t);
        for (size_t i = 0; r == 0 && i < t->nr_threads; i++)
                r = read_thread(&t->threads[i], err);
        return r < 0 ? r : visit(t, err);
}

/* ---- restore ---- */

static size_t first_living(const struct restore_task *t) {
        return t->leader_dead ? 1 : 0;
}

static int check_parts(const struct restore_thread *t, struct ckpt_error *err) {
        const Img__Core *core = t->core;

        if (core->thread_core && core->thread_info && core->thread_info->gpregs && core->thread_info->fpregs)
                return 0;
        return ckpt_error(err, -EBADMSG, "core-%d.img lacks the registers or attributes of the thread",
                          t->tid);
}

int task_check(struct restore_task *t, struct ckpt_error *err) {
        size_t first = first_living(t);
        int r = 0;

        for (size_t i = first; r == 0 && i < t->nr_threads; i++)
                r = check_parts(&t->threads[i], err);
        for (size_t k = 0; r == 0 && k < nr_task_kinds; k++) {
                const struct task_kind *kind = task_kinds[k];

                for (size_t i = first;
                     r == 0 && kind->check && i < (kind->per_thread ? t->nr_threads : first + 1); i++)
                        r = kind->check(&t->threads[i], err);
        }
        return r;
}

/* Calls fn for each kind of the phase and each thread that it has a part in. */
static int for_phase(struct restore_task *t, enum task_phase phase,
                     int (*fn)(const struct task_kind *kind, struct restore_thread *t,
                               struct ckpt_error *err),
                     struct ckpt_error *err) {
        size_t first = first_living(t);
        int r = 0;

        for (size_t k = 0; r == 0 && k < nr_task_kinds; k++) {
                const struct task_kind *kind = task_kinds[k];

                if (kind->phase != phase)
                        continue;
                for (size_t i = first; r == 0 && i < (kind->per_thread ? t->nr_threads : first + 1); i++)
                        r = fn(kind, &t->threads[i], err);
        }
        return r;
}

static int fill(const struct task_kind *kind, struct restore_thread *t, struct ckpt_error *err) {
        return kind->restore ? kind->restore(t, &t->lane, err) : 0;
}

static int do_outside(const struct task_kind *kind, struct restore_thread *t, struct ckpt_error *err) {
        return kind->outside ? kind->outside(t, err) : 0;
}

/* As compel_run() begins. */
static int start_lane(struct compel_batch *b, struct ckpt_error *err) {
        if (b->error < 0 && ckpt_error_is_set(&b->failure))
                return ckpt_error(err, b->error, "%s", ckpt_error_message(&b->failure));
        if (b->error < 0)
                return ckpt_error_errno(err, b->error, "pid %d: cannot hand over its system calls", b->tid);
        if (b->n > 0)
                compel_start(b);
        return 0;
}

static int start_lanes(struct restore_task *t, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < t->nr_threads; i++)
                r = start_lane(&t->threads[i].lane, err);
        return r;
}

/* Everything that was started is waited for, also after an error; the first one counts. */
static int wait_lanes(struct restore_task *t, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; i < t->nr_threads; i++) {
                struct compel_batch *b = &t->threads[i].lane;
                int r;

                if (!b->started)
                        continue;
                r = compel_wait(b, err);
                if (r == 0)
                        compel_reset(b);
                else if (ret == 0)
                        ret = r;
        }
        return ret;
}

int task_restore_phase(struct restore *r, enum task_phase phase, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_LIVE)
                        ret = for_phase(r->tasks[i], phase, fill, err);
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_LIVE)
                        ret = start_lanes(r->tasks[i], err);
        for (size_t i = 0; i < r->nr_tasks; i++) {
                int waited = r->tasks[i]->kind == RESTORE_TASK_LIVE ? wait_lanes(r->tasks[i], err) : 0;

                if (ret == 0)
                        ret = waited;
        }
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_LIVE)
                        ret = for_phase(r->tasks[i], phase, do_outside, err);
        return ret;
}
