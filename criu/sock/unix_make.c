/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SO_PEERCRED tells the process that called socketpair(2), listen(2) or connect(2), with the ids that it had then. So it
 * is that process that calls again, if the tree still has it; else ckpt does, with those ids.
 */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "log.h"
#include "macro.h"
#include "restore/inherit.h"
#include "sock/unix.h"

enum { PAIRS_AT_ONCE = 64, GROUPS_ROOM = 1024 };

/* What ckpt is, and so every task that it has made, before it gets its own ids. */
struct own_ids {
        uid_t uid;
        gid_t gid;
        gid_t groups[GROUPS_ROOM];
        size_t nr_groups;
        bool same_groups, same; /* as those wanted */
};

static void compare_ids(const Img__UnixCred *cred, struct own_ids *ret) {
        int n = getgroups(GROUPS_ROOM, ret->groups);

        ret->uid = geteuid();
        ret->gid = getegid();
        ret->nr_groups = n > 0 ? (size_t)n : 0;
        ret->same_groups = !cred || n < 0 ||
                           (cred->n_groups == ret->nr_groups &&
                            (ret->nr_groups == 0 ||
                             memcmp(cred->groups, ret->groups, ret->nr_groups * sizeof(gid_t)) == 0));
        ret->same = !cred || (ret->same_groups && cred->uid == ret->uid && cred->gid == ret->gid);
}

/* The filesystem id stays that of ckpt: it connects where it has no right to. */
static void add_enter(struct restore_task *t, const Img__UnixCred *cred, const struct own_ids *own) {
        struct compel_batch *b = task_lane(t);

        if (own->same)
                return;
        t->ids_changed = true;
        if (!own->same_groups)
                compel_call(b, "take on groups", SYS_setgroups, cred->n_groups,
                            compel_copy(b, cred->groups, cred->n_groups * sizeof(gid_t) + 1));
        compel_call(b, "take on a group", SYS_setresgid, (uint64_t)-1, cred->gid, (uint64_t)-1);
        compel_call(b, "take on a user", SYS_setresuid, (uint64_t)-1, cred->uid, (uint64_t)-1);
        compel_call(b, "keep its right to files", SYS_setfsuid, own->uid);
}

static void add_leave(struct compel_batch *b, const struct own_ids *own) {
        if (own->same)
                return;
        compel_call(b, "become itself again", SYS_setresuid, (uint64_t)-1, own->uid, (uint64_t)-1);
        compel_call(b, "become itself again", SYS_setresgid, (uint64_t)-1, own->gid, (uint64_t)-1);
        if (!own->same_groups)
                compel_call(b, "become itself again", SYS_setgroups, own->nr_groups,
                            compel_copy(b, own->groups, own->nr_groups * sizeof(gid_t) + 1));
        compel_call(b, "become dumpable again", SYS_prctl, PR_SET_DUMPABLE, 1);
}

/* Only this thread: system calls, not glibc's functions. */
static int enter_here(const Img__UnixCred *cred, const struct own_ids *own) {
        if (own->same)
                return 0;
        if (!own->same_groups && syscall(SYS_setgroups, cred->n_groups, cred->groups) < 0)
                return -errno;
        if (syscall(SYS_setresgid, -1, cred->gid, -1) < 0 || syscall(SYS_setresuid, -1, cred->uid, -1) < 0)
                return -errno;
        setfsuid(own->uid);
        return 0;
}

static int leave_here(const struct own_ids *own) {
        if (own->same)
                return 0;
        if (syscall(SYS_setresuid, -1, own->uid, -1) < 0 || syscall(SYS_setresgid, -1, own->gid, -1) < 0)
                return -errno;
        if (!own->same_groups && syscall(SYS_setgroups, own->nr_groups, own->groups) < 0)
                return -errno;
        prctl(PR_SET_DUMPABLE, 1);
        return 0;
}

static struct restore_task *find_maker(struct restore *r, const Img__UnixCred *cred) {
        struct restore_task *t = cred ? restore_find_task(r, cred->pid) : NULL;

        return t && t->kind == RESTORE_TASK_LIVE ? t : NULL;
}

pid_t unix_maker(struct restore *r, const Img__UnixCred *cred) {
        const struct restore_task *t = find_maker(r, cred);

        return t ? t->pid : getpid();
}

static void empty_table(struct restore_task *t, struct compel_batch *b) {
        compel_call(b, "empty its descriptor table", SYS_close_range, 0,
                    (uint64_t)t->restore->inherit_base - 1, 0);
}

/* ---- socketpair ---- */

static int pairs_here(const Img__UnixCred *cred, uint32_t type, size_t n, int (*ret)[2]) {
        struct own_ids own;
        int r = 0, back;

        compare_ids(cred, &own);
        r = enter_here(cred, &own);
        for (size_t i = 0; r == 0 && i < n; i++)
                if (socketpair(AF_UNIX, (int)type | SOCK_CLOEXEC, 0, ret[i]) < 0)
                        r = -errno;
        back = leave_here(&own);
        return r < 0 ? r : back;
}

static int take_fd(int pidfd, int fd) {
        int copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);

        return copy < 0 ? -errno : copy;
}

static int pairs_there(struct restore_task *t, int pidfd, const Img__UnixCred *cred,
                       const struct own_ids *own, uint32_t type, size_t n, int (*ret)[2],
                       struct ckpt_error *err) {
        struct compel_batch *b = task_lane(t);
        raddr_t addr;
        int(*there)[2];
        int r;

        empty_table(t, b);
        add_enter(t, cred, own);
        compel_room(b, (unsigned int)n + 8, n * sizeof(*there));
        there = compel_data(b, n * sizeof(*there), &addr);
        for (size_t i = 0; i < n; i++)
                compel_call(b, "make a pair of sockets", SYS_socketpair, AF_UNIX, type, 0,
                            addr + i * sizeof(*there));
        add_leave(b, own);
        if (b->error < 0)
                return compel_run(b, err); /* what did not fit is told, and there is nothing at `there` */
        compel_start(b);
        r = compel_wait(b, err);
        for (size_t i = 0; r == 0 && i < n; i++)
                for (size_t end = 0; r == 0 && end < 2; end++) {
                        ret[i][end] = take_fd(pidfd, there[i][end]);
                        if (ret[i][end] < 0)
                                r = ckpt_error_errno(err, ret[i][end],
                                                     "cannot take over a socket that %s made",
                                                     restore_task_name(t));
                }
        if (r < 0)
                return r;
        {
                int last[PAIRS_AT_ONCE][2];

                memcpy(last, there, n * sizeof(*there));
                compel_reset(b);
                for (size_t i = 0; i < 2 * n; i++)
                        compel_call(b, "close its copy of a socket", SYS_close, last[i / 2][i % 2]);
        }
        return compel_run(b, err);
}

int unix_make_pairs(struct restore *r, const Img__UnixCred *cred, uint32_t type, size_t n, int (*ret)[2],
                    struct ckpt_error *err) {
        struct restore_task *t = find_maker(r, cred);
        _cleanup_close_ int pidfd = -EBADF;
        struct own_ids own;
        int rc = 0;

        if (!t) {
                rc = pairs_here(cred, type, n, ret);
                return rc < 0 ? ckpt_error_errno(err, rc, "cannot make a pair of unix sockets") : 0;
        }
        compare_ids(cred, &own);
        pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
        if (pidfd < 0)
                return ckpt_error_errno(err, -errno, "cannot open %s", restore_task_name(t));
        for (size_t at = 0; rc == 0 && at < n; at += PAIRS_AT_ONCE)
                rc = pairs_there(t, pidfd, cred, &own, type, MIN(n - at, (size_t)PAIRS_AT_ONCE), ret + at,
                                 err);
        return rc;
}

/* ---- listen, connect ---- */

int unix_make_listen(struct restore *r, const Img__UnixCred *cred, int fd, uint32_t backlog,
                     struct ckpt_error *err) {
        struct restore_task *t = find_maker(r, cred);
        struct own_ids own;
        int rc, back;

        compare_ids(cred, &own);
        if (t) {
                struct compel_batch *b = task_lane(t);

                empty_table(t, b);
                rc = restore_send_fds(t, b, &fd, 1, err);
                if (rc < 0)
                        return rc;
                add_enter(t, cred, &own);
                compel_call(b, "listen with a unix socket", SYS_listen, 0, backlog);
                add_leave(b, &own);
                compel_call(b, "close its copy of a socket", SYS_close, 0);
                return compel_run(b, err);
        }
        rc = enter_here(cred, &own);
        if (rc == 0 && listen(fd, (int)backlog) < 0)
                rc = -errno;
        back = leave_here(&own);
        rc = rc < 0 ? rc : back;
        return rc < 0 ? ckpt_error_errno(err, rc, "cannot listen with a unix socket again") : 0;
}

/* A path is found by a descriptor of it: also one that was deleted. */
static socklen_t connect_address(int node, const void *name, size_t len, union unix_address *ret) {
        char link[32];
        int n;

        if (node < 0)
                return unix_address(name, len, ret);
        n = snprintf(link, sizeof(link), "/proc/self/fd/%d", node);
        return unix_address(link, (size_t)n + 1, ret);
}

int unix_make_connect(struct restore *r, const Img__UnixCred *cred, int fd, int node, const void *name,
                      size_t len, struct ckpt_error *err) {
        struct restore_task *t = find_maker(r, cred);
        union unix_address a;
        struct own_ids own;
        int rc, back, fds[2] = { fd, node };
        socklen_t size;

        compare_ids(cred, &own);
        if (t) {
                struct compel_batch *b = task_lane(t);
                struct compel_op *op;
                uint32_t index;

                empty_table(t, b);
                rc = restore_send_fds(t, b, fds, node >= 0 ? 2 : 1, err);
                if (rc < 0)
                        return rc;
                size = connect_address(node >= 0 ? 1 : -1, name, len, &a);
                add_enter(t, cred, &own);
                compel_room(b, 12, sizeof(a) + own.nr_groups * sizeof(gid_t) + 64);
                op = compel_call(b, "connect a unix socket", SYS_connect, 0, compel_copy(b, &a, sizeof(a)),
                                 size);
                op->check = COMPEL_CHECK_NOTHING;
                index = compel_index(b, op);
                add_leave(b, &own);
                compel_call(b, "close its copies of sockets", SYS_close_range, 0, node >= 0 ? 1 : 0, 0);
                rc = b->error;
                if (rc == 0)
                        compel_start(b);
                rc = rc < 0 ? compel_run(b, err) : compel_wait(b, err);
                if (rc < 0)
                        return rc;
                rc = (int)b->ops[index].ret;
                compel_reset(b);
                return rc < 0 ? ckpt_error_errno(err, rc, "%s: cannot connect a unix socket again",
                                                 restore_task_name(t))
                              : 0;
        }
        size = connect_address(node, name, len, &a);
        rc = enter_here(cred, &own);
        if (rc == 0 && connect(fd, &a.any, size) < 0)
                rc = -errno;
        back = leave_here(&own);
        rc = rc < 0 ? rc : back;
        return rc < 0 ? ckpt_error_errno(err, rc, "cannot connect a unix socket again") : 0;
}
