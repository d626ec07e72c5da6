/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who outside of the tree has its pipes, unix sockets, eventfds and timerfds open, or its memfds and deleted files open or
 * mapped. Looked for once for each kind, in /proc, and only if the tree has any.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/anon.h"
#include "fd/ghost.h"
#include "fd/memfd.h"
#include "fd/pipe.h"
#include "lib/pool.h"
#include "macro.h"
#include "proc/maps.h"

enum what { PIPES, FIFOS, MEMFDS, DELETED, TIMERFDS };

/* In the place of a device: what has no name. */
#define DEV_PIPE    0
#define DEV_SOCKET  UINT64_MAX
#define DEV_EVENTFD (UINT64_MAX - 1)

static int compare_foreign(const void *a, const void *b) {
        const struct foreign_pipe *x = a, *y = b;

        if (x->dev != y->dev)
                return x->dev < y->dev ? -1 : 1;
        return (x->ino > y->ino) - (x->ino < y->ino);
}

static int compare_holders(const void *a, const void *b) {
        const struct foreign_pipe *x = a, *y = b;
        int r = compare_foreign(x, y);

        return r != 0 ? r : (x->pid > y->pid) - (x->pid < y->pid);
}

static int compare_fds(const void *a, const void *b) {
        const struct foreign_fd *x = a, *y = b;

        if (x->pid != y->pid)
                return x->pid < y->pid ? -1 : 1;
        return (x->fd > y->fd) - (x->fd < y->fd);
}

void foreign_seen_done(struct foreign_seen *seen) {
        foreign_pipe_vec_done(&seen->holders);
        foreign_fd_vec_done(&seen->eventfds);
        foreign_fd_vec_done(&seen->timerfds);
}

static void note_writer(struct foreign_pipe_vec *holders, uint64_t dev, uint64_t ino, pid_t pid,
                        bool writes) {
        struct foreign_pipe *f = foreign_pipe_vec_add(holders);

        ckpt_assert(f);
        *f = (struct foreign_pipe){ .dev = dev, .ino = ino, .pid = pid, .writes = writes };
}

static void note(struct foreign_pipe_vec *holders, uint64_t dev, uint64_t ino, pid_t pid) {
        note_writer(holders, dev, ino, pid, true);
}

static bool is_memfd(const char *name) {
        return strncmp(name, "/memfd:", 7) == 0;
}

/* As /proc shows it, of a descriptor or an area. */
static bool is_deleted(const char *name) {
        static const char suffix[] = " (deleted)";
        size_t len = strlen(name), tail = sizeof(suffix) - 1;

        return name[0] == '/' && len > tail && strcmp(name + len - tail, suffix) == 0 && !is_memfd(name);
}

static void scan_maps(struct foreign_seen *seen, const struct proc_dir *dir, enum what what) {
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        if (proc_maps_read(dir, &buf, &maps) < 0)
                return;
        for (size_t i = 0; i < maps.n; i++) {
                const struct proc_vma *vma = &maps.v[i];

                if (vma->ino != 0 && (what == MEMFDS ? is_memfd(vma->name) : is_deleted(vma->name)))
                        note_writer(&seen->holders, (uint64_t)vma->dev_major << 32 | vma->dev_minor,
                                    vma->ino, dir->pid, vma->shared && vma->prot & PROT_WRITE);
        }
}

/* /proc shows by the permissions of a link what the descriptor may be used for. */
static bool is_writable(int dir, const char *name) {
        struct stat st;

        return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_mode & S_IWUSR;
}

static void scan_deleted(struct foreign_seen *seen, int dir, const char *name, const char *link, pid_t pid) {
        struct statx st;

        if (is_deleted(link) &&
            statx(dir, name, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &st) == 0)
                note_writer(&seen->holders, statx_dev(&st), st.stx_ino, pid, is_writable(dir, name));
}

static void note_fd(struct foreign_fd_vec *fds, pid_t pid, const char *name) {
        ckpt_assert(foreign_fd_vec_push(fds, (struct foreign_fd){ pid, atoi(name) }) == 0);
}

/* `name`: in the directory of descriptors `dir` of that process. */
static void scan_fd(struct foreign_seen *seen, int dir, const char *name, pid_t pid, enum what what) {
        char link[PATH_MAX];
        unsigned long long ino;
        struct statx st;
        ssize_t n;

        n = readlinkat(dir, name, link, sizeof(link) - 1);
        if (n <= 0)
                return;
        link[n] = 0;
        if (what == PIPES && sscanf(link, "pipe:[%llu]", &ino) == 1)
                note(&seen->holders, DEV_PIPE, ino, pid);
        else if (what == PIPES && sscanf(link, "socket:[%llu]", &ino) == 1)
                note(&seen->holders, DEV_SOCKET, ino, pid);
        else if (what == PIPES && strcmp(link, "anon_inode:[eventfd]") == 0)
                note_fd(&seen->eventfds, pid, name);
        else if (what == TIMERFDS && strcmp(link, "anon_inode:[timerfd]") == 0)
                note_fd(&seen->timerfds, pid, name);
        else if (what == DELETED)
                scan_deleted(seen, dir, name, link, pid);
        else if ((what == FIFOS ? link[0] == '/' : what == MEMFDS && is_memfd(link)) &&
                 statx(dir, name, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &st) == 0 &&
                 (what == MEMFDS || S_ISFIFO(st.stx_mode)))
                note(&seen->holders, statx_dev(&st), st.stx_ino, pid);
}

/* All processes of the machine are looked at: as few calls for each as possible. */
static void scan_fds(struct foreign_seen *seen, int proc, pid_t pid, enum what what) {
        char entries[4096] __attribute__((aligned(__alignof__(struct dirent64))));
        _cleanup_close_ int dir = -EBADF;
        char path[32];
        ssize_t n;

        snprintf(path, sizeof(path), "%d/fd", pid);
        dir = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        while (dir >= 0 && (n = getdents64(dir, entries, sizeof(entries))) > 0)
                for (ssize_t at = 0; at < n;) {
                        const struct dirent64 *entry = (const void *)(entries + at);

                        at += entry->d_reclen;
                        if (entry->d_name[0] != '.')
                                scan_fd(seen, dir, entry->d_name, pid, what);
                }
}

static void scan_process(struct foreign_seen *seen, int proc, pid_t pid, enum what what) {
        scan_fds(seen, proc, pid, what);
        if (what == MEMFDS || what == DELETED) {
                _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;

                if (proc_open(pid, &dir) == 0)
                        scan_maps(seen, &dir, what);
        }
}

/* Processes that one thread looks at before it takes more. */
enum { TAKEN = 8 };

struct scanning {
        struct dump *d;
        enum what what;
        int proc;
        struct pid_vec pids;
        size_t next; /* atomic */
        struct foreign_seen seen;
        pthread_mutex_t lock; /* of seen */
};

static void append(struct foreign_fd_vec *to, const struct foreign_fd_vec *from) {
        for (size_t i = 0; i < from->n; i++)
                ckpt_assert(foreign_fd_vec_push(to, from->v[i]) == 0);
}

static void add_seen(struct foreign_seen *to, const struct foreign_seen *from) {
        for (size_t i = 0; i < from->holders.n; i++)
                ckpt_assert(foreign_pipe_vec_push(&to->holders, from->holders.v[i]) == 0);
        append(&to->eventfds, &from->eventfds);
        append(&to->timerfds, &from->timerfds);
}

static void scan_some(void *ctx, bool helper __attribute__((unused))) {
        struct scanning *s = ctx;
        struct foreign_seen seen = { 0 };
        size_t from;

        while ((from = __atomic_fetch_add(&s->next, TAKEN, __ATOMIC_RELAXED)) < s->pids.n)
                for (size_t i = from; i < MIN(s->pids.n, from + TAKEN); i++)
                        /* ckpt itself will not keep a pipe alive for long. */
                        if (s->pids.v[i] != getpid() && !dump_find_task(s->d, s->pids.v[i]))
                                scan_process(&seen, s->proc, s->pids.v[i], s->what);
        pthread_mutex_lock(&s->lock);
        add_seen(&s->seen, &seen);
        pthread_mutex_unlock(&s->lock);
        foreign_seen_done(&seen);
}

static void sort_holders(struct foreign_seen *seen) {
        if (seen->holders.n > 0)
                qsort(seen->holders.v, seen->holders.n, sizeof(*seen->holders.v), compare_holders);
}

/* Also what the tree has given birth to since it was read: dump_is_below() tells when it matters. */
static void scan(struct dump *d, enum what what) {
        _cleanup_close_ int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct scanning s = { .d = d, .what = what, .proc = proc, .lock = PTHREAD_MUTEX_INITIALIZER };
        struct foreign_seen *foreign = &dump_files(d)->foreign;

        if (proc < 0 || proc_pids(&s.pids) < 0)
                return;
        if (d->pool)
                pool_share(d->pool, pool_threads(d->pool) - 1, scan_some, &s);
        else
                scan_some(&s, false);
        /* The threads have come upon them in any order. */
        add_seen(foreign, &s.seen);
        sort_holders(foreign);
        if (foreign->timerfds.n > 0)
                qsort(foreign->timerfds.v, foreign->timerfds.n, sizeof(*foreign->timerfds.v), compare_fds);
        foreign_seen_done(&s.seen);
        pid_vec_done(&s.pids);
}

/*
 * Processes that ckpt has forked hold what it had open then: the guard of the connections, who looks into queues of unix
 * sockets. None of them outlives it for long.
 */
static bool is_own_helper(pid_t pid) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        struct proc_stat stat;
        struct statx own, its;

        return proc_open(pid, &dir) == 0 && proc_stat_read(&dir, &buf, &stat) == 0 &&
               stat.ppid == getpid() && statx(AT_FDCWD, "/proc/self/exe", 0, STATX_INO, &own) == 0 &&
               statx(dir.fd, "exe", 0, STATX_INO, &its) == 0 && own.stx_ino == its.stx_ino &&
               statx_dev(&own) == statx_dev(&its);
}

/* `writer`: only who can change it. */
static pid_t find_any(struct dump *d, uint64_t dev, uint64_t ino, enum what what, bool writer, bool *known) {
        const struct foreign_pipe_vec *holders = &dump_files(d)->foreign.holders;
        struct foreign_pipe key = { .dev = dev, .ino = ino };
        const struct foreign_pipe *at, *end;

        if (!*known) {
                scan(d, what);
                *known = true;
        }
        if (holders->n == 0)
                return 0;
        end = holders->v + holders->n;
        at = bsearch(&key, holders->v, holders->n, sizeof(key), compare_foreign);
        while (at && at > holders->v && compare_foreign(at - 1, &key) == 0)
                at--;
        for (; at && at < end && compare_foreign(at, &key) == 0; at++)
                if ((at->writes || !writer) && !dump_is_below(d, at->pid) && !is_own_helper(at->pid))
                        return at->pid;
        return 0;
}

static pid_t find_holder(struct dump *d, uint64_t dev, uint64_t ino, enum what what, bool *known) {
        return find_any(d, dev, ino, what, false, known);
}

/* All eventfds have the same inode. What they are in the kernel is known by a number that has to be read of each. */
static void ask_eventfds(struct foreign_seen *seen) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        for (size_t i = 0; i < seen->eventfds.n; i++) {
                const struct foreign_fd *f = &seen->eventfds.v[i];
                _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
                _cleanup_proc_fdinfo_ struct proc_fdinfo info = { 0 };

                if (proc_open(f->pid, &dir) == 0 && proc_fdinfo_read(&dir, f->fd, &buf, &info) == 0 &&
                    info.kind == PROC_FDINFO_EVENTFD && info.eventfd.id >= 0)
                        note(&seen->holders, DEV_EVENTFD, (uint64_t)info.eventfd.id, f->pid);
        }
        if (seen->eventfds.n > 0)
                sort_holders(seen);
        foreign_fd_vec_done(&seen->eventfds);
}

pid_t eventfd_foreign_holder(const struct fd_probe *p) {
        struct dump_files *files = dump_files(p->task->dump);

        if (p->info.eventfd.id < 0)
                return 0;
        if (!files->pipes_known) {
                scan(p->task->dump, PIPES);
                files->pipes_known = true;
        }
        ask_eventfds(&files->foreign);
        return find_holder(p->task->dump, DEV_EVENTFD, (uint64_t)p->info.eventfd.id, PIPES,
                           &files->pipes_known);
}

pid_t pipe_foreign_holder(const struct fd_probe *p) {
        struct dump *d = p->task->dump;
        struct dump_files *files = dump_files(d);

        return p->link[0] == '/'
                       ? find_holder(d, statx_dev(&p->st), p->st.stx_ino, FIFOS, &files->fifos_known)
                       : find_holder(d, DEV_PIPE, p->st.stx_ino, PIPES, &files->pipes_known);
}

pid_t sock_foreign_holder(struct dump *d, uint64_t ino) {
        return find_holder(d, DEV_SOCKET, ino, PIPES, &dump_files(d)->pipes_known);
}

pid_t memfd_foreign_holder(const struct fd_probe *p) {
        return find_holder(p->task->dump, statx_dev(&p->st), p->st.stx_ino, MEMFDS,
                           &dump_files(p->task->dump)->memfds_known);
}

/* Nothing but kcmp(2) tells them apart. */
pid_t timerfd_foreign_holder(const struct fd_probe *p) {
        struct dump_files *files = dump_files(p->task->dump);

        if (!files->timerfds_known)
                scan(p->task->dump, TIMERFDS);
        files->timerfds_known = true;
        for (size_t i = 0; i < files->foreign.timerfds.n; i++) {
                const struct foreign_fd *f = &files->foreign.timerfds.v[i];

                if (syscall(SYS_kcmp, p->proc->pid, f->pid, KCMP_FILE, p->fd, f->fd) == 0 &&
                    !dump_is_below(p->task->dump, f->pid) && !is_own_helper(f->pid))
                        return f->pid;
        }
        return 0;
}

/* Where nobody can change it, each may have one of its own. Links to programs and directories have other permissions. */
pid_t ghost_foreign_holder(const struct fd_probe *p) {
        struct dump_files *files = dump_files(p->task->dump);
        bool fd_or_map = p->fd >= 0 || strncmp(p->where, "map_files/", strlen("map_files/")) == 0;
        bool writes = fd_or_map && is_writable(p->proc->fd, p->where);

        return find_any(p->task->dump, statx_dev(&p->st), p->st.stx_ino, DELETED, !writes,
                        &files->deleted_known);
}

/* ---- positions ---- */

enum { ANCESTORS_MAX = 32 };

static void note_regular_fds(struct dump_files *files, pid_t pid) {
        _cleanup_closedir_ DIR *entries = NULL;
        char path[32];

        snprintf(path, sizeof(path), "/proc/%d/fd", pid);
        entries = opendir(path);
        for (const struct dirent *entry; entries && (entry = readdir(entries));) {
                struct statx st;

                if (entry->d_name[0] == '.' ||
                    statx(dirfd(entries), entry->d_name, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC,
                          STATX_TYPE | STATX_INO, &st) < 0 ||
                    !S_ISREG(st.stx_mode))
                        continue;
                ckpt_assert(ancestor_fd_vec_push(&files->ancestors,
                                                 (struct ancestor_fd){ pid, atoi(entry->d_name),
                                                                       statx_dev(&st), st.stx_ino }) == 0);
        }
}

/* Whoever has started the tree, and has kept what it gave it. */
void files_note_ancestors(struct dump *d) {
        struct dump_files *files = dump_files(d);
        pid_t pid = d->tasks[0]->stat.ppid;

        if (files->ancestors_known)
                return;
        files->ancestors_known = true;
        for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
                _cleanup_proc_buf_ struct proc_buf buf = { 0 };
                _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
                struct proc_stat stat;

                if (proc_open(pid, &dir) < 0 || proc_stat_read(&dir, &buf, &stat) < 0)
                        return;
                if (pid != getpid())
                        note_regular_fds(files, pid);
                pid = stat.ppid;
        }
}

pid_t position_foreign_holder(const struct fd_probe *p) {
        const struct dump_files *files = dump_files(p->task->dump);

        for (size_t i = 0; i < files->ancestors.n; i++) {
                const struct ancestor_fd *a = &files->ancestors.v[i];

                if (a->ino == p->st.stx_ino && a->dev == statx_dev(&p->st) &&
                    syscall(SYS_kcmp, p->proc->pid, a->pid, KCMP_FILE, p->fd, a->fd) == 0)
                        return a->pid;
        }
        return 0;
}
