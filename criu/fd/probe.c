/* SPDX-License-Identifier: GPL-2.0-only */
/* Looking at a descriptor of another task, from the cheap questions to the dear ones. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/kind.h"
#include "kernel/uapi.h"
#include "macro.h"

const char *fd_probe_name(const struct fd_probe *p) {
        struct dump_task *t = p->task;

        if (p->what)
                return arena_printf(&t->arena, "%s: %s", dump_task_name(t), p->what);
        return arena_printf(&t->arena, "%s: fd %d", dump_task_name(t), p->fd);
}

int fd_probe_link(struct fd_probe *p) {
        ssize_t n = readlinkat(p->proc->fd, p->where, p->link_buf, PATH_MAX - 1);

        if (n < 0)
                return -errno;
        p->link_buf[n] = 0;
        p->link = p->link_buf;
        return 0;
}

int fd_probe_stat(struct fd_probe *p) {
        if (statx(p->proc->fd, p->where, AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_MNT_ID, &p->st) < 0)
                return -errno;
        return 0;
}

int fd_probe_path(struct fd_probe *p) {
        int r = fd_probe_link(p);

        return r < 0 ? r : fd_probe_stat(p);
}

int fd_probe_info(struct fd_probe *p) {
        int r;

        if (p->has_info || p->fd < 0)
                return 0;
        r = proc_fdinfo_read(p->proc, p->fd, p->buf, &p->info);
        if (r < 0)
                return r;
        p->has_info = true;
        return 0;
}

void fd_probe_done(struct fd_probe *p) {
        if (p->has_info)
                proc_fdinfo_done(&p->info);
        p->has_info = false;
        safe_close(fd_probe_take_copy(p));
}

int fd_probe_take_copy(struct fd_probe *p) {
        bool there = p->has_copy;

        p->has_copy = false;
        return there ? p->copy : -EBADF;
}

uint32_t fd_probe_flags(struct fd_probe *p) {
        if (fd_probe_info(p) < 0 || !p->has_info)
                return 0;
        return p->info.flags & ~(uint32_t)O_CLOEXEC;
}

long fd_probe_fs_type(const struct fd_probe *p) {
        struct dump_files *files = dump_files(p->task->dump);
        uint64_t dev = statx_dev(&p->st);
        struct fs_type *known;
        struct statfs sfs;
        char path[96];

        for (size_t i = 0; i < files->fs_types.n; i++)
                if (files->fs_types.v[i].dev == dev)
                        return files->fs_types.v[i].type;
        snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", p->proc->fd, p->where);
        if (statfs(path, &sfs) < 0)
                return 0;
        known = fs_type_vec_add(&files->fs_types);
        ckpt_assert(known);
        *known = (struct fs_type){ .dev = dev, .type = (long)sfs.f_type };
        return known->type;
}

/* A dead leader has no descriptors any more; the pidfd must be that of a living thread then. */
static int open_pidfd(pid_t pid, pid_t tid) {
        int fd = (int)syscall(SYS_pidfd_open, tid, tid == pid || tid == getpid() ? 0 : PIDFD_THREAD);

        return fd < 0 ? -errno : fd;
}

static int get_fd(int pidfd, int fd) {
        int copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);

        return copy < 0 ? -errno : copy;
}

int fd_probe_pidfd(const struct fd_probe *p) {
        if (*p->pidfd < 0)
                *p->pidfd = open_pidfd(p->task->pid, p->proc->pid);
        return *p->pidfd;
}

int fd_probe_get(const struct fd_probe *p) {
        int pidfd = fd_probe_pidfd(p);

        return pidfd < 0 ? pidfd : get_fd(pidfd, p->fd);
}

/* Descriptions are got in the order of their tables: of hundreds in turn the task is the same. */
int dump_file_get(const struct dump_file *f) {
        struct dump_files *files = dump_files(f->task->dump);
        int r = 0;

        pthread_mutex_lock(&files->lock);
        if (files->getting_from != f->tid) {
                safe_close(files->getting_by);
                files->getting_by = r = open_pidfd(f->task->pid, f->tid);
                files->getting_from = r < 0 ? 0 : f->tid;
        }
        if (r >= 0)
                r = get_fd(files->getting_by, f->fd);
        pthread_mutex_unlock(&files->lock);
        return r;
}
