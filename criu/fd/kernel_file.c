/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/kernel_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "macro.h"

#define CLOSE_IT "Have the program close it first, or end the program that uses it"

bool kernel_file_is(const struct fd_probe *p) {
        mode_t type = p->st.stx_mode & S_IFMT;

        if (p->link[0] != '/' || (type != S_IFREG && type != S_IFDIR))
                return false;
        switch (fd_probe_fs_type(p)) {
        case PROC_SUPER_MAGIC:
                return true;
        case SYSFS_MAGIC:
        case CGROUP_SUPER_MAGIC:
        case CGROUP2_SUPER_MAGIC:
                return type == S_IFREG; /* directories are like any other */
        default:
                return false;
        }
}

bool kernel_file_is_unhashed(const struct fd_probe *p) {
        static const char suffix[] = " (deleted)";
        size_t len = strlen(p->link), tail = sizeof(suffix) - 1;
        char path[PATH_MAX];
        struct statx st;

        if (len <= tail || strcmp(p->link + len - tail, suffix) != 0 || !kernel_file_is(p))
                return false;
        snprintf(path, sizeof(path), "%.*s", (int)(len - tail), p->link);
        return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO, &st) ==
                       0 &&
               st.stx_ino == p->st.stx_ino && statx_dev(&st) == statx_dev(&p->st);
}

/* The number after which a component of a path is called; -1: none. *ret_rest is what follows it. */
static pid_t number_in(const char *path, const char **ret_rest) {
        for (const char *at = strchr(path, '/'); at; at = strchr(at, '/')) {
                size_t digits = strspn(++at, "0123456789");

                if (digits == 0 || digits > 9 || (at[digits] != '/' && at[digits] != 0))
                        continue;
                *ret_rest = at + digits;
                return (pid_t)strtoul(at, NULL, 10);
        }
        return -1;
}

/* What they say, or allow, depends on who opened them: ckpt may do more than their owner might. */
static bool depends_on_opener(const struct fd_probe *p) {
        static const char *const names[] = { "kallsyms", "modules",   "pagemap",    "mem",    "uid_map",
                                             "gid_map",  "setgroups", "projid_map", "config", "sections" };
        const char *base = strrchr(p->link, '/') + 1;

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strcmp(base, names[i]) == 0)
                        return true;
        return strncmp(base, "cgroup.", 7) == 0;
}

static bool is_root(const struct fd_probe *p) {
        _cleanup_proc_status_ struct proc_status status = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        return proc_status_read(p->proc, &buf, &status) == 0 && status.uids[1] == 0;
}

/* The rest of the path behind /proc/PID. */
static bool look_process(const struct fd_probe *p, pid_t pid, const char *rest, struct blockers *b) {
        static const char task[] = "/task/";
        const char *ignored;
        pid_t tid;

        if (!dump_find_task(p->task->dump, pid)) {
                blocker_add(b, CLOSE_IT, "%s is %s, which is of a process outside of the tree",
                            fd_probe_name(p), p->link);
                return false;
        }
        tid = strncmp(rest, task, sizeof(task) - 1) == 0 ? number_in(rest, &ignored) : pid;
        if (tid != pid) {
                blocker_add(b, CLOSE_IT,
                            "%s is %s, of a thread that is not the first of its process, which cannot be "
                            "checkpointed yet",
                            fd_probe_name(p), p->link);
                return false;
        }
        if (strstr(rest, "/fdinfo/")) {
                blocker_add(b, "Try again when the program has closed it",
                            "%s is %s, which cannot be opened again before that descriptor is there",
                            fd_probe_name(p), p->link);
                return false;
        }
        return true;
}

bool kernel_file_look(struct fd_probe *p, struct blockers *b) {
        bool proc = fd_probe_fs_type(p) == PROC_SUPER_MAGIC;
        const char *rest, *base = strrchr(p->link, '/') + 1;
        pid_t pid = proc ? number_in(p->link, &rest) : -1;
        bool writes = p->fd >= 0 && (fd_probe_flags(p) & O_ACCMODE) != O_RDONLY;

        if (pid >= 0 && !look_process(p, pid, rest, b))
                return false;
        if (proc && strcmp(base, "kmsg") == 0) {
                blocker_add(b, CLOSE_IT,
                            "%s is %s, the kernel's log, where it has a place that cannot be found again",
                            fd_probe_name(p), p->link);
                return false;
        }
        if (writes && strstr(p->link, "pressure")) {
                blocker_add(b, CLOSE_IT, "%s is %s with a trigger, which nobody else can read",
                            fd_probe_name(p), p->link);
                return false;
        }
        if (S_ISREG(p->st.stx_mode) && depends_on_opener(p) && !is_root(p)) {
                blocker_add(b, CLOSE_IT,
                            "%s is %s, which would show it more than it may see if ckpt opened it again",
                            fd_probe_name(p), p->link);
                return false;
        }
        return true;
}

/* ---- restore ---- */

bool kernel_file_name(const char *name) {
        return strncmp(name, "/proc/", 6) == 0 || strncmp(name, "/sys/", 5) == 0;
}

bool kernel_file_of_tree(const struct restore *r, const char *name) {
        const char *rest;
        pid_t pid = strncmp(name, "/proc/", 6) == 0 ? number_in(name + 5, &rest) : -1;
        size_t digits = pid >= 0 ? strspn(name + 6, "0123456789") : 0;

        return digits > 0 && restore_find_task(r, pid);
}
