/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/ns.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "kernel/uapi.h"

/* In the order of the enum; ioctl(2) on a pidfd gives a descriptor of the namespace. */
static const struct {
        const char *name;
        unsigned long request;
} rows[PROC_NS_MAX] = {
        [PROC_NS_CGROUP] = { "cgroup", PIDFD_GET_CGROUP_NAMESPACE },
        [PROC_NS_IPC] = { "ipc", PIDFD_GET_IPC_NAMESPACE },
        [PROC_NS_MNT] = { "mnt", PIDFD_GET_MNT_NAMESPACE },
        [PROC_NS_NET] = { "net", PIDFD_GET_NET_NAMESPACE },
        [PROC_NS_PID] = { "pid", PIDFD_GET_PID_NAMESPACE },
        [PROC_NS_PID_FOR_CHILDREN] = { "pid_for_children", PIDFD_GET_PID_FOR_CHILDREN_NAMESPACE },
        [PROC_NS_TIME] = { "time", PIDFD_GET_TIME_NAMESPACE },
        [PROC_NS_TIME_FOR_CHILDREN] = { "time_for_children", PIDFD_GET_TIME_FOR_CHILDREN_NAMESPACE },
        [PROC_NS_USER] = { "user", PIDFD_GET_USER_NAMESPACE },
        [PROC_NS_UTS] = { "uts", PIDFD_GET_UTS_NAMESPACE },
};

struct proc_ns_held {
        int fd[PROC_NS_MAX];
};

struct proc_ns_held *proc_ns_hold(const struct proc_dir *process) {
        struct proc_ns_held *held = calloc(1, sizeof(*held));
        char path[32];

        for (int i = 0; held && i < PROC_NS_MAX; i++) {
                snprintf(path, sizeof(path), "ns/%s", rows[i].name);
                held->fd[i] = proc_openat(process, path, O_RDONLY);
        }
        return held;
}

void proc_ns_let_go(struct proc_ns_held **held) {
        for (int i = 0; *held && i < PROC_NS_MAX; i++)
                safe_close((*held)->fd[i]);
        free(*held);
        *held = NULL;
}

static ino_t by_pidfd(int pidfd, enum proc_ns ns) {
        _cleanup_close_ int fd = ioctl(pidfd, rows[ns].request, 0);
        struct stat st;

        return fd < 0 || fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

static ino_t by_link(const struct proc_dir *process, pid_t tid, enum proc_ns ns) {
        char path[64];
        struct stat st;

        if (tid == process->pid)
                snprintf(path, sizeof(path), "ns/%s", rows[ns].name);
        else
                snprintf(path, sizeof(path), "task/%d/ns/%s", tid, rows[ns].name);
        return fstatat(process->fd, path, &st, 0) < 0 ? 0 : st.st_ino;
}

/* A pidfd goes by a number, which another task may have had already when it was opened. */
static bool is_still(const struct proc_dir *process, pid_t tid) {
        if (tid == process->pid)
                return proc_exists(process);
        return syscall(SYS_tgkill, process->pid, tid, 0) == 0 || errno == EPERM;
}

void proc_ns_read(const struct proc_dir *process, pid_t tid, unsigned int which, struct proc_ns_set *ret) {
        _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);

        if (pidfd >= 0 && !is_still(process, tid))
                pidfd = safe_close(pidfd);
        for (int i = 0; i < PROC_NS_MAX; i++) {
                ret->ino[i] = 0;
                if (!(which & (1U << i)))
                        continue;
                if (pidfd >= 0)
                        ret->ino[i] = by_pidfd(pidfd, (enum proc_ns)i);
                if (ret->ino[i] > 0)
                        continue;
                pidfd = safe_close(pidfd); /* an older kernel, or a zombie: the others fail, too */
                ret->ino[i] = by_link(process, tid, (enum proc_ns)i);
        }
}
