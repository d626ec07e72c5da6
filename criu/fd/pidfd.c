/* SPDX-License-Identifier: GPL-2.0-only */
/* pidfd_open(2): processes of the tree, and processes that are gone. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/anon.h"
#include "proc/stat.h"

#ifndef PID_FS_MAGIC
#define PID_FS_MAGIC 0x50494446
#endif

/* PIDFD_GET_INFO (6.13), of which exit_code is told since 6.15. */
struct kernel_pidfd_info {
        uint64_t mask, cgroupid;
        uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
        int32_t exit_code;
};
#define GET_INFO  _IOWR(0xFF, 11, struct kernel_pidfd_info)
#define INFO_EXIT (1ULL << 3)

enum { FLAG_THREAD = O_EXCL /* PIDFD_THREAD, 6.9 */ };

static bool pidfd_match(struct fd_probe *p) {
        return strncmp(p->link, "anon_inode:[pidfd]", 18) == 0 || strncmp(p->link, "pidfd:", 6) == 0;
}

/* A process that was forked since the tree was read; the look in the freeze knows it. */
static bool descends_from(pid_t pid, pid_t root) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        for (int depth = 0; pid > 1 && depth < 10000; depth++) {
                _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
                struct proc_stat stat;

                if (pid == root)
                        return true;
                if (proc_open(pid, &dir) < 0 || proc_stat_read(&dir, &buf, &stat) < 0)
                        return false;
                pid = stat.ppid;
        }
        return false;
}

static bool is_thread_of(const struct dump *d, pid_t tid) {
        for (size_t i = 0; i < d->nr_tasks; i++) {
                char path[32];

                snprintf(path, sizeof(path), "task/%d", tid);
                if (faccessat(d->tasks[i]->proc.fd, path, F_OK, 0) == 0)
                        return true;
        }
        return false;
}

static void pidfd_look(struct fd_probe *p, struct blockers *b) {
        const struct dump *d = p->task->dump;
        pid_t pid;

        if (!anon_look(p, PROC_FDINFO_PIDFD, b))
                return;
        pid = p->info.pidfd.pid;
        if (pid < 0 || (pid > 0 && dump_find_task(d, pid)))
                return;
        if (pid == 0)
                blocker_add(b, "Have the program close it, or run ckpt where that process can be seen",
                            "%s is a pidfd of a process in a pid namespace that ckpt does not see",
                            fd_probe_name(p));
        else if (fd_probe_flags(p) & FLAG_THREAD && is_thread_of(d, pid))
                blocker_add(
                        b, "Have the program close it",
                        "%s is a pidfd of the single thread %d (PIDFD_THREAD), which is not supported yet",
                        fd_probe_name(p), pid);
        else if (!descends_from(pid, d->tasks[0]->pid))
                blocker_add(b, "Dump a tree that has both, or have the program close it",
                            "%s is a pidfd of pid %d, outside of the tree", fd_probe_name(p), pid);
}

/* How a process that is gone has ended. */
static void note_end(int fd, Img__Pidfd *msg) {
        struct kernel_pidfd_info info = { .mask = INFO_EXIT };

        if (ioctl(fd, GET_INFO, &info) < 0 || !(info.mask & INFO_EXIT))
                return;
        msg->has_exit_status = true;
        msg->exit_status = (uint32_t)info.exit_code;
}

static int pidfd_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        Img__Pidfd *msg = arena_message(&dump_files(d)->arena, Img__Pidfd, img__pidfd__init);
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = anon_dump(d, p, PROC_FDINFO_PIDFD, &msg->fown, &msg->flags, &fd, err);
        if (r < 0)
                return r;
        msg->id = file->id;
        msg->nspid = p->info.pidfd.pid > 0 ? p->info.pidfd.pid : -1;
        /* Before pidfs (6.9) all of them have one inode; only who is gone is told apart by it. */
        msg->ino = fd_probe_fs_type(p) == PID_FS_MAGIC ? (uint32_t)p->st.stx_ino : file->id;
        if (msg->nspid < 0)
                note_end(fd, msg);
        file->msg->pidfd = msg;
        return 0;
}

/* ---- restore ---- */

static int pidfd_check(struct restore *r, struct restore_file *file, struct image_file *image,
                       struct ckpt_error *err) {
        const Img__Pidfd *msg = file->msg->pidfd;

        if (msg->nspid > 0 && !restore_find_task(r, msg->nspid)) {
                if (!(msg->flags & FLAG_THREAD))
                        return image_damaged(image, err, "file %u: pid %d of a pidfd is not in the tree",
                                             file->id, msg->nspid);
                blocker_add(r->files->blockers, NULL,
                            "file %u is a pidfd of the single thread %d, which is not supported yet",
                            file->id, msg->nspid);
        }
        return anon_check_flags(file, image, msg->flags, FLAG_THREAD, err);
}

static int open_one(struct restore_file *file, pid_t pid, struct ckpt_error *err) {
        const Img__Pidfd *msg = file->msg->pidfd;

        return anon_opened(file, (int)syscall(SYS_pidfd_open, pid, msg->flags & (O_NONBLOCK | FLAG_THREAD)),
                           msg->flags, err);
}

/* One that nobody has asked for yet. */
static int open_another(struct restore *r, struct restore_file *file, pid_t pid, struct ckpt_error *err) {
        int rc;

        rc = open_one(file, pid, err);
        if (rc == 0)
                rc = fown_restore(r->files, file, err);
        file->owner_waits = rc == -ESRCH;
        return file->owner_waits ? 0 : rc;
}

/* In the child: end as that process did. */
static void __attribute__((noreturn)) end_as(uint32_t status) {
        int sig = (int)(status & 0x7f);
        const struct rlimit none = { 0, 0 };
        sigset_t set;

        if (sig != 0) {
                setrlimit(RLIMIT_CORE, &none);
                prctl(PR_SET_DUMPABLE, 0);
                signal(sig, SIG_DFL);
                sigfillset(&set);
                sigprocmask(SIG_UNBLOCK, &set, NULL);
                syscall(SYS_kill, syscall(SYS_getpid), sig);
        }
        for (;;)
                syscall(SYS_exit_group, status >> 8 & 0xff);
}

/*
 * A process that is gone is one that was there, ended and was waited for. It has no exit signal, so that nobody
 * but who asks for it by number waits for it, and is gone before threads of the tree need its number.
 */
static int open_dead(struct restore *r, struct restore_file *asked, struct ckpt_error *err) {
        const Img__Pidfd *like = asked->msg->pidfd;
        struct clone_args args = { 0 };
        int rc, pipe_fds[2];
        _cleanup_close_ int hold = -EBADF, release = -EBADF;
        pid_t pid;
        char c;

        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return ckpt_error_errno(err, -errno, "cannot make a pipe");
        hold = pipe_fds[0];
        release = pipe_fds[1];
        pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
        if (pid == 0) {
                syscall(SYS_close, pipe_fds[1]);
                (void)!syscall(SYS_read, pipe_fds[0], &c, 1);
                end_as(like->has_exit_status ? like->exit_status : 0);
        }
        if (pid < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot make a process for the pidfd of one that is gone");
        rc = open_one(asked, pid, err);
        for (size_t i = 0; rc == 0 && i < r->files->n; i++) {
                struct restore_file *file = &r->files->v[i];
                const Img__Pidfd *msg = file->msg->type == IMG__FD_TYPES__PIDFD ? file->msg->pidfd : NULL;

                if (msg && msg->nspid <= 0 && msg->ino == like->ino && file->fd < 0)
                        rc = open_another(r, file, pid, err);
        }
        release = safe_close(release);
        while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
                ;
        return rc;
}

static int pidfd_open_file(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        const Img__Pidfd *msg = file->msg->pidfd;

        return msg->nspid > 0 ? open_one(file, msg->nspid, err) : open_dead(r, file, err);
}

const struct fd_kind fd_kind_pidfd = {
        .type = IMG__FD_TYPES__PIDFD,
        .name = "pidfd",
        .match = pidfd_match,
        .look = pidfd_look,
        .dump = pidfd_dump,
        .check = pidfd_check,
        .open = pidfd_open_file,
};
