/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The file of a member: kcmp(2) with KCMP_EPOLL_TFD compares it with any descriptor of any task. The kernel looks a
 * member up by going through all of them, so what is certain without is not asked: a socket has its inode for itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/epoll.h"
#include "macro.h"

enum {
        LOOK_TRIES = 5,
        LOOK_PAUSE_MS = 5,
        MANY = 200, /* members, from which on asking for all at once is faster */
};

struct numbered {
        int fd;
        size_t index;
};

static int compare_numbered(const void *a, const void *b) {
        const struct numbered *x = a, *y = b;

        if (x->fd != y->fd)
                return x->fd < y->fd ? -1 : 1;
        return x->index < y->index ? -1 : x->index > y->index;
}

unsigned int *epoll_count_same(const struct proc_epoll_item *items, size_t n) {
        _cleanup_free_ struct numbered *sorted = calloc(n + 1, sizeof(*sorted));
        unsigned int *same = calloc(n + 1, sizeof(*same));

        ckpt_assert(sorted && same);
        for (size_t i = 0; i < n; i++)
                sorted[i] = (struct numbered){ items[i].fd, i };
        qsort(sorted, n, sizeof(*sorted), compare_numbered);
        for (size_t i = 1; i < n; i++)
                if (sorted[i].fd == sorted[i - 1].fd)
                        same[sorted[i].index] = same[sorted[i - 1].index] + 1;
        return same;
}

int epoll_compare(const struct epoll_member *m, pid_t tid, int fd) {
        struct kcmp_epoll_slot slot = {
                .efd = (uint32_t)m->fd,
                .tfd = (uint32_t)m->item->fd,
                .toff = m->nr_same,
        };
        long r = syscall(SYS_kcmp, tid, m->tid, KCMP_EPOLL_TFD, fd, &slot);

        return r < 0 ? -errno : r > 2 ? -EOPNOTSUPP : (int)r;
}

/* ---- look ---- */

static bool has_inode(const struct proc_dir *proc, int fd, uint64_t ino) {
        char path[32];
        struct stat st;

        snprintf(path, sizeof(path), "fd/%d", fd);
        return fstatat(proc->fd, path, &st, 0) == 0 && st.st_ino == ino;
}

/* True also when it cannot be told now; the freeze will show. */
static bool held_by(struct dump_task *t, const struct epoll_member *m) {
        _cleanup_(proc_fd_vec_done) struct proc_fd_vec fds = { 0 };
        int r = proc_fds(&t->proc, &fds);

        if (r < 0)
                return r != -ESRCH;
        for (size_t i = 0; i < fds.n; i++) {
                if (!has_inode(&t->proc, fds.v[i], m->item->ino))
                        continue;
                r = epoll_compare(m, t->pid, fds.v[i]);
                if (r == 0 || r == -EOPNOTSUPP || r == -ESRCH)
                        return true;
        }
        return false;
}

static bool held_in_tree(const struct dump *d, const struct epoll_member *m) {
        if (m->item->ino == 0)
                return true;
        for (size_t i = 0; i < d->nr_tasks; i++)
                if (has_inode(&d->tasks[i]->proc, m->item->fd, m->item->ino))
                        return true;
        for (size_t i = 0; i < d->nr_tasks; i++)
                if (held_by(d->tasks[i], m))
                        return true;
        return false;
}

/* The number of a member that nothing in the tree has open, or -1. */
static int find_lost(const struct fd_probe *p, const struct proc_fdinfo *info) {
        _cleanup_free_ unsigned int *same = epoll_count_same(info->epoll.v, info->epoll.n);

        for (size_t i = 0; i < info->epoll.n; i++) {
                const struct proc_epoll_item *item = &info->epoll.v[i];
                const struct epoll_member m = {
                        .tid = p->proc->pid,
                        .fd = p->fd,
                        .item = item,
                        .nr_same = same[i],
                };

                if (!has_inode(p->proc, item->fd, item->ino) && !held_in_tree(p->task->dump, &m))
                        return item->fd;
        }
        return -1;
}

static bool is_frozen(const struct dump_task *t) {
        return t->nr_threads > 0 && t->threads[0].stop.stopped;
}

/* A program that runs opens and closes meanwhile, so what looks lost is looked at again before it is said to be. */
void epoll_look_members(struct fd_probe *p, struct blockers *b) {
        struct timespec pause = { 0, LOOK_PAUSE_MS * 1000000L };
        int lost = -1;

        if (is_frozen(p->task))
                return;
        for (int try = 0; try < LOOK_TRIES; try++) {
                _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };
                _cleanup_proc_buf_ struct proc_buf buf = { 0 };

                if (try > 0)
                        nanosleep(&pause, NULL);
                if (proc_fdinfo_read(p->proc, p->fd, &buf, &info) < 0)
                        return;
                lost = find_lost(p, &info);
                if (lost < 0)
                        return;
        }
        blocker_add(
                b, "Have the program remove it from the instance (EPOLL_CTL_DEL) before it closes it",
                "%s is an epoll instance with the member %d, which has been closed, and which nothing in the tree "
                "has open by another descriptor",
                fd_probe_name(p), lost);
}

/* ---- save ---- */

static const struct dump_fd *find_fd(const struct dump_fds *fds, int fd) {
        size_t low = 0, high = fds->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (fds->v[middle].fd == fd)
                        return &fds->v[middle];
                if (fds->v[middle].fd < fd)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

/* An instance and the tables that it is in. */
struct instance {
        const struct dump_file *file;
        const struct dump_fds **tables;
        size_t nr_tables;
        struct proc_epoll_item *items;
        unsigned int *same;
        const struct dump_file **found; /* for each item */
        size_t n;
};

static bool is_socket(const struct dump_file *f) {
        switch (f->msg->type) {
        case IMG__FD_TYPES__INETSK:
        case IMG__FD_TYPES__UNIXSK:
        case IMG__FD_TYPES__PACKETSK:
        case IMG__FD_TYPES__NETLINKSK:
                return true;
        default:
                return false;
        }
}

static uint64_t group_dev(uint32_t sdev) {
        return (uint64_t)(sdev >> 20) << 32 | (sdev & 0xfffff);
}

/* 1: `f` is the file of the member. */
static int is_file_of(const struct epoll_member *m, const struct dump_file *f) {
        int r;

        if (!f->group)
                return 0;
        if (is_socket(f) && m->item->ino != 0)
                return f->group->ino == m->item->ino && f->group->dev == group_dev(m->item->sdev);
        r = epoll_compare(m, f->tid, f->fd);
        return r < 0 ? r : r == 0;
}

/* Under the number that it was registered by, in one of the tables that the instance is in. */
static int find_by_number(const struct instance *e, const struct epoll_member *m,
                          const struct dump_file **ret) {
        const struct dump_file *last = NULL;

        for (size_t i = 0; i < e->nr_tables; i++) {
                const struct dump_fd *fd = find_fd(e->tables[i], m->item->fd);
                int r;

                if (!fd || fd->file == last)
                        continue;
                last = fd->file;
                r = is_file_of(m, last);
                if (r > 0)
                        *ret = last;
                if (r != 0)
                        return r;
        }
        return 0;
}

/* Any file with its inode. They are in the order of kcmp(2). */
static int search_group(const struct file_group *g, const struct epoll_member *m,
                        const struct dump_file **ret) {
        size_t low = 0, high = g->files.n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const struct dump_file *f = g->files.v[middle];
                int r = epoll_compare(m, f->tid, f->fd);

                if (r < 0)
                        return r;
                if (r == 0) {
                        *ret = f;
                        return 1;
                }
                if (r == 1)
                        low = middle + 1;
                else
                        high = middle;
        }
        return 0;
}

static int find_anywhere(const struct dump_files *files, const struct epoll_member *m,
                         const struct dump_file **ret) {
        for (size_t i = 0; i < FILE_BUCKETS; i++)
                for (const struct file_group *g = files->groups[i]; g; g = g->next)
                        if (m->item->ino == 0 || g->ino == m->item->ino) {
                                int r = search_group(g, m, ret);

                                if (r != 0)
                                        return r;
                        }
        return 0;
}

static struct epoll_member member_of(const struct instance *e, size_t i) {
        return (struct epoll_member){ e->file->tid, e->file->fd, &e->items[i], e->same[i] };
}

/*
 * What is there under its number in the first table with its inode, if that is what is registered. Only for members
 * whose number is registered once.
 */
static int find_many(const struct instance *e) {
        _cleanup_free_ struct epoll_question *questions = calloc(e->n + 1, sizeof(*questions));
        _cleanup_free_ size_t *which = calloc(e->n + 1, sizeof(*which));
        _cleanup_free_ bool *answers = calloc(e->n + 1, sizeof(*answers));
        _cleanup_close_ int epfd = -EBADF, pidfd = -EBADF;
        size_t n = 0;
        int r;

        ckpt_assert(questions && which && answers);
        if (e->nr_tables == 0) /* only a queue has it */
                return 0;
        for (size_t i = 0; i < e->n; i++) {
                const struct dump_fd *fd = find_fd(e->tables[0], e->items[i].fd);

                if (e->same[i] > 0 || !fd || is_socket(fd->file) || !fd->file->group ||
                    fd->file->group->ino != e->items[i].ino)
                        continue;
                e->found[i] = fd->file;
                questions[n].fd = fd->fd;
                which[n++] = i;
        }
        r = 0;
        if (n >= MANY) {
                epfd = dump_file_get(e->file);
                /* A dead leader has no descriptors any more: PIDFD_THREAD (6.9). */
                pidfd = (int)syscall(SYS_pidfd_open, e->tables[0]->tid,
                                     e->tables[0]->tid == e->tables[0]->task->pid ? 0 : O_EXCL);
                r = epfd < 0 ? epfd : pidfd < 0 ? -errno : epoll_ask_all(epfd, pidfd, questions, n, answers);
        }
        for (size_t i = 0; i < n; i++)
                if (!answers[i])
                        e->found[which[i]] = NULL;
        return r;
}

static int find_one(struct dump *d, const struct instance *e, size_t i, struct ckpt_error *err) {
        const struct epoll_member m = member_of(e, i);
        int r;

        if (e->found[i])
                return 0;
        r = find_by_number(e, &m, &e->found[i]);
        if (r == 0)
                r = find_anywhere(dump_files(d), &m, &e->found[i]);
        if (r < 0)
                return ckpt_error_errno(
                        err, r,
                        "%s: fd %d: cannot find out which file the member %d of an epoll instance is (kcmp)",
                        dump_task_name(e->file->task), e->file->fd, m.item->fd);
        if (r > 0)
                return 0;
        return ckpt_error(
                err, -ENOTSUP,
                "%s: fd %d is an epoll instance with the member %d, which has been closed, and which nothing in "
                "the tree has open by another descriptor; the tree runs on",
                dump_task_name(e->file->task), e->file->fd, m.item->fd);
}

static int save_instance(struct dump *d, struct instance *e, struct ckpt_error *err) {
        Img__EventpollFile *msg = e->file->msg->epfd;
        _cleanup_free_ struct proc_epoll_item *items = calloc(msg->n_tfd + 1, sizeof(*items));
        _cleanup_free_ const struct dump_file **found = calloc(msg->n_tfd + 1, sizeof(*found));
        _cleanup_free_ unsigned int *same = NULL;
        int r;

        ckpt_assert(items && found);
        for (size_t i = 0; i < msg->n_tfd; i++) {
                const Img__EventpollTfd *member = msg->tfd[i];
                uint32_t dev_major = member->dev >> 8 & 0xfff,
                         dev_minor = (member->dev & 0xff) | (member->dev >> 12 & ~0xffU);

                items[i] = (struct proc_epoll_item){
                        .fd = (int)member->tfd,
                        .ino = member->inode,
                        .sdev = dev_major << 20 | dev_minor,
                };
        }
        same = epoll_count_same(items, msg->n_tfd);
        e->items = items;
        e->same = same;
        e->found = found;
        e->n = msg->n_tfd;
        r = find_many(e);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: fd %d: cannot examine the members of an epoll instance",
                                        dump_task_name(e->file->task), e->file->fd);
        for (size_t i = 0; r == 0 && i < msg->n_tfd; i++) {
                r = find_one(d, e, i, err);
                if (r < 0)
                        return r;
                msg->tfd[i]->has_file_id = true;
                msg->tfd[i]->file_id = found[i]->id;
        }
        return 0;
}

DEFINE_VEC(table_list, const struct dump_fds *);

int epoll_save_members(struct dump *d, struct ckpt_error *err) {
        struct dump_files *files = dump_files(d);
        int r = 0;

        for (size_t i = 0; r == 0 && i < files->all.n; i++) {
                const struct dump_file *f = files->all.v[i];
                _cleanup_(table_list_done) struct table_list tables = { 0 };
                struct instance e = { .file = f };

                if (f->kind != &fd_kind_epoll || f->msg->epfd->n_tfd == 0)
                        continue;
                for (size_t j = 0; j < d->nr_tasks; j++) {
                        const struct dump_fds *fds = d->tasks[j]->fds;

                        for (size_t k = 0; fds && k < fds->n; k++)
                                if (fds->v[k].file == f) {
                                        ckpt_assert(table_list_push(&tables, fds) == 0);
                                        break;
                                }
                }
                e.tables = tables.v;
                e.nr_tables = tables.n;
                r = save_instance(d, &e, err);
        }
        return r;
}
