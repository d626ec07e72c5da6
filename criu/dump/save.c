/* SPDX-License-Identifier: GPL-2.0-only */
/* From the model to images. Memory is the bulk and goes first. */
#include <errno.h>
#include <stdlib.h>

#include "cleanup.h"
#include "dump/stages.h"
#include "fd/fd.h"
#include "images/pstree.pb-c.h"
#include "lib/fault.h"
#include "macro.h"
#include "mem/mem.h"
#include "ns/time.h"
#include "task/seccomp.h"
#include "vec.h"

enum { CORES_PART = 64 };

static int store(struct dump_task *t, enum image_kind kind, pid_t id, const ProtobufCMessage *message,
                 struct ckpt_error *err) {
        int r = fault_point_error(FAULT_DUMP_WRITE_IMAGE, err);

        return r < 0 ? r : image_store(t->dump->set, kind, (unsigned long)id, message, err);
}

/* Threads of a process, from number `from` on, which are saved in one go. */
struct cores_part {
        struct dump_task *task;
        size_t from;
};

DEFINE_VEC(cores_part_vec, struct cores_part);

static int save_cores(const struct cores_part *part, struct ckpt_error *err) {
        struct dump_task *t = part->task;
        size_t to = MIN(t->nr_threads, part->from + CORES_PART);
        int r = 0;

        for (size_t i = part->from; r == 0 && i < to; i++)
                if (t->threads[i].tid != t->pid)
                        r = store(t, IMAGE_CORE, t->threads[i].tid, &t->threads[i].core->base, err);
        return r;
}

static int save_cores_part(void *arg, struct ckpt_error *err) {
        return save_cores(arg, err);
}

static int save_task(void *arg, struct ckpt_error *err) {
        struct dump_task *t = arg;
        int r;

        r = store(t, IMAGE_CORE, t->pid, &t->leader_core->base, err);
        if (r == 0)
                r = save_cores(&(struct cores_part){ .task = t }, err);
        if (r < 0 || t->state == 'Z')
                return r;
        r = mem_save(t, err);
        if (r == 0)
                r = store(t, IMAGE_IDS, t->pid, &t->ids->base, err);
        if (r == 0)
                r = fd_save_task(t, err);
        return r;
}

static int save_shared(void *arg, struct ckpt_error *err) {
        struct dump *d = arg;
        int r;

        r = mem_save_shared(d, err);
        if (r == 0)
                r = time_save(d, err);
        if (r == 0)
                r = seccomp_save(d, err);
        return r < 0 ? r : fd_save_files(d, err);
}

static int write_pstree_entry(struct dump_task *t, struct image_file *file, struct ckpt_error *err) {
        _cleanup_free_ uint32_t *threads =
                calloc(t->nr_threads + 1, sizeof(*threads)); /* the arena is a worker's */
        Img__Pstree entry = IMG__PSTREE__INIT;

        entry.pid = (uint32_t)t->pid;
        entry.ppid = t->parent ? (uint32_t)t->parent->pid : 0;
        entry.pgid = (uint32_t)t->stat.pgid;
        entry.sid = (uint32_t)t->stat.sid;
        ckpt_assert(threads);
        entry.threads = threads;
        entry.threads[entry.n_threads++] = (uint32_t)t->pid;
        for (size_t i = 0; i < t->nr_threads; i++)
                if (t->threads[i].tid != t->pid)
                        entry.threads[entry.n_threads++] = (uint32_t)t->threads[i].tid;
        entry.has_parent_tid = t->parent_tid != 0;
        entry.parent_tid = (uint32_t)t->parent_tid;
        return image_write(file, &entry.base, err);
}

static int save_pstree(struct dump *d, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        struct image_file *done;
        int r;

        r = image_open_write(d->set, IMAGE_PSTREE, 0, &file, err);
        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++)
                r = write_pstree_entry(d->tasks[i], file, err);
        if (r < 0)
                return r;
        done = file;
        file = NULL;
        return image_close(done, err);
}

/* Workers take the other parts of processes with many threads side by side. */
static int add_parts(struct dump *d, struct cores_part_vec *parts) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++)
                for (size_t from = CORES_PART; r == 0 && from < d->tasks[i]->nr_threads; from += CORES_PART)
                        r = cores_part_vec_push(parts, (struct cores_part){ d->tasks[i], from });
        for (size_t i = 0; r == 0 && i < parts->n; i++)
                r = pool_add(d->pool, save_cores_part, &parts->v[i]);
        return r;
}

int save(struct dump *d, struct ckpt_error *err) {
        _cleanup_(cores_part_vec_done) struct cores_part_vec parts = { 0 };
        int r = 0, r2;

        for (size_t i = 0; r == 0 && i < d->nr_tasks; i++)
                r = pool_add(d->pool, save_task, d->tasks[i]);
        if (r == 0)
                r = add_parts(d, &parts);
        if (r == 0)
                r = pool_add(d->pool, save_shared, d);
        if (r < 0)
                ckpt_error_errno(err, r, "cannot hand the tree to the worker threads");
        if (r == 0)
                r = save_pstree(d, err);
        r2 = pool_wait(d->pool, err);
        return r < 0 ? r : r2;
}
