/* SPDX-License-Identifier: GPL-2.0-only */
#include "cli/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "log.h"

static int already_exists(const char *path, struct ckpt_error *err) {
        ckpt_error(err, -EEXIST, "--pidfile: %s exists already", path);
        return ckpt_error_hint(err, "Remove it, or name another file");
}

int pidfile_check(const struct ckpt_run *run, struct ckpt_error *err) {
        const char *path = run->opts->pidfile;
        struct stat st;

        if (path && fstatat(run->work_dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
                return already_exists(path, err);
        return 0;
}

/* A file with a name of its own first: whoever waits for the pid file never sees it empty. */
static int write_temporary(int dirfd, const char *path, pid_t pid) {
        _cleanup_close_ int fd = -EBADF;
        char text[16];
        int n, r;

        fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
                return -errno;
        n = snprintf(text, sizeof(text), "%d\n", (int)pid);
        r = write_full(fd, text, (size_t)n);
        if (r < 0)
                (void)unlinkat(dirfd, path, 0);
        return r;
}

/* Give it the final name unless that exists; filesystems without hard links know neither
 * linkat() nor, sometimes, RENAME_NOREPLACE. */
static int move_into_place(int dirfd, const char *from, const char *to) {
        int r;

        if (renameat2(dirfd, from, dirfd, to, RENAME_NOREPLACE) == 0)
                return 0;
        r = -errno;
        if (r == -EINVAL || r == -ENOSYS)
                r = linkat(dirfd, from, dirfd, to, 0) < 0 ? -errno : 0;
        (void)unlinkat(dirfd, from, 0);
        return r;
}

int pidfile_write(struct ckpt_run *run, pid_t pid, struct ckpt_error *err) {
        const char *path = run->opts->pidfile;
        _cleanup_free_ char *temporary = NULL;
        int r;

        if (!path || run->pidfile_written)
                return 0;
        if (asprintf(&temporary, "%s.%d.tmp", path, (int)getpid()) < 0)
                return ckpt_error_errno(err, -ENOMEM, "--pidfile: cannot write %s", path);

        r = write_temporary(run->work_dirfd, temporary, pid);
        if (r == 0)
                r = move_into_place(run->work_dirfd, temporary, path);
        if (r == -EEXIST)
                return already_exists(path, err);
        if (r < 0)
                return ckpt_error_errno(err, r, "--pidfile: cannot write %s", path);
        run->pidfile_written = true;
        return 0;
}

void pidfile_undo(struct ckpt_run *run) {
        if (!run->pidfile_written)
                return;
        (void)unlinkat(run->work_dirfd, run->opts->pidfile, 0);
        run->pidfile_written = false;
}

int status_check(const struct ckpt_run *run, struct ckpt_error *err) {
        int fd = run->opts->status_fd, flags;

        if (fd < 0)
                return 0;
        flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return ckpt_error(err, -EBADF, "--status-fd: descriptor %d is not open", fd);
        if ((flags & O_ACCMODE) == O_RDONLY)
                return ckpt_error(err, -EBADF, "--status-fd: descriptor %d is not open for writing", fd);
        return 0;
}

void status_ready(struct ckpt_run *run) {
        int r;

        if (run->opts->status_fd < 0 || run->status_sent)
                return;
        run->status_sent = true;
        r = write_full(run->opts->status_fd, "", 1);
        if (r < 0)
                log_warn("--status-fd: descriptor %d: %s", run->opts->status_fd, strerrordesc_np(-r));
}
