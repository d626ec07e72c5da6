/* SPDX-License-Identifier: GPL-2.0-only */
/* Descriptors of namespaces, /proc/PID/ns/NAME: of those that the tree itself is in. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/kind.h"
#include "images/ns.pb-c.h"
#include "macro.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

enum { FLAG_LARGEFILE = 0100000 };

static const struct ns_row {
        const char *name; /* below /proc/PID/ns */
        uint32_t flag;
        size_t id; /* in Img__TaskKobjIds */
} rows[] = {
#define ROW(name, flag, f) \
        { name, flag, offsetof(Img__TaskKobjIds, f) }
        ROW("pid", CLONE_NEWPID, pid_ns_id),          ROW("net", CLONE_NEWNET, net_ns_id),
        ROW("ipc", CLONE_NEWIPC, ipc_ns_id),          ROW("uts", CLONE_NEWUTS, uts_ns_id),
        ROW("mnt", CLONE_NEWNS, mnt_ns_id),           ROW("user", CLONE_NEWUSER, user_ns_id),
        ROW("cgroup", CLONE_NEWCGROUP, cgroup_ns_id), ROW("time", CLONE_NEWTIME, time_ns_id),
#undef ROW
};

static bool nsfile_match(struct fd_probe *p) {
        return p->link[0] != '/' && fd_probe_fs_type(p) == NSFS_MAGIC;
}

/* The row of the namespace, if the root of the tree is in it. */
static const struct ns_row *find_row(const struct fd_probe *p) {
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                size_t len = strlen(rows[i].name);
                struct statx st;
                char path[32];

                if (strncmp(p->link, rows[i].name, len) != 0 || p->link[len] != ':')
                        continue;
                snprintf(path, sizeof(path), "ns/%s", rows[i].name);
                if (statx(p->task->dump->tasks[0]->proc.fd, path, 0, STATX_INO, &st) == 0 &&
                    st.stx_ino == p->st.stx_ino && statx_dev(&st) == statx_dev(&p->st))
                        return &rows[i];
        }
        return NULL;
}

static void nsfile_look(struct fd_probe *p, struct blockers *b) {
        if (!find_row(p))
                blocker_add(
                        b, "Have the program close it",
                        "%s (%s) is a namespace other than that of the tree, which cannot be checkpointed yet",
                        fd_probe_name(p), p->link);
        else if (p->task->nr_threads == 0 || !p->task->threads[0].stop.stopped)
                fown_look(p, b);
}

static int nsfile_dump(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err) {
        Img__NsFile *msg = arena_message(&dump_files(d)->arena, Img__NsFile, img__ns_file__init);
        const struct ns_row *row = find_row(p);

        if (!row)
                return ckpt_error(err, -ENOTSUP, "%s (%s) is a namespace other than that of the tree",
                                  fd_probe_name(p), p->link);
        msg->id = file->id;
        msg->ns_id = *(const uint32_t *)((const char *)d->tasks[0]->ids + row->id);
        msg->ns_cflag = row->flag;
        msg->flags = fd_probe_flags(p);
        file->msg->nsf = msg;
        return 0;
}

/* ---- restore ---- */

static const struct ns_row *row_of(const Img__NsFile *msg) {
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (rows[i].flag == msg->ns_cflag)
                        return &rows[i];
        return NULL;
}

static int nsfile_check(struct restore *r, struct restore_file *file, struct image_file *image,
                        struct ckpt_error *err) {
        const Img__NsFile *msg = file->msg->nsf;
        const struct ns_row *row = row_of(msg);
        const Img__TaskKobjIds *ids = r->nr_tasks > 0 ? r->tasks[0]->ids : NULL;

        if (!row)
                return image_damaged(image, err, "file %u is no known kind of namespace (%#x)", file->id,
                                     msg->ns_cflag);
        if (msg->flags & ~(uint32_t)(O_NONBLOCK | O_PATH | O_NOFOLLOW | FLAG_LARGEFILE))
                return image_damaged(image, err, "file %u: the flags %#o cannot be those of a namespace",
                                     file->id, msg->flags);
        if (ids && *(const uint32_t *)((const char *)ids + row->id) != msg->ns_id)
                blocker_add(
                        r->files->blockers, NULL,
                        "file %u is a %s namespace other than that of the tree, which cannot be restored yet",
                        file->id, row->name);
        return 0;
}

/* That of the root, which may be in another time namespace than ckpt by now. */
static int nsfile_open(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        const Img__NsFile *msg = file->msg->nsf;
        char path[48];
        int fd;

        snprintf(path, sizeof(path), "/proc/%d/ns/%s", r->tasks[0]->threads[0].tid, row_of(msg)->name);
        fd = fd_open_exactly(path, msg->flags & ~(uint32_t)O_NOFOLLOW);
        if (fd < 0)
                return ckpt_error_errno(err, fd, "cannot open the namespace %s", path);
        file->fd = fd;
        return 0;
}

const struct fd_kind fd_kind_ns = {
        .type = IMG__FD_TYPES__NS,
        .name = "namespace",
        .match = nsfile_match,
        .look = nsfile_look,
        .dump = nsfile_dump,
        .check = nsfile_check,
        .open = nsfile_open,
};
