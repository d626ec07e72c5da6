/* SPDX-License-Identifier: GPL-2.0-only */
/* From images to the model. Images are input: everything is checked before anything is created. */
#include <errno.h>
#include <stdlib.h>

#include "cleanup.h"
#include "fd/fd.h"
#include "image/wire_values.h"
#include "lib/fault.h"
#include "macro.h"
#include "mem/mem.h"
#include "ns/ipc.h"
#include "ns/time.h"
#include "restore/stages.h"
#include "task/kind.h"
#include "task/seccomp.h"

enum {
        PID_LIMIT = 4 * 1024 * 1024, /* PID_MAX_LIMIT of the kernel */
        THREADS_MAX = 1024 * 1024,
        SPREAD_MIN = 64, /* threads of a process */
};

struct restore_task *restore_find_task(const struct restore *r, pid_t pid) {
        for (size_t i = 0; i < r->nr_tasks; i++)
                if (r->tasks[i]->pid == pid)
                        return r->tasks[i];
        return NULL;
}

const char *restore_task_name(struct restore_task *t) {
        const char *comm = "helper";

        if (t->nr_threads > 0 && t->threads[0].core && t->threads[0].core->tc)
                comm = t->threads[0].core->tc->comm;
        pthread_mutex_lock(&t->restore->naming);
        comm = arena_printf(&t->arena, "pid %d (%s)", t->pid, comm);
        pthread_mutex_unlock(&t->restore->naming);
        return comm;
}

static void free_task(struct restore_task *t) {
        for (size_t i = 0; i < t->nr_threads; i++) {
                if (t->threads[i].core)
                        img__core__free_unpacked(t->threads[i].core, NULL);
                compel_batch_done(&t->threads[i].lane);
        }
        free(t->threads);
        mem_restore_free(&t->mem);
        if (t->pstree)
                img__pstree__free_unpacked(t->pstree, NULL);
        if (t->ids)
                img__task_kobj_ids__free_unpacked(t->ids, NULL);
        if (t->mm)
                img__mm__free_unpacked(t->mm, NULL);
        if (t->fs)
                img__fs__free_unpacked(t->fs, NULL);
        arena_done(&t->arena);
        free(t);
}

void load_free(struct restore *r) {
        for (size_t i = 0; i < r->nr_tasks; i++)
                free_task(r->tasks[i]);
        free(r->tasks);
        r->tasks = NULL;
        r->nr_tasks = 0;
}

static bool valid_pid(uint32_t pid) {
        return pid > 1 && pid < PID_LIMIT;
}

/* Is any of these threads already somebody's? Ids are few and sorted by nobody: a bitmap would be 512 KiB. */
static bool tid_taken(const struct restore *r, uint32_t tid) {
        for (size_t i = 0; i < r->nr_tasks; i++)
                for (size_t j = 0; j < r->tasks[i]->nr_threads; j++)
                        if (r->tasks[i]->threads[j].tid == (pid_t)tid)
                                return true;
        return false;
}

static bool is_thread_of(const struct restore_task *t, uint32_t tid) {
        for (size_t i = 0; t && i < t->nr_threads; i++)
                if (t->threads[i].tid == (pid_t)tid)
                        return true;
        return false;
}

static int check_entry(const struct restore *r, const struct image_file *file, const Img__Pstree *e,
                       struct ckpt_error *err) {
        if (!valid_pid(e->pid) || e->sid >= PID_LIMIT || e->pgid >= PID_LIMIT)
                return image_damaged(file, err,
                                     "pid %u, session %u and group %u are no numbers of a process", e->pid,
                                     e->sid, e->pgid);
        if (r->nr_tasks == 0 ? e->ppid != 0 : !restore_find_task(r, (pid_t)e->ppid))
                return image_damaged(file, err, "the parent of pid %u, pid %u, does not stand before it",
                                     e->pid, e->ppid);
        if (e->n_threads == 0 || e->n_threads > THREADS_MAX || e->threads[0] != e->pid)
                return image_damaged(file, err, "the threads of pid %u do not begin with itself", e->pid);
        if (e->has_parent_tid && !is_thread_of(restore_find_task(r, (pid_t)e->ppid), e->parent_tid))
                return image_damaged(file, err, "pid %u has no thread %u to be the parent of pid %u",
                                     e->ppid, e->parent_tid, e->pid);
        for (size_t i = 0; i < e->n_threads; i++) {
                if (!valid_pid(e->threads[i]) || tid_taken(r, e->threads[i]))
                        return image_damaged(file, err, "thread %u of pid %u is not its own", e->threads[i],
                                             e->pid);
                for (size_t j = 0; j < i; j++)
                        if (e->threads[j] == e->threads[i])
                                return image_damaged(file, err, "pid %u has thread %u twice", e->pid,
                                                     e->threads[i]);
        }
        return 0;
}

static void add_task(struct restore *r, Img__Pstree *e) {
        struct restore_task *t = calloc(1, sizeof(*t));
        struct restore_task **tasks = reallocarray(r->tasks, r->nr_tasks + 1, sizeof(*tasks));

        ckpt_assert(t && tasks);
        r->tasks = tasks;
        *t = (struct restore_task){
                .restore = r,
                .parent = restore_find_task(r, (pid_t)e->ppid),
                .pid = (pid_t)e->pid,
                .pgid = (pid_t)e->pgid,
                .sid = (pid_t)e->sid,
                .pstree = e,
                .nr_threads = e->n_threads,
                .threads = calloc(e->n_threads, sizeof(struct restore_thread)),
        };
        ckpt_assert(t->threads);
        t->depth = t->parent ? t->parent->depth + 1 : 0;
        for (size_t i = 0; i < e->n_threads; i++)
                t->threads[i] = (struct restore_thread){ .task = t, .tid = (pid_t)e->threads[i] };
        r->tasks[r->nr_tasks++] = t;
}

static int load_pstree(struct restore *r, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *file = NULL;
        int n;

        n = image_open_read(r->dir, IMAGE_PSTREE, 0, 0, &file, err);
        while (n >= 0) {
                Img__Pstree *entry = NULL;
                int bad;

                n = image_read(file, &img__pstree__descriptor, &entry, err);
                if (n <= 0)
                        break;
                bad = check_entry(r, file, entry, err);
                if (bad < 0) {
                        img__pstree__free_unpacked(entry, NULL);
                        return bad;
                }
                add_task(r, entry);
        }
        if (n == 0 && r->nr_tasks == 0)
                return image_damaged(file, err, "it has no process");
        return n;
}

/* The leader's core says what the process is. */
static int judge_leader(struct restore_task *t, struct ckpt_error *err) {
        const Img__TaskCore *tc = t->threads[0].core->tc;

        if (!tc)
                return ckpt_error(err, -EBADMSG, "core-%d.img has no process-wide part", t->pid);
        switch (tc->task_state) {
        case WIRE_TASK_ALIVE:
        case WIRE_TASK_STOPPED:
                t->kind = RESTORE_TASK_LIVE;
                t->leader_dead = !t->threads[0].core->thread_core;
                break;
        case WIRE_TASK_DEAD:
                t->kind = RESTORE_TASK_ZOMBIE;
                break;
        default:
                return ckpt_error(err, -EBADMSG, "core-%d.img: %u is no state of a task", t->pid,
                                  tc->task_state);
        }
        if (t->kind == RESTORE_TASK_ZOMBIE ? t->nr_threads > 1 || !t->parent
                                           : t->leader_dead && t->nr_threads < 2)
                return ckpt_error(err, -EBADMSG,
                                  "core-%d.img: a dead process has threads, or a living one has none",
                                  t->pid);
        return 0;
}

static int load_core(struct restore_thread *th, struct ckpt_error *err) {
        return image_load(th->task->restore->dir, IMAGE_CORE, (unsigned long)th->tid, 0,
                          &img__core__descriptor, &th->core, err);
}

static void load_cores_part(void *ctx, size_t from, size_t to) {
        struct restore_task *t = ctx;

        for (size_t i = from; i < to; i++) {
                _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

                (void)load_core(&t->threads[i], &err);
        }
}

/* Those of a process with many threads, by all of ours. What goes wrong here is left to load_cores(). */
static void load_cores_ahead(const struct restore *r) {
        for (size_t i = 0; i < r->nr_tasks; i++)
                if (r->tasks[i]->nr_threads >= SPREAD_MIN)
                        (void)pool_spread(r->pool, r->tasks[i]->nr_threads, load_cores_part, r->tasks[i]);
}

static int load_cores(struct restore_task *t, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < t->nr_threads; i++) {
                struct restore_thread *th = &t->threads[i];

                if (!th->core)
                        r = load_core(th, err);
                if (r == 0 && th->core->mtype != IMG__CORE__MARCH__X86_64)
                        r = ckpt_error(err, -ENOTSUP,
                                       "core-%d.img is of another kind of processor than this x86-64 one",
                                       th->tid);
                if (r == 0 && i > 0 && !th->core->thread_core)
                        r = ckpt_error(err, -EBADMSG, "core-%d.img has no thread part", th->tid);
        }
        return r < 0 ? r : judge_leader(t, err);
}

/* Foreign images keep the ids of a task in a file of their own, or in its core, or both. */
static int load_ids(struct restore_task *t, struct ckpt_error *err) {
        const Img__TaskKobjIds *in_core = t->threads[0].core->ids;
        Img__TaskKobjIds *ids;
        int r;

        r = image_load(t->restore->dir, IMAGE_IDS, (unsigned long)t->pid, in_core ? IMAGE_OPTIONAL : 0,
                       &img__task_kobj_ids__descriptor, &ids, err);
        if (r == 0)
                t->ids = ids;
        else if (r == -ENOENT && in_core) {
                t->ids = malloc(sizeof(*ids));
                ckpt_assert(t->ids);
                *t->ids = *in_core;
                t->ids->base.n_unknown_fields = 0;
                t->ids->base.unknown_fields = NULL;
                r = 0;
        }
        return r;
}

/* A namespace of its own, in images of a tool that can dump those. */
static int check_namespaces(struct restore_task *t, struct ckpt_error *err) {
        const Img__TaskKobjIds *root = image_dir_inventory(t->restore->dir)->root_ids;
        const struct {
                const char *name;
                bool has, root_has;
                uint32_t id, root_id;
        } rows[] = {
#define ROW(text, f) { text, t->ids->has_##f, root && root->has_##f, t->ids->f, root ? root->f : 0 }
                ROW("pid", pid_ns_id),   ROW("network", net_ns_id), ROW("UTS", uts_ns_id),
                ROW("mount", mnt_ns_id), ROW("user", user_ns_id),   ROW("cgroup", cgroup_ns_id),
                ROW("time", time_ns_id),
#undef ROW
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (rows[i].has && rows[i].root_has && rows[i].id != rows[i].root_id)
                        return ckpt_error(err, -ENOTSUP,
                                          "%s has a %s namespace of its own in these images, which is not "
                                          "supported yet; nothing was created",
                                          restore_task_name(t), rows[i].name);
        return 0;
}

static int load_task(void *arg, struct ckpt_error *err) {
        struct restore_task *t = arg;
        int r;

        r = load_cores(t, err);
        if (r < 0)
                return r;
        if (t->kind != RESTORE_TASK_LIVE)
                return task_check_zombie(t, err);
        r = load_ids(t, err);
        if (r == 0)
                r = check_namespaces(t, err);
        if (r == 0)
                r = mem_load(t, err);
        if (r == 0)
                r = task_check(t, err);
        return r;
}

static int load_tasks(struct restore *r, struct ckpt_error *err) {
        int ret = 0, waited;

        load_cores_ahead(r);
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                ret = pool_add(r->pool, load_task, r->tasks[i]);
        waited = pool_join(r->pool, err);
        if (waited < 0)
                return waited;
        if (ret < 0)
                return ckpt_error_errno(err, ret, "cannot load the images");
        return 0;
}

/* Two tasks that are no threads of one process, with one address space or one table of signal handlers. */
static int check_shared_memory(struct restore *r, struct ckpt_error *err) {
        for (size_t i = 0; i < r->nr_tasks; i++)
                for (size_t j = 0; r->tasks[i]->kind == RESTORE_TASK_LIVE && r->tasks[i]->ids && j < i;
                     j++) {
                        const Img__TaskKobjIds *a = r->tasks[i]->ids, *b = r->tasks[j]->ids;

                        if (b && r->tasks[j]->kind == RESTORE_TASK_LIVE &&
                            (a->vm_id == b->vm_id || a->sighand_id == b->sighand_id))
                                return ckpt_error(
                                        err, -ENOTSUP,
                                        "pid %d shares its memory or its signal handlers with pid %d "
                                        "(CLONE_VM), which is not supported yet; nothing was created",
                                        r->tasks[i]->pid, r->tasks[j]->pid);
                }
        return 0;
}

/* What several tasks share is loaded one after the other. */
static int load_files(struct restore *r, struct ckpt_error *err) {
        int ret;

        ret = fd_load_files(r, err);
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_LIVE)
                        ret = fd_load_task(r->tasks[i], err);
        if (ret == 0)
                ret = mem_check_sockets(r, err);
        return ret;
}

static int load_all(struct restore *r, struct ckpt_error *err) {
        int ret = load_pstree(r, err);

        if (ret == 0)
                ret = seccomp_load(r, err);
        if (ret == 0)
                ret = load_tasks(r, err);
        if (ret == 0)
                ret = check_shared_memory(r, err);
        if (ret == 0 && r->tasks[0]->kind != RESTORE_TASK_LIVE)
                ret = ckpt_error(err, -EBADMSG, "pstree.img: the root of the tree is dead");
        if (ret == 0)
                ret = ipc_load(r, err);
        if (ret == 0)
                ret = load_files(r, err);
        return ret < 0 ? ret : time_load(r, err);
}

/* The contents of memory are verified while the rest is loaded. If they are damaged, that comes first. */
int load(struct restore *r, struct ckpt_error *err) {
        _cleanup_error_ struct ckpt_error other = CKPT_ERROR_INIT;
        int ret, loaded;

        ret = image_dir_open_early(r->run->images_dirfd, pool_threads(r->pool), &r->dir, err);
        if (ret < 0)
                return ret;
        loaded = load_all(r, &other);
        ret = image_dir_verified(r->dir, err);
        if (ret < 0)
                return ret;
        if (loaded < 0) {
                ckpt_error_move(err, &other);
                return loaded;
        }
        return fault_point_error(FAULT_RESTORE_LOADED, err);
}
