/* SPDX-License-Identifier: GPL-2.0-only */
/* Descriptor tables, working directory, root and umask of the tasks that are dumped. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "dump/facts.h"
#include "fd/prefetch.h"
#include "fd/same.h"
#include "images/fs.pb-c.h"
#include "lib/fault.h"
#include "macro.h"
#include "task/facts.h"

enum { FLAG_LARGEFILE = 0100000 };

static const struct {
        const char *where, *what;
} fs_rows[SAME_PLACES_MAX] = {
        [SAME_CWD] = { "cwd", "its working directory" },
        [SAME_ROOT] = { "root", "its root directory" },
        [SAME_EXE] = { "exe", "its program" },
};

/* Everything that is the same for all probes of a task. */
struct walk {
        struct dump_task *task;
        struct same_owner owner;
        struct dump_fds *fds;
        const struct proc_dir *proc;
        struct blockers *blockers;
        int pidfd;
        struct proc_buf buf;
        char link[PATH_MAX], where[16];
};

static struct fd_probe probe_of(struct walk *w, int fd) {
        if (fd >= 0)
                snprintf(w->where, sizeof(w->where), "fd/%d", fd);
        return (struct fd_probe){
                .task = w->task,
                .proc = w->proc,
                .fd = fd,
                .where = w->where,
                .link_buf = w->link,
                .buf = &w->buf,
                .pidfd = &w->pidfd,
        };
}

static void walk_done(struct walk *w) {
        w->pidfd = safe_close(w->pidfd);
        proc_buf_done(&w->buf);
}

/* ---- look ---- */

/* What spares work in the freeze: a path, if it still leads to that inode then. `clear`: nothing stands against it. */
static void note_seen(struct walk *w, const struct fd_probe *p, const struct fd_kind *kind, bool clear) {
        struct seen_fd *s = &w->fds->seen[w->fds->nr_seen++];

        *s = (struct seen_fd){ .fd = p->fd };
        if ((kind != &fd_kind_reg && !kind->by_inode) || !(p->st.stx_mask & STATX_MNT_ID))
                return;
        s->kind = kind;
        s->mode = p->st.stx_mode;
        s->dev = statx_dev(&p->st);
        s->ino = p->st.stx_ino;
        s->mnt_id = p->st.stx_mnt_id;
        s->link = p->link;
        if (kind == &fd_kind_reg && clear)
                same_note_looked(dump_files(w->task->dump), &w->owner, s);
}

static void look_fd(struct walk *w, struct look_raw *raw) {
        _cleanup_fd_probe_ struct fd_probe p = probe_of(w, raw->fd);
        const struct fd_kind *kind;
        size_t before;

        if (raw->is_same) {
                w->fds->seen[w->fds->nr_seen++] = raw->same;
                return;
        }
        p.link = raw->link;
        p.st = raw->st;
        p.has_path_st = raw->has_path_st;
        p.path_st = raw->path_st;
        p.clear = raw->kind != NULL;
        p.has_info = raw->has_info; /* freed by the probe */
        p.info = raw->info;
        if (raw->result == -ENAMETOOLONG)
                blocker_add(w->blockers, NULL, "%s has a path longer than the kernel can tell",
                            fd_probe_name(&p));
        if (raw->result < 0)
                return;
        kind = p.clear ? raw->kind : fd_kind_of(&p);
        before = blockers_count(w->blockers);
        fd_kind_look(kind, &p, w->blockers);
        note_seen(w, &p, kind, blockers_count(w->blockers) == before);
}

static struct fd_probe place_probe(struct walk *w, enum same_place place) {
        struct fd_probe p = probe_of(w, -1);

        p.where = fs_rows[place].where;
        p.what = fs_rows[place].what;
        return p;
}

static void look_place(struct walk *w, enum same_place place) {
        _cleanup_fd_probe_ struct fd_probe p = place_probe(w, place);
        size_t before = blockers_count(w->blockers);

        if (same_place_seen(w->task, place) || fd_probe_stat(&p) < 0 || same_place_looked(&p, place) ||
            fd_probe_link(&p) < 0 || same_place_looked(&p, place))
                return;
        fd_kind_look(fd_kind_of(&p), &p, w->blockers);
        if (blockers_count(w->blockers) == before)
                same_note_place_looked(&p, place);
}

static void look_fs(struct walk *w) {
        for (int i = 0; i < SAME_PLACES_MAX; i++)
                look_place(w, (enum same_place)i);
}

/* An exiting thread has lost its files already. */
static bool has_own(struct dump_task *t, const struct proc_dir *living, pid_t tid, int type) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat;

        if (syscall(SYS_kcmp, living->pid, tid, type, 0, 0) <= 0)
                return false;
        return proc_open_thread(&t->proc, tid, &dir) == 0 && proc_stat_read(&dir, &buf, &stat) == 0 &&
               stat.state != 'Z' && stat.state != 'X' && syscall(SYS_kcmp, living->pid, tid, type, 0, 0) > 0;
}

static void look_threads(struct dump_task *t, const struct proc_dir *living) {
        const struct pid_vec *tids = dump_tids(t);

        for (size_t i = 0; i < tids->n && !t->seen_sharing; i++) {
                if (tids->v[i] == living->pid)
                        continue;
                if (has_own(t, living, tids->v[i], KCMP_FILES))
                        blocker_add(
                                t->dump->blockers, NULL,
                                "%s: thread %d has a descriptor table of its own, which is not supported yet",
                                dump_task_name(t), tids->v[i]);
                if (has_own(t, living, tids->v[i], KCMP_FS))
                        blocker_add(
                                t->dump->blockers, NULL,
                                "%s: thread %d has a working directory of its own, which is not supported yet",
                                dump_task_name(t), tids->v[i]);
        }
}

/* All that it has are known of others. So not even a list is needed, which would be slow to read. */
static bool look_at_same(struct walk *w) {
        size_t n;

        if (proc_fds_count(w->proc, &n) < 0 || n > SAME_MAX)
                return false;
        w->fds->seen = arena_new_array(&w->task->arena, struct seen_fd, n);
        if (!same_looked_all(dump_files(w->task->dump), &w->owner, n, w->fds->seen))
                return false;
        w->fds->nr_seen = n;
        return true;
}

static int look_at_each(struct walk *w) {
        struct fd_probe any = probe_of(w, -1);
        _cleanup_free_ struct look_raw *raw = NULL;
        struct dump_task *t = w->task;
        size_t n;
        int r;

        r = prefetch_look(t, w->proc, fd_probe_pidfd(&any), &raw, &n);
        if (r < 0)
                return r;
        w->fds->seen = arena_new_array(&t->arena, struct seen_fd, n);
        for (size_t i = 0; i < n; i++)
                look_fd(w, &raw[i]);
        return 0;
}

/* The descriptors of a process whose first thread has ended are taken by way of another one. */
static bool may_take(struct walk *w) {
        struct fd_probe any = { .task = w->task, .proc = w->proc, .pidfd = &w->pidfd };

        if (w->proc->pid == w->task->pid || fd_probe_pidfd(&any) != -EINVAL)
                return true;
        blocker_add(
                w->blockers, "Run it on a newer kernel, or have its first thread wait for the others",
                "%s: its first thread has ended while others go on, and only Linux 6.9 and later let anyone take "
                "the descriptors of such a process",
                dump_task_name(w->task));
        return false;
}

void fd_look(struct dump_task *t) {
        _cleanup_(walk_done) struct walk w = { .task = t, .blockers = t->dump->blockers, .pidfd = -EBADF };
        const struct proc_dir *living = dump_living(t);
        int r;

        w.proc = living;
        w.owner = (struct same_owner){ living->pid, dump_fact_seen(t) };
        w.fds = t->fds = arena_new(&t->arena, struct dump_fds);
        *w.fds = (struct dump_fds){ .task = t };
        if (!may_take(&w))
                return;
        r = look_at_same(&w) ? 0 : look_at_each(&w);
        if (r == -ESRCH)
                return;
        if (r < 0) {
                blocker_add(t->dump->blockers, "Run ckpt as root", "%s: its descriptors cannot be read: %s",
                            dump_task_name(t), strerror(-r));
                return;
        }
        look_fs(&w);
        look_threads(t, living);
}

/* ---- collect ---- */

/* That a descriptor is closed on exec is asked of the task itself: fdinfo costs twenty times as much. */
bool fd_ask(struct dump_task *t, struct compel_batch *b) {
        size_t room = compel_capacity(b) / sizeof(struct compel_op);
        struct dump_fds *fds = t->fds;

        if (!fds || fds->nr_seen < PREFETCH_MIN || fds->nr_asked == fds->nr_seen)
                return false;
        fds->nr_in_batch = MIN(room, fds->nr_seen - fds->nr_asked);
        for (size_t i = 0; i < fds->nr_in_batch; i++)
                compel_call(b, "read the flags of a descriptor", SYS_fcntl,
                            (uint64_t)fds->seen[fds->nr_asked + i].fd, F_GETFD)
                        ->check = COMPEL_CHECK_NOTHING;
        return fds->nr_in_batch > 0;
}

void fd_answer(struct dump_task *t, const struct compel_batch *b) {
        struct dump_fds *fds = t->fds;

        for (size_t i = 0; i < fds->nr_in_batch; i++) {
                struct seen_fd *s = &fds->seen[fds->nr_asked + i];
                int64_t flags = __atomic_load_n(&b->ops[i].ret, __ATOMIC_RELAXED);

                s->asked = true;
                s->open = flags >= 0;
                s->cloexec = flags & FD_CLOEXEC;
        }
        fds->nr_asked += fds->nr_in_batch;
}

/* The description behind a probe, new or known. */
static int find_file(struct walk *w, struct fd_probe *p, const struct fd_kind *kind, struct dump_file **ret,
                     struct ckpt_error *err) {
        struct dump *d = w->task->dump;
        struct dump_files *files = dump_files(d);
        struct file_group *group;
        struct dump_file *f;
        size_t at;
        int r;

        r = dump_file_find(files, p, &group, &at, &f);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot compare it with other descriptors (kcmp)",
                                        fd_probe_name(p));
        if (!f) {
                f = dump_file_new(files, kind);
                f->task = w->task;
                f->tid = p->proc->pid;
                f->fd = p->fd;
                f->group = group;
                ckpt_assert(dump_file_vec_push(&group->files, f) == 0);
                memmove(&group->files.v[at + 1], &group->files.v[at], (group->files.n - 1 - at) * sizeof(f));
                group->files.v[at] = f;
                r = kind->dump(d, p, f, err);
                if (r < 0)
                        return r;
        }
        *ret = f;
        return 0;
}

/* What has been asked in advance; the probe owns it then. */
static int take_raw(struct fd_probe *p, struct collect_raw *raw, bool *ret_there) {
        if (raw->result < 0)
                return raw->result;
        p->info = raw->info;
        p->has_info = true;
        raw->info = (struct proc_fdinfo){ 0 };
        p->st = raw->st;
        if (raw->fown_result == 0) {
                p->fown = &raw->fown;
                p->fown_outside = raw->outside;
        }
        p->asked = raw->asked;
        p->has_copy = raw->copy >= 0;
        p->copy = TAKE_FD(raw->copy);
        *ret_there = raw->there;
        return 0;
}

static void add_fd(struct walk *w, const struct fd_probe *p, struct dump_file *file) {
        w->fds->v[w->fds->n++] =
                (struct dump_fd){ .fd = p->fd, .cloexec = (p->info.flags & O_CLOEXEC) != 0, .file = file };
}

/* By what is known of many processes: it is the description that others have under this number, without any locks. */
static bool collect_known(struct walk *w, int fd) {
        const struct process_fact *fact = w->owner.fact;
        struct dump_file *file = NULL;

        if (process_fact_file(fact, fd) != 0 && !(fact->locks >> fd & 1))
                file = same_collected(dump_files(w->task->dump), &w->owner, fd);
        if (!file)
                return false;
        w->fds->v[w->fds->n++] =
                (struct dump_fd){ .fd = fd, .cloexec = fact->cloexec >> fd & 1, .file = file };
        return true;
}

/* `raw` may be NULL. */
static int collect_fd(struct walk *w, int fd, struct collect_raw *raw, struct ckpt_error *err) {
        _cleanup_fd_probe_ struct fd_probe p = probe_of(w, fd);
        struct dump_files *files = dump_files(w->task->dump);
        const struct seen_fd *seen = find_seen(w->fds, fd);
        const struct fd_kind *kind;
        struct dump_file *file = NULL;
        bool there = false;
        int r;

        if (!raw && collect_known(w, fd))
                return 0;
        if (raw) {
                r = take_raw(&p, raw, &there);
        } else {
                r = fd_probe_info(&p);
                if (r == 0 && p.info.locks.n == 0)
                        file = same_collected(files, &w->owner, fd);
                if (file) {
                        add_fd(w, &p, file);
                        return 0;
                }
                there = r == 0 && is_as_seen(seen, &p.info, &p.st);
        }
        if (there) {
                kind = seen->kind;
                p.link = seen->link;
                if (p.info.locks.n > 0)
                        lock_look(&p, w->blockers); /* of what is known already */
                if (kind->look_twice && !p.asked)
                        fd_kind_look(kind, &p, w->blockers);
        } else {
                if (r == 0)
                        r = fd_probe_path(&p);
                if (r < 0)
                        return ckpt_error_errno(err, r, "%s: cannot be read", fd_probe_name(&p));
                kind = fd_kind_of(&p);
                fd_kind_look(kind, &p, w->blockers);
        }
        if (!kind->dump || blockers_count(w->blockers) > 0)
                return 0;
        pthread_mutex_lock(&files->lock);
        r = find_file(w, &p, kind, &file, err);
        if (r == 0)
                same_note_collected(files, &w->owner, fd, file);
        pthread_mutex_unlock(&files->lock);
        if (r < 0)
                return r;
        if (p.info.locks.n > 0)
                lock_collect(w->fds, file, &p);
        add_fd(w, &p, file);
        return 0;
}

static int collect_directory(struct walk *w, enum same_place place, uint32_t *ret, struct ckpt_error *err) {
        _cleanup_fd_probe_ struct fd_probe p = place_probe(w, place);
        int r;

        if (same_place_known(w->task, place, ret))
                return 0;
        r = fd_probe_stat(&p);
        if (r == 0 && same_place_collected(&p, place, ret))
                return 0;
        if (r == 0)
                r = fd_probe_link(&p);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s cannot be read", fd_probe_name(&p));
        r = dump_path_id(&p, O_RDONLY | O_DIRECTORY | FLAG_LARGEFILE, w->blockers, ret, err);
        if (r == 0 && blockers_count(w->blockers) == 0)
                same_note_place_collected(&p, place, *ret);
        return r;
}

static int read_umask(struct dump_task *t, uint32_t *ret, struct ckpt_error *err) {
        _cleanup_proc_status_ struct proc_status status = { 0 };
        const struct proc_status *st = &t->threads[0].status;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        const struct proc_dir *dir;
        int r;

        if (!proc_status_has(st, PROC_STATUS_UMASK)) {
                r = dump_thread_proc(&t->threads[0], &dir);
                if (r == 0)
                        r = proc_status_read(dir, &buf, &status);
                if (r < 0)
                        return ckpt_error_errno(err, r, "%s: cannot read its status", dump_task_name(t));
                st = &status;
        }
        if (!proc_status_has(st, PROC_STATUS_UMASK))
                return ckpt_error(err, -EOPNOTSUPP,
                                  "%s: this kernel does not tell its umask (Linux 4.7 does)",
                                  dump_task_name(t));
        *ret = st->umask;
        return 0;
}

static int collect_fs(struct walk *w, struct ckpt_error *err) {
        int r;

        r = collect_directory(w, SAME_CWD, &w->fds->cwd_id, err);
        if (r == 0)
                r = collect_directory(w, SAME_ROOT, &w->fds->root_id, err);
        return r < 0 ? r : read_umask(w->task, &w->fds->umask, err);
}

static bool shares_tables(const struct dump_task *t, pid_t tid) {
        pid_t first = t->threads[0].tid;

        return task_facts_same_tables(t, first, tid) ||
               (syscall(SYS_kcmp, first, tid, KCMP_FILES, 0, 0) == 0 &&
                syscall(SYS_kcmp, first, tid, KCMP_FS, 0, 0) == 0);
}

/* Who shares what. The kernel's order makes a search of it. */
static int collect_sharing(struct walk *w, struct ckpt_error *err) {
        struct dump_task *t = w->task;
        struct dump_files *files = dump_files(t->dump);
        struct dump_fds *same_files = NULL, *same_fs = NULL, *same_vm = NULL;
        int r = 0;

        pthread_mutex_lock(&files->lock);
        if (!dump_fact_is_alone(t, PROCESS_FILES))
                r = table_add(&files->tables, w->fds, KCMP_FILES, &same_files);
        if (r == 0 && !dump_fact_is_alone(t, PROCESS_FS))
                r = table_add(&files->fs, w->fds, KCMP_FS, &same_fs);
        if (r == 0 && !dump_fact_is_alone(t, PROCESS_MEMORY))
                r = table_add(&files->vm, w->fds, KCMP_VM, &same_vm);
        pthread_mutex_unlock(&files->lock);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot compare its descriptor table with others (kcmp)",
                                        dump_task_name(t));
        if (same_vm)
                return ckpt_error(
                        err, -ENOTSUP,
                        "%s shares its memory with pid %d (CLONE_VM), which is not supported; the tree runs "
                        "on",
                        dump_task_name(t), same_vm->task->pid);
        w->fds->shared = same_files;
        if (same_files)
                t->ids->files_id = same_files->task->ids->files_id;
        if (same_fs)
                t->ids->fs_id = same_fs->task->ids->fs_id;
        if (same_files || same_fs)
                __atomic_store_n(&t->dump->shares, true, __ATOMIC_RELAXED);
        for (size_t i = 1; i < t->nr_threads; i++)
                if (!shares_tables(t, t->threads[i].tid))
                        return ckpt_error(
                                err, -ENOTSUP,
                                "%s: thread %d has a descriptor table or a working directory of its own, "
                                "which is not supported yet",
                                dump_task_name(t), t->threads[i].tid);
        return 0;
}

static int collect_list(struct walk *w, const struct proc_fd_vec *list, struct ckpt_error *err) {
        struct fd_probe any = probe_of(w, -1);
        struct collect_raw *raw = NULL;
        int r = 0;

        if (list->n >= PREFETCH_MIN && fd_probe_pidfd(&any) >= 0)
                raw = prefetch_collect(w->task->dump, w->proc, w->pidfd, w->fds, list->v, list->n);
        for (size_t i = 0; r == 0 && i < list->n; i++)
                r = collect_fd(w, list->v[i], raw ? &raw[i] : NULL, err);
        collect_raw_free(raw, list->n);
        return r;
}

/* As they were before the freeze; none of them may have been closed. False: their number is another now, or not told. */
static bool list_seen(const struct walk *w, struct proc_fd_vec *ret) {
        size_t n;

        if (w->fds->nr_seen == 0 || proc_fds_count(w->proc, &n) < 0 || n != w->fds->nr_seen)
                return false;
        for (size_t i = 0; i < n; i++)
                ckpt_assert(proc_fd_vec_push(ret, w->fds->seen[i].fd) == 0);
        return true;
}

static int collect_these(struct walk *w, const struct proc_fd_vec *list, struct ckpt_error *err) {
        w->fds->n = 0;
        w->fds->v = arena_new_array(&w->task->arena, struct dump_fd, list->n);
        return collect_list(w, list, err);
}

/* A list is slow to read. If there are as many descriptors as before, and all of those, it is the same. */
static int collect_all(struct walk *w, struct ckpt_error *err) {
        _cleanup_(proc_fd_vec_done) struct proc_fd_vec list = { 0 };
        int r;

        if (list_seen(w, &list)) {
                _cleanup_error_ struct ckpt_error failure = CKPT_ERROR_INIT;

                r = collect_these(w, &list, &failure);
                if (r != -ENOENT) {
                        ckpt_error_move(err, &failure);
                        return r;
                }
        }
        r = proc_fds(w->proc, &list);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot list its descriptors", dump_task_name(w->task));
        return collect_these(w, &list, err);
}

int fd_collect(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_(blockers_free) struct blockers *b = blockers_new();
        _cleanup_(walk_done) struct walk w = { .task = t, .blockers = b, .pidfd = -EBADF };
        int r;

        ckpt_assert(t->nr_threads > 0);
        r = dump_thread_proc(&t->threads[0], &w.proc);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read /proc/%d", dump_task_name(t),
                                        t->threads[0].tid);
        if (!t->fds)
                t->fds = arena_new(&t->arena, struct dump_fds);
        w.fds = t->fds;
        w.fds->task = t;
        w.fds->tid = w.proc->pid;
        w.owner = (struct same_owner){ w.proc->pid, t->fact };
        r = collect_all(&w, err);
        if (r == 0)
                r = collect_fs(&w, err);
        if (r == 0)
                r = blockers_to_retry(b, err);
        if (r == 0)
                r = collect_sharing(&w, err);
        return r;
}

static int open_own(struct dump_files *files) {
        struct proc_dir dir = PROC_DIR_INIT;
        int r;

        if (files->own)
                return 0;
        r = proc_open(getpid(), &dir);
        if (r < 0)
                return r;
        files->own = arena_new(&files->arena, struct proc_dir);
        *files->own = dir;
        return 0;
}

/*
 * It is in no table that could be walked, but ckpt has it in its own: so it is looked at like any other, by /proc/self.
 */
int dump_queued_fd(struct dump_task *t, int fd, uint32_t *ret_id, bool *ret_keep, struct ckpt_error *err) {
        _cleanup_(blockers_free) struct blockers *b = blockers_new();
        _cleanup_(walk_done) struct walk w = { .task = t, .blockers = b, .pidfd = -EBADF };
        _cleanup_fd_probe_ struct fd_probe p = probe_of(&w, fd);
        struct dump_files *files = dump_files(t->dump);
        const struct fd_kind *kind;
        struct dump_file *file;
        struct file_group *group;
        size_t at;
        int r;

        r = open_own(files);
        w.proc = p.proc = files->own;
        p.what = "a descriptor in the queue of one of its sockets";
        if (r == 0)
                r = fd_probe_info(&p);
        if (r == 0)
                r = fd_probe_path(&p);
        if (r == 0)
                r = dump_file_find(files, &p, &group, &at, &file);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s cannot be read", fd_probe_name(&p));
        *ret_keep = !file;
        if (file) {
                *ret_id = file->id;
                return 0;
        }
        kind = fd_kind_of(&p);
        fd_kind_look(kind, &p, b);
        if (p.info.locks.n > 0)
                blocker_add(b, "Try again when the program has received it",
                            "%s is a file with locks, which cannot be carried over from there",
                            fd_probe_name(&p));
        r = blockers_to_error(b, "the tree runs on as before", err);
        if (r == 0)
                r = find_file(&w, &p, kind, &file, err);
        if (r == 0)
                *ret_id = file->id;
        return r;
}

/* ---- save ---- */

static int save_table(struct dump_task *t, struct ckpt_error *err) {
        _cleanup_image_file_ struct image_file *image = NULL;
        int r;

        r = fault_point_error(FAULT_DUMP_WRITE_IMAGE, err);
        if (r == 0)
                r = image_open_write(t->dump->set, IMAGE_FDINFO, t->ids->files_id, &image, err);
        for (size_t i = 0; r == 0 && i < t->fds->n; i++) {
                const struct dump_fd *fd = &t->fds->v[i];
                Img__Fdinfo entry = IMG__FDINFO__INIT;

                entry.id = fd->file->id;
                entry.flags = fd->cloexec ? FD_CLOEXEC : 0;
                entry.type = fd->file->kind->type;
                entry.fd = (uint32_t)fd->fd;
                r = image_write(image, &entry.base, err);
        }
        return r < 0 ? r : image_close(TAKE_PTR(image), err);
}

int fd_save_task(struct dump_task *t, struct ckpt_error *err) {
        Img__Fs fs = IMG__FS__INIT;
        int r = 0;

        if (!t->fds->shared)
                r = save_table(t, err);
        if (r == 0)
                r = fault_point_error(FAULT_DUMP_WRITE_IMAGE, err);
        if (r < 0)
                return r;
        fs.cwd_id = t->fds->cwd_id;
        fs.root_id = t->fds->root_id;
        fs.has_umask = true;
        fs.umask = t->fds->umask;
        return image_store(t->dump->set, IMAGE_FS, (unsigned long)t->pid, &fs.base, err);
}
