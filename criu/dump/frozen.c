/* SPDX-License-Identifier: GPL-2.0-only */
/* A tree whose cgroup is frozen stops for ptrace, but carries out nothing. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "dump/blockers.h"
#include "dump/stages.h"
#include "proc/cgroup.h"
#include "proc/mountinfo.h"

/* Below the mount of a hierarchy, `file` of the group says that it is frozen, itself or by one above it. */
static bool file_says(const struct proc_mount *m, const char *group, const char *file, const char *word) {
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -EBADF;
        char text[256];
        ssize_t n;

        if (asprintf(&path, "%s%s/%s", m->mountpoint, group, file) < 0)
                return false;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return false;
        text[n] = 0;
        return strstr(text, word) != NULL;
}

static bool is_frozen(const struct proc_cgroup *g, const struct proc_mount_vec *mounts) {
        for (size_t i = 0; i < mounts->n; i++) {
                const struct proc_mount *m = &mounts->v[i];

                if (strcmp(m->root, "/") != 0)
                        continue;
                if (g->hierarchy == 0 && strcmp(m->fstype, "cgroup2") == 0)
                        return file_says(m, g->path, "cgroup.events", "frozen 1");
                if (g->hierarchy != 0 && strcmp(m->fstype, "cgroup") == 0 &&
                    proc_mount_has_option(m->super_options, "freezer"))
                        return file_says(m, g->path, "freezer.state", "FR");
        }
        return false;
}

void look_frozen(struct dump *d) {
        _cleanup_(proc_cgroup_vec_done) struct proc_cgroup_vec groups = { 0 };
        _cleanup_(proc_mount_vec_done) struct proc_mount_vec mounts = { 0 };
        _cleanup_proc_buf_ struct proc_buf text = { 0 }, mounts_text = { 0 };
        _cleanup_proc_dir_ struct proc_dir self = PROC_DIR_INIT;
        struct dump_task *root = d->tasks[0];

        if (proc_cgroup_read(&root->proc, &text, &groups) < 0)
                return;
        for (size_t i = 0; i < groups.n; i++) {
                const struct proc_cgroup *g = &groups.v[i];

                /* The root of a hierarchy cannot be frozen. */
                if ((g->hierarchy != 0 && !proc_mount_has_option(g->controllers, "freezer")) ||
                    strcmp(g->path, "/") == 0)
                        continue;
                if (mounts.n == 0 && (proc_open(getpid(), &self) < 0 ||
                                      proc_mountinfo_read(&self, &mounts_text, &mounts) < 0))
                        return;
                if (is_frozen(g, &mounts))
                        blocker_add(d->blockers, "Thaw it for the dump; ckpt stops the tree by itself",
                                    "%s is in the cgroup %s, which is frozen", dump_task_name(root),
                                    g->path);
        }
}
