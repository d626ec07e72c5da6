/* SPDX-License-Identifier: GPL-2.0-only */
/* A tree comes back with the numbers it had, so they have to be free. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/io.h"
#include "log.h"
#include "proc/proc.h"
#include "proc/stat.h"
#include "restore/stages.h"

/* Who holds it: a process, a thread of one, or only a group or session that lives on without its leader. */
static int taken(pid_t pid, struct ckpt_error *err) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat;

        if (proc_open(pid, &dir) < 0 || proc_stat_read(&dir, &buf, &stat) < 0)
                ckpt_error(err, -EEXIST,
                           "pid %d is taken by a process group that lives on without its leader; nothing "
                           "was created",
                           pid);
        else if (stat.state == 'Z')
                ckpt_error(err, -EEXIST,
                           "pid %d is taken by %s, a zombie, not yet reaped by PID %d; nothing was created",
                           pid, stat.comm, stat.ppid);
        else
                ckpt_error(err, -EEXIST, "pid %d is taken by %s; nothing was created", pid, stat.comm);
        return ckpt_error_hint(err,
                               "End that process, or restore in a new pid namespace (unshare --pid --fork "
                               "--mount-proc)");
}

static int check_free(pid_t pid, struct ckpt_error *err) {
        char path[32];

        snprintf(path, sizeof(path), "/proc/%d", pid);
        if (access(path, F_OK) == 0 || kill(-pid, 0) == 0 || errno == EPERM)
                return taken(pid, err);
        return 0;
}

/* clone3(set_tid) takes numbers below kernel.pid_max only. */
static int raise_pid_max(pid_t highest, struct ckpt_error *err) {
        _cleanup_close_ int fd = open("/proc/sys/kernel/pid_max", O_RDWR | O_CLOEXEC);
        char text[16];
        ssize_t n;

        if (fd < 0)
                fd = open("/proc/sys/kernel/pid_max", O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return 0;
        text[n] = '\0';
        if (highest < atoi(text))
                return 0;
        snprintf(text, sizeof(text), "%d\n", highest + 1);
        if (pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text)) {
                log_warn("raised kernel.pid_max to %d", highest + 1);
                return 0;
        }
        ckpt_error(err, -ERANGE,
                   "the checkpoint has pid %d, but kernel.pid_max does not allow it; nothing was created",
                   highest);
        return ckpt_error_hint(err, "Raise it: sysctl kernel.pid_max=%d", highest + 1);
}

int check_pids(struct restore *r, struct ckpt_error *err) {
        pid_t highest = 0;
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                for (size_t j = 0; ret == 0 && j < r->tasks[i]->nr_threads; j++) {
                        ret = check_free(r->tasks[i]->threads[j].tid, err);
                        if (r->tasks[i]->threads[j].tid > highest)
                                highest = r->tasks[i]->threads[j].tid;
                }
        return ret < 0 ? ret : raise_pid_max(highest, err);
}
