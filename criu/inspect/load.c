/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The processes of a checkpoint. All ids come from images: each is bounded or looked up before it is used,
 * and no file is read twice, so what is allocated is in proportion to the size of the images.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "images/core.pb-c.h"
#include "images/pstree.pb-c.h"
#include "inspect/model.h"
#include "macro.h"

#define PID_LIMIT  (4U << 20) /* the kernel's PID_MAX_LIMIT */
#define COMM_LIMIT 64         /* bytes; the kernel has 15 for programs */

static int keep_message(struct inspect *in, ProtobufCMessage *message) {
        int r = message_vec_push(&in->messages, message);

        if (r < 0) {
                protobuf_c_message_free_unpacked(message, NULL);
                return ckpt_error(in->err, r, "not enough memory to read the images");
        }
        return 0;
}

int inspect_load_one(struct inspect *in, enum image_kind kind, unsigned long id, unsigned flags,
                     const ProtobufCMessageDescriptor *descriptor, void *ret) {
        ProtobufCMessage *message = NULL;
        int r;

        r = image_load(in->dir, kind, id, flags, descriptor, &message, in->err);
        if (r < 0)
                return r;
        r = keep_message(in, message);
        if (r == 0)
                memcpy(ret, &message, sizeof(message));
        return r;
}

int inspect_read(struct inspect *in, struct image_file *file, const ProtobufCMessageDescriptor *descriptor,
                 void *ret) {
        ProtobufCMessage *message = NULL;
        int r;

        r = image_read(file, descriptor, &message, in->err);
        if (r <= 0)
                return r;
        r = keep_message(in, message);
        if (r < 0)
                return r;
        memcpy(ret, &message, sizeof(message));
        return 1;
}

/* --- what describes the set as a whole ------------------------------------------------------------------ */

static int look_at_files(struct inspect *in) {
        _cleanup_closedir_ DIR *dir = NULL;
        const struct dirent *entry;
        struct stat st;
        int fd;

        fd = openat(image_dir_fd(in->dir), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return ckpt_error_errno(in->err, -errno, "cannot open %s", in->path);
        dir = fdopendir(fd);
        if (!dir) {
                safe_close(fd);
                return ckpt_error_errno(in->err, -errno, "cannot open %s", in->path);
        }
        while ((entry = readdir(dir))) {
                unsigned long id = 0;
                enum image_kind kind = image_kind_of(entry->d_name, &id);

                /* A foreign file beside a set with checksums is not part of it. */
                if (kind == IMAGE_KIND_INVALID || (kind != IMAGE_INVENTORY && kind != IMAGE_CHECKSUMS &&
                                                   !image_dir_has(in->dir, kind, id)))
                        continue;
                if (fstatat(fd, entry->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode))
                        continue;
                in->n_images++;
                in->bytes += (uint64_t)st.st_size;
        }
        if (fstatat(fd, "inventory.img", &st, 0) == 0)
                in->written = st.st_mtim.tv_sec;
        return 0;
}

static void look_at_parent(struct inspect *in) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(image_dir_fd(in->dir), "parent", target, sizeof(target) - 1);

        if (n < 0)
                return;
        target[n] = '\0';
        in->prev = arena_strdup(&in->arena, target);
}

/* --- pstree --------------------------------------------------------------------------------------------- */

struct pid_index {
        uint32_t pid;
        size_t index;
};
DEFINE_VEC(pid_index_vec, struct pid_index);

static int compare_pids(const void *a, const void *b) {
        const struct pid_index *x = a, *y = b;

        return (x->pid > y->pid) - (x->pid < y->pid);
}

static int add_threads(struct inspect *in, struct task *task, const Img__Pstree *entry,
                       struct image_file *file) {
        if (entry->n_threads > 0 && entry->threads[0] != entry->pid)
                return image_damaged(file, in->err, "the first thread of process %u is %u", entry->pid,
                                     entry->threads[0]);
        if (entry->n_threads > PID_LIMIT)
                return image_damaged(file, in->err, "process %u has %zu threads", entry->pid,
                                     entry->n_threads);
        task->n_threads = MAX(entry->n_threads, (size_t)1);
        task->threads = arena_new_array(&in->arena, struct thread, task->n_threads);
        task->threads[0].tid = entry->pid;
        for (size_t i = 1; i < entry->n_threads; i++)
                task->threads[i].tid = entry->threads[i];
        in->n_threads += task->n_threads;
        return 0;
}

static int read_pstree(struct inspect *in, struct image_file *file) {
        int r;

        for (;;) {
                _cleanup_image_message_ Img__Pstree *entry = NULL;
                struct task *task;

                r = image_read(file, &img__pstree__descriptor, &entry, in->err);
                if (r < 0)
                        return r;
                if (r == 0)
                        break;
                task = task_vec_add(&in->tasks);
                if (!task)
                        return ckpt_error(in->err, -ENOMEM, "not enough memory to read the images");
                *task = (struct task){ .pid = entry->pid,
                                       .ppid = entry->ppid,
                                       .pgid = entry->pgid,
                                       .sid = entry->sid,
                                       .parent = -1,
                                       .first_child = -1,
                                       .last_child = -1,
                                       .next = -1 };
                r = add_threads(in, task, entry, file);
                if (r < 0)
                        return r;
        }
        if (in->tasks.n == 0)
                return image_damaged(file, in->err, "there is no process in it");
        return 0;
}

/* No id twice, among processes and threads alike; *ret: the processes by pid. */
static int check_ids(struct inspect *in, struct image_file *file, struct pid_index_vec *ret) {
        _cleanup_(pid_index_vec_done) struct pid_index_vec all = { 0 };

        for (size_t i = 0; i < in->tasks.n; i++) {
                const struct task *task = &in->tasks.v[i];

                if (pid_index_vec_push(ret, (struct pid_index){ task->pid, i }) < 0)
                        return ckpt_error(in->err, -ENOMEM, "not enough memory to read the images");
                for (size_t k = 0; k < task->n_threads; k++)
                        if (pid_index_vec_push(&all, (struct pid_index){ task->threads[k].tid, i }) < 0)
                                return ckpt_error(in->err, -ENOMEM, "not enough memory to read the images");
        }
        ckpt_assert(ret->v && all.v);
        qsort(ret->v, ret->n, sizeof(*ret->v), compare_pids);
        qsort(all.v, all.n, sizeof(*all.v), compare_pids);
        for (size_t i = 0; i < all.n; i++) {
                if (all.v[i].pid == 0 || all.v[i].pid > PID_LIMIT)
                        return image_damaged(file, in->err, "%u is no process id", all.v[i].pid);
                if (i > 0 && all.v[i].pid == all.v[i - 1].pid)
                        return image_damaged(file, in->err, "the id %u is there twice", all.v[i].pid);
        }
        return 0;
}

static int link_tree(struct inspect *in, struct image_file *file, const struct pid_index_vec *pids) {
        ckpt_assert(pids->v);
        for (size_t i = 0; i < in->tasks.n; i++) {
                struct task *task = &in->tasks.v[i], *parent;
                const struct pid_index key = { .pid = task->ppid }, *found;

                if (i == 0 && task->ppid == 0)
                        continue;
                if (i == 0 || task->ppid == 0)
                        return image_damaged(file, in->err,
                                             i == 0 ? "its first process, %u, is not the root"
                                                    : "process %u is a second root",
                                             task->pid);
                found = bsearch(&key, pids->v, pids->n, sizeof(*pids->v), compare_pids);
                if (!found || found->index >= i)
                        return image_damaged(file, in->err, "process %u does not follow its parent %u",
                                             task->pid, task->ppid);
                parent = &in->tasks.v[found->index];
                task->parent = (ssize_t)found->index;
                task->depth = parent->depth + 1;
                if (parent->last_child >= 0)
                        in->tasks.v[parent->last_child].next = (ssize_t)i;
                else
                        parent->first_child = (ssize_t)i;
                parent->last_child = (ssize_t)i;
        }
        return 0;
}

static int load_pstree(struct inspect *in) {
        _cleanup_(pid_index_vec_done) struct pid_index_vec pids = { 0 };
        _cleanup_image_file_ struct image_file *file = NULL;
        int r;

        r = image_open_read(in->dir, IMAGE_PSTREE, 0, 0, &file, in->err);
        if (r == -ENOENT)
                ckpt_error_hint(in->err, "A pre-dump holds memory only; a dump holds the processes too");
        if (r == 0)
                r = read_pstree(in, file);
        if (r == 0)
                r = check_ids(in, file, &pids);
        return r < 0 ? r : link_tree(in, file, &pids);
}

/* --- core ----------------------------------------------------------------------------------------------- */

static void take_creds(struct inspect *in, struct thread *thread, const Img__Creds *creds) {
        struct creds *to = arena_new(&in->arena, struct creds);

        *to = (struct creds){ .uid = { creds->uid, creds->euid, creds->suid, creds->fsuid },
                              .gid = { creds->gid, creds->egid, creds->sgid, creds->fsgid } };
        to->groups = arena_copy(&in->arena, creds->groups, creds->n_groups * sizeof(*creds->groups));
        to->n_groups = creds->n_groups;
        thread->creds = to;
}

/* What the views show of a thread; the rest of its core (registers, mostly) is not kept. */
static void take_thread(struct inspect *in, struct thread *thread, const Img__Core *core) {
        const Img__ThreadCore *tc = core->thread_core;

        if (core->thread_info && core->thread_info->gpregs) {
                thread->has_regs = true;
                thread->ip = core->thread_info->gpregs->ip;
                thread->sp = core->thread_info->gpregs->sp;
        }
        if (!tc)
                return;
        if (tc->comm)
                thread->comm = arena_strdup(&in->arena, tc->comm);
        thread->has_nice = tc->has_sched_nice;
        thread->nice = tc->sched_nice;
        thread->policy = tc->sched_policy;
        thread->priority = tc->sched_prio;
        thread->pending = tc->signals_p ? tc->signals_p->n_signals : 0;
        if (tc->creds)
                take_creds(in, thread, tc->creds);
}

static int take_process(struct inspect *in, struct task *task, const Img__Core *core) {
        const Img__TaskCore *tc = core->tc;

        if (!tc)
                return ckpt_error(in->err, -EBADMSG,
                                  "core-%u.img in %s is damaged: it says nothing about the process",
                                  task->pid, in->path);
        if (strlen(tc->comm) > COMM_LIMIT)
                return ckpt_error(in->err, -EBADMSG, "core-%u.img in %s is damaged: a name has %zu bytes",
                                  task->pid, in->path, strlen(tc->comm));
        task->comm = arena_strdup(&in->arena, tc->comm);
        task->state = tc->task_state;
        task->exit_code = tc->exit_code;
        task->pending = tc->signals_s ? tc->signals_s->n_signals : 0;
        if (core->ids)
                task->ids = arena_copy(&in->arena, core->ids, sizeof(*core->ids));
        return 0;
}

static int load_core(struct inspect *in, struct task *task, size_t index) {
        _cleanup_image_message_ Img__Core *core = NULL;
        struct thread *thread = &task->threads[index];
        int r;

        r = image_load(in->dir, IMAGE_CORE, thread->tid, 0, &img__core__descriptor, &core, in->err);
        if (r < 0)
                return r;
        take_thread(in, thread, core);
        return index == 0 ? take_process(in, task, core) : 0;
}

static int optional(int r) {
        return r == -ENOENT ? 0 : r;
}

static int load_old_creds(struct inspect *in, struct task *task) {
        _cleanup_image_message_ Img__Creds *creds = NULL;
        int r;

        if (task->threads[0].creds)
                return 0;
        r = image_load(in->dir, IMAGE_CREDS, task->pid, IMAGE_OPTIONAL, &img__creds__descriptor, &creds,
                       in->err);
        if (r == 0)
                take_creds(in, &task->threads[0], creds);
        return optional(r);
}

static int load_task(struct inspect *in, struct task *task) {
        int r;

        for (size_t i = 0; i < task->n_threads; i++) {
                r = load_core(in, task, i);
                if (r < 0)
                        return r;
        }
        if (!task->ids) {
                r = optional(inspect_load_one(in, IMAGE_IDS, task->pid, IMAGE_OPTIONAL,
                                              &img__task_kobj_ids__descriptor, &task->ids));
                if (r < 0)
                        return r;
        }
        r = load_old_creds(in, task);
        if (r < 0)
                return r;
        r = optional(
                inspect_load_one(in, IMAGE_FS, task->pid, IMAGE_OPTIONAL, &img__fs__descriptor, &task->fs));
        if (r == 0)
                r = inspect_load_mem(in, task);
        return r < 0 ? r : inspect_load_fds(in, task);
}

int inspect_load(struct inspect *in) {
        int r;

        r = look_at_files(in);
        if (r == 0)
                r = load_pstree(in);
        if (r == 0)
                r = inspect_load_files(in);
        look_at_parent(in);
        for (size_t i = 0; r == 0 && i < in->tasks.n; i++)
                r = load_task(in, &in->tasks.v[i]);
        if (r < 0)
                return r;
        inspect_sort_refs(in);
        r = inspect_load_ipc(in);
        return r < 0 ? r : inspect_load_shmem(in);
}

void inspect_done(struct inspect *in) {
        for (size_t i = 0; i < in->messages.n; i++)
                protobuf_c_message_free_unpacked(in->messages.v[i], NULL);
        message_vec_done(&in->messages);
        task_vec_done(&in->tasks);
        file_vec_done(&in->files);
        file_vec_done(&in->pipe_ends);
        fd_table_vec_done(&in->tables);
        file_ref_vec_done(&in->refs);
        pipe_content_vec_done(&in->pipes);
        pipe_content_vec_done(&in->fifos);
        shmem_vec_done(&in->shmem);
        memfd_name_vec_done(&in->memfds);
        ipc_object_vec_done(&in->ipc);
        arena_done(&in->arena);
        image_dir_free(in->dir);
        in->dir = NULL;
}
