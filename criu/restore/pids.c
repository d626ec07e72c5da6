/* SPDX-License-Identifier: GPL-2.0-only */
/* A tree comes back with the numbers it had, so they have to be free. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "dump/blockers.h"
#include "lib/io.h"
#include "log.h"
#include "macro.h"
#include "proc/proc.h"
#include "proc/stat.h"
#include "restore/stages.h"

enum { GONE_ROUNDS = 1000 }; /* of a millisecond */

static const char *const new_namespace_hint =
        "End that process, or restore in a new pid namespace (unshare --pid --fork --mount-proc)";

/* A number whose process is gone is in use as long as a process is left in its group or its session. */
static void taken_by_members(pid_t pid, struct blockers *b) {
        _cleanup_(pid_vec_done) struct pid_vec pids = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat;

        (void)proc_pids(&pids);
        for (size_t i = 0; i < pids.n; i++) {
                _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;

                if (proc_open(pids.v[i], &dir) < 0 || proc_stat_read(&dir, &buf, &stat) < 0 ||
                    (stat.pgid != pid && stat.sid != pid))
                        continue;
                blocker_add(
                        b, new_namespace_hint,
                        "pid %d is taken by a %s that lives on without its leader: pid %d (%s%s) is in it",
                        pid, stat.pgid == pid ? "process group" : "session", pids.v[i], stat.comm,
                        stat.state == 'Z' ? ", a zombie" : "");
                return;
        }
        blocker_add(b, new_namespace_hint, "pid %d is taken by a group or session without its leader", pid);
}

/* Who holds it: a process, a thread of one, or only a group or session. */
static void taken(pid_t pid, struct blockers *b) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat;
        char path[48];

        snprintf(path, sizeof(path), "/proc/self/task/%d", pid);
        if (access(path, F_OK) == 0)
                blocker_add(b, "Run it again: it will have another one",
                            "pid %d is the one that ckpt itself got", pid);
        else if (proc_open(pid, &dir) < 0 || proc_stat_read(&dir, &buf, &stat) < 0)
                taken_by_members(pid, b);
        else if (stat.state == 'Z')
                blocker_add(b, new_namespace_hint,
                            "pid %d is taken by %s, a zombie, not yet reaped by PID %d", pid, stat.comm,
                            stat.ppid);
        else
                blocker_add(b, new_namespace_hint, "pid %d is taken by %s", pid, stat.comm);
}

/*
 * Does the kernel have the number in use? F_SETOWN takes it as long as it has, also if only a thread, a group or a
 * session has it; of these, pidfd_open(2) tells only before Linux 6.15.
 */
static bool is_free(int any_fd, pid_t pid) {
        return fcntl(any_fd, F_SETOWN, pid) < 0 && errno == ESRCH;
}

static bool is_seen(pid_t pid) {
        char path[32];

        snprintf(path, sizeof(path), "/proc/%d", pid);
        return access(path, F_OK) == 0 || kill(-pid, 0) == 0 || errno == EPERM;
}

/* A task that has just been reaped keeps its number for moments longer than anything can be seen of it. */
static void check_free(int any_fd, pid_t pid, struct blockers *b) {
        struct timespec pause = { 0, 1000000 };

        for (unsigned int rounds = 0; rounds < GONE_ROUNDS; rounds++) {
                if (is_free(any_fd, pid))
                        return;
                if (is_seen(pid))
                        break;
                nanosleep(&pause, NULL);
        }
        taken(pid, b);
}

static pid_t pid_max(void) {
        _cleanup_close_ int fd = open("/proc/sys/kernel/pid_max", O_RDONLY | O_CLOEXEC);
        char text[16];
        ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

        if (n <= 0)
                return INT_MAX;
        text[n] = '\0';
        return atoi(text);
}

/* clone3(set_tid) takes numbers below kernel.pid_max only. */
static int raise_pid_max(pid_t highest, struct ckpt_error *err) {
        _cleanup_close_ int fd = -EBADF;
        char text[16];

        if (highest < pid_max())
                return 0;
        fd = open("/proc/sys/kernel/pid_max", O_WRONLY | O_CLOEXEC);
        snprintf(text, sizeof(text), "%d\n", highest + 1);
        if (fd >= 0 && pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text)) {
                log_warn("raised kernel.pid_max to %d", highest + 1);
                return 0;
        }
        ckpt_error(err, -ERANGE,
                   "the checkpoint has pid %d, but kernel.pid_max does not allow it; nothing was created",
                   highest);
        return ckpt_error_hint(err, "Raise it: sysctl kernel.pid_max=%d", highest + 1);
}

static bool in_images(const struct restore *r, pid_t pid) {
        for (size_t i = 0; i < r->nr_tasks; i++)
                for (size_t j = 0; j < r->tasks[i]->nr_threads; j++)
                        if (r->tasks[i]->threads[j].tid == pid)
                                return true;
        return false;
}

static pid_t highest_pid(const struct restore *r) {
        pid_t highest = 0;

        for (size_t i = 0; i < r->nr_tasks; i++)
                for (size_t j = 0; j < r->tasks[i]->nr_threads; j++)
                        highest = MAX(highest, r->tasks[i]->threads[j].tid);
        return highest;
}

pid_t spare_pid(const struct restore *r) {
        _cleanup_close_ int any_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        pid_t after = MIN(highest_pid(r), INT_MAX - 1) + 1, max = pid_max();

        for (pid_t pid = after; pid < max; pid++)
                if (is_free(any_fd, pid))
                        return pid;
        for (pid_t pid = 2; pid < MIN(after, max); pid++)
                if (!in_images(r, pid) && is_free(any_fd, pid))
                        return pid;
        return after;
}

int check_pids(struct restore *r, struct ckpt_error *err) {
        _cleanup_(blockers_free) struct blockers *b = blockers_new();
        _cleanup_close_ int any_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        int ret;

        if (any_fd < 0)
                return ckpt_error_errno(err, -errno, "cannot open /dev/null");

        for (size_t i = 0; i < r->nr_tasks; i++)
                for (size_t j = 0; j < r->tasks[i]->nr_threads; j++)
                        check_free(any_fd, r->tasks[i]->threads[j].tid, b);
        ret = blockers_to_error(b, "nothing was created", err);
        return ret < 0 ? ret : raise_pid_max(highest_pid(r), err);
}
