/* SPDX-License-Identifier: GPL-2.0-only */
/* Opening every file once, in ckpt, and filling the tables of the tasks. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/ahead.h"
#include "fd/kind.h"
#include "fd/memfd.h"
#include "fd/plan.h"
#include "lib/fault.h"
#include "macro.h"
#include "restore/inherit.h"
#include "sock/sock.h"

/* Files that tasks inherit: each makes every clone(2) a little dearer. */
enum { INHERITED_MAX = 32 };

int files_open(struct restore *r, uint32_t id, uint32_t flags, int *ret_fd, struct ckpt_error *err) {
        const struct restore_file *file = restore_find_file(r->files, id);
        int fd;

        if (file && file->msg->type == IMG__FD_TYPES__MEMFD)
                fd = memfd_open_again(r, file, flags, err);
        else if (file && file->msg->type == IMG__FD_TYPES__REG)
                fd = reg_open_again(r, file, flags, err);
        else
                return ckpt_error(err, -EBADMSG, "file %u, which is mapped, is none that can be", id);
        if (fd < 0)
                return fd;
        *ret_fd = fd;
        return 0;
}

int fd_file_open(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        int rc;

        if (file->fd >= 0 && !file->opened_ahead)
                return 0;
        rc = file->opened_ahead ? 0 : file->kind->open(r, file, err);
        file->opened_ahead = false;
        if (rc < 0)
                return rc;
        rc = fown_restore(r->files, file, err);
        if (rc == -ESRCH)
                file->owner_waits = true; /* a thread that is still to be made */
        else if (rc < 0)
                return rc;
        return 0;
}

int files_open_socket(struct restore *r, uint32_t id, int *ret_fd, struct ckpt_error *err) {
        struct restore_file *file = restore_find_file(r->files, id);
        int rc;

        ckpt_assert(file && file->kind == &fd_kind_packet); /* mem_check_sockets() */
        rc = fd_file_open(r, file, err);
        if (rc == 0)
                *ret_fd = file->fd;
        return rc;
}

/* `n` of the descriptors that wait for it have it. */
static void file_served(struct restore_file *file, uint32_t n) {
        ckpt_assert(file->nr_slots >= n);
        file->nr_slots -= n;
        if (file->nr_slots == 0 && !file->kind->finish && !file->owner_waits && !file->member)
                file->fd = safe_close(file->fd);
}

void fd_file_sent(struct restore_file *file) {
        file_served(file, 1);
}

/* ---- directories ---- */

static int open_directory(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        if (file->dir < 0)
                file->dir = reg_open_again(r, file, O_PATH | O_DIRECTORY, err);
        return file->dir < 0 ? file->dir : 0;
}

static void directory_served(struct restore_file *file) {
        if (--file->dir_users == 0)
                file->dir = safe_close(file->dir);
}

static bool is_own_root(int dir) {
        struct stat own, other;

        return stat("/", &own) == 0 && fstat(dir, &other) == 0 && own.st_dev == other.st_dev &&
               own.st_ino == other.st_ino;
}

/* The number that the task has a directory under: the table is empty yet, so what is received first is 0 and 1. */
static uint64_t place_directory(const struct restore_file *file, int *dirs, size_t *n) {
        if (file->dir_inherited > 0)
                return (uint64_t)file->dir_inherited;
        dirs[*n] = file->dir;
        return (*n)++;
}

static int add_fs(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err) {
        struct restore_fds *fds = t->fds;
        uint64_t cwd, root = 0;
        bool own_root;
        int r, dirs[2];
        size_t n = 0;

        r = open_directory(t->restore, fds->cwd, err);
        if (r == 0)
                r = open_directory(t->restore, fds->root, err);
        if (r < 0)
                return r;
        if (!fds->root->root_known) {
                fds->root->is_own_root = is_own_root(fds->root->dir);
                fds->root->root_known = true;
        }
        own_root = fds->root->is_own_root;
        cwd = place_directory(fds->cwd, dirs, &n);
        if (!own_root)
                root = place_directory(fds->root, dirs, &n);
        r = restore_send_fds(t, b, dirs, n, err);
        if (r < 0)
                return r;
        if (!own_root) {
                compel_call(b, "enter its root directory", SYS_fchdir, root);
                compel_call(b, "change its root directory", SYS_chroot, compel_copy(b, ".", 2));
        }
        compel_call(b, "enter its working directory", SYS_fchdir, cwd);
        if (n > 0)
                compel_call(b, "close directories", SYS_close_range, 0, n - 1, 0);
        if (t->fs->has_umask)
                compel_call(b, "set its umask", SYS_umask, t->fs->umask);
        directory_served(fds->cwd);
        directory_served(fds->root);
        return 0;
}

/* ---- tables ---- */

struct table_plan {
        struct fd_plan plan;
        struct restore_file **files; /* the distinct files of the table */
        uint32_t *nr_slots;          /* descriptors of this table, for each */
        size_t *last;                /* where in plan.send it comes last */
};

/* Of the slots that files are to be sent for. */
static struct table_plan make_plan(const struct restore_slot_vec *slots, struct arena *arena) {
        struct plan_slot *plan_slots = arena_new_array(arena, struct plan_slot, slots->n);
        struct table_plan p = { .files = arena_new_array(arena, struct restore_file *, slots->n),
                                .nr_slots = arena_new_array(arena, uint32_t, slots->n) };
        uint32_t n = 0;

        for (size_t i = 0; i < slots->n; i++) {
                struct restore_file *file = slots->v[i].file;

                if (n == 0 || file->in_plan >= n || p.files[file->in_plan] != file) {
                        file->in_plan = n++; /* what it has is of another table */
                        p.files[file->in_plan] = file;
                }
                plan_slots[i] = (struct plan_slot){ slots->v[i].fd, slots->v[i].cloexec, file->in_plan };
                p.nr_slots[file->in_plan]++;
        }
        p.last = arena_new_array(arena, size_t, n);
        fd_plan_make(plan_slots, slots->n, n, arena, &p.plan);
        for (size_t i = 0; i < p.plan.nr_send; i++)
                p.last[p.plan.send[i]] = i;
        return p;
}

struct sending {
        struct restore_task *task;
        struct compel_batch *batch;
        const struct table_plan *plan;
        size_t at; /* in plan->send, of files[0] */
        struct restore_file *files[AHEAD_OPEN_MAX];
        int fds[AHEAD_OPEN_MAX]; /* what they are open as */
};

static int send_opened(void *ctx, size_t from, size_t to, struct ckpt_error *err) {
        struct sending *s = ctx;
        const struct table_plan *p = s->plan;
        int r;

        for (size_t i = from; i < to; i++) {
                r = fd_file_open(s->task->restore, s->files[i], err);
                if (r < 0)
                        return r;
                s->fds[i] = s->files[i]->fd;
        }
        r = s->batch->started ? lane_wait(s->task, err) : 0;
        if (r == 0)
                r = restore_send_fds(s->task, s->batch, s->fds + from, to - from, err);
        for (size_t i = from; r == 0 && i < to; i++) {
                uint32_t file = p->plan.send[s->at + i];

                if (p->last[file] == s->at + i)
                        file_served(s->files[i], p->nr_slots[file]);
        }
        return r;
}

/*
 * Opened just before and closed just after: a table may have nearly as many files as ckpt may open. The task receives some
 * while the next ones are being opened.
 */
static int send_files(struct restore_task *t, struct compel_batch *b, const struct table_plan *p,
                      struct ckpt_error *err) {
        struct sending s = { .task = t, .batch = b, .plan = p };
        int r = 0;

        for (size_t n; r == 0 && s.at < p->plan.nr_send; s.at += n) {
                n = MIN(p->plan.nr_send - s.at, (size_t)AHEAD_OPEN_MAX);
                if (s.at > 0)
                        compel_start(b);
                for (size_t i = 0; i < n; i++)
                        s.files[i] = p->files[p->plan.send[s.at + i]];
                r = ahead_open(t->restore, s.files, n, send_opened, &s, err);
        }
        return r;
}

static void add_ops(struct compel_batch *b, const struct fd_plan *plan) {
        for (size_t i = 0; i < plan->nr_ops; i++) {
                const struct plan_op *op = &plan->ops[i];
                struct compel_op *call;

                switch (op->kind) {
                case PLAN_DUP:
                        call = compel_call(b, "give a descriptor its number", SYS_dup3, op->from, op->to,
                                           op->cloexec ? O_CLOEXEC : 0);
                        call->check = COMPEL_CHECK_EQUAL;
                        call->want = op->to;
                        break;
                case PLAN_CLOSE:
                        compel_call(b, "close what filled holes", SYS_close_range, op->from, op->to, 0);
                        break;
                case PLAN_CLOEXEC:
                        compel_call(b, "set close-on-exec", SYS_close_range, op->from, op->to,
                                    CLOSE_RANGE_CLOEXEC);
                        break;
                }
        }
}

/* Once everything else is in its place, and before the inherited numbers go. */
static void add_inherited(struct restore_task *t, struct compel_batch *b) {
        for (size_t i = 0; i < t->fds->slots.n; i++) {
                const struct restore_slot *slot = &t->fds->slots.v[i];
                struct compel_op *op;

                if (slot->file->inherited <= 0)
                        continue;
                op = compel_call(b, "give an inherited descriptor its number", SYS_dup3,
                                 (uint64_t)slot->file->inherited, (uint64_t)slot->fd,
                                 slot->cloexec ? O_CLOEXEC : 0);
                op->check = COMPEL_CHECK_EQUAL;
                op->want = slot->fd;
                file_served(slot->file, 1);
        }
}

/* What the task still has of ckpt or of its parent would take numbers. */
static int empty_table(struct restore_task *t, struct compel_batch *b, struct ckpt_error *err) {
        compel_call(b, "empty its descriptor table", SYS_close_range, 0,
                    (uint64_t)t->restore->inherit_base - 1, 0);
        return add_fs(t, b, err);
}

/* The table is filled by another task, afterwards: it is still free for receiving directories. */
static int prepare_sharer(struct restore_task *t, struct ckpt_error *err) {
        int r = empty_table(t, task_lane(t), err);

        if (r == 0)
                r = compel_run(task_lane(t), err);
        return r < 0 ? ckpt_error_prefix(err, "%s", restore_task_name(t)) : 0;
}

/* The slots whose files are not inherited by all tasks. */
static struct restore_slot_vec slots_to_send(const struct restore_slot_vec *slots, struct arena *arena) {
        struct restore_slot_vec some = { .v = arena_new_array(arena, struct restore_slot, slots->n) };

        for (size_t i = 0; i < slots->n; i++)
                if (slots->v[i].file->inherited <= 0)
                        some.v[some.n++] = slots->v[i];
        return some;
}

/* The batch runs on, or is to be run: what is sent to a task has to be received before another task's is sent. */
static int fill_table(struct restore_task *t, struct ckpt_error *err) {
        struct compel_batch *b = task_lane(t);
        struct restore_slot_vec slots;
        struct arena arena = { 0 };
        struct table_plan plan;
        bool sends;
        int r;

        sends = t->fds->cwd->dir_inherited <= 0 || t->fds->root->dir_inherited <= 0;
        r = empty_table(t, b, err);
        if (r < 0)
                return r;
        slots = slots_to_send(&t->fds->slots, &arena);
        plan = make_plan(&slots, &arena);
        sends |= plan.plan.nr_send > 0;
        r = send_files(t, b, &plan, err);
        if (r == 0) {
                add_ops(b, &plan.plan);
                add_inherited(t, b);
                fown_add_async(t, b);
                restore_close_inherited(t, b);
                lock_restore(t, b);
        }
        arena_done(&arena);
        if (r == 0 && (sends || b->error < 0))
                r = compel_run(b, err);
        else if (r == 0)
                compel_start(b);
        return r < 0 ? ckpt_error_prefix(err, "%s", restore_task_name(t))
                     : fault_point_error(FAULT_RESTORE_FILES, err);
}

/* Those whose tables need nothing but what they have inherited work side by side. */
static int fill_tables(struct restore *r, struct ckpt_error *err) {
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_LIVE && !r->tasks[i]->fds->shared)
                        rc = fill_table(r->tasks[i], err);
        for (size_t i = 0; i < r->nr_tasks; i++) {
                int waited = r->tasks[i]->kind == RESTORE_TASK_LIVE ? lane_wait(r->tasks[i], err) : 0;

                if (rc == 0 && waited < 0)
                        rc = ckpt_error_prefix(err, "%s", restore_task_name(r->tasks[i]));
        }
        return rc;
}

/* ---- files that all tasks inherit ---- */

static bool is_inheritable(const struct restore *r, const struct restore_file *file) {
        const Img__Fown *fown = fown_of(r->files, file);

        return file->kind == &fd_kind_reg && !file->ghost && !file->link && (!fown || fown->pid == 0) &&
               strncmp(file->msg->reg->name, "/proc/", 6) != 0; /* may be about tasks that are still to be */
}

/* What cannot be opened now is opened when it is needed, and fails then. */
static void inherit_file(struct restore *r, struct restore_file *file) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        if (file->nr_slots > 1 && fd_file_open(r, file, &err) == 0)
                file->inherited = restore_inherit(r, file->fd, &err);
        if (file->dir_users > 1 && open_directory(r, file, &err) == 0)
                file->dir_inherited = restore_inherit(r, file->dir, &err);
}

void fd_prepare(struct restore *r) {
        size_t n = 0;

        for (size_t i = 0; r->nr_tasks > 1 && n < INHERITED_MAX && i < r->files->n; i++) {
                struct restore_file *file = &r->files->v[i];

                if ((file->nr_slots > 1 || file->dir_users > 1) && is_inheritable(r, file)) {
                        inherit_file(r, file);
                        n++;
                }
        }
}

/* The tables have theirs: what is still waited for goes into queues. It stays open until it is registered. */
static void keep_members(struct restore_files *files) {
        for (size_t i = 0; i < files->n; i++) {
                const Img__File *msg = files->v[i].msg;

                for (size_t j = 0; msg->type == IMG__FD_TYPES__EVENTPOLL && j < msg->epfd->n_tfd; j++) {
                        const Img__EventpollTfd *tfd = msg->epfd->tfd[j];
                        struct restore_file *file =
                                tfd->has_file_id ? restore_find_file(files, tfd->file_id) : NULL;

                        if (file && file->nr_slots > 0)
                                file->member = true;
                }
        }
}

static void close_members(struct restore_files *files) {
        for (size_t i = 0; i < files->n; i++)
                if (files->v[i].member && !files->v[i].owner_waits)
                        files->v[i].fd = safe_close(files->v[i].fd);
}

int fd_restore(struct restore *r, struct ckpt_error *err) {
        const struct fd_kind *kind;
        int rc;

        rc = unix_build(r, err);
        for (size_t i = 0; rc == 0 && i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_LIVE && r->tasks[i]->fds->shared)
                        rc = prepare_sharer(r->tasks[i], err);
        if (rc == 0)
                rc = fill_tables(r, err);
        /* Before epoll instances come: what is in queues is nothing new to them. */
        keep_members(r->files);
        if (rc == 0)
                rc = unix_fill(r, err);
        for (size_t i = 0; rc == 0 && i < r->files->n; i++) {
                struct restore_file *file = &r->files->v[i];

                if (!file->kind->finish || file->fd < 0)
                        continue;
                rc = file->kind->finish(r, file, err);
                if (!file->owner_waits && !file->member)
                        file->fd = safe_close(file->fd);
        }
        close_members(r->files);
        for (size_t i = 0; rc == 0 && (kind = fd_kind_row(i)); i++)
                if (kind->complete)
                        rc = kind->complete(r, err);
        return rc;
}

int fd_restore_owners(struct restore *r, struct ckpt_error *err) {
        for (size_t i = 0; i < r->files->n; i++) {
                struct restore_file *file = &r->files->v[i];
                int rc;

                if (!file->owner_waits)
                        continue;
                rc = fown_restore(r->files, file, err);
                if (rc == -ESRCH)
                        return ckpt_error(err, -ESRCH,
                                          "file %u sends its SIGIO to pid %u, which is not in the images",
                                          file->id, fown_of(r->files, file)->pid);
                if (rc < 0)
                        return rc;
                file->owner_waits = false;
                file->fd = safe_close(file->fd);
        }
        return 0;
}
