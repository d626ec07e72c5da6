/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The names of unix sockets. A path is bound where the program had bound it: from its working directory if it is
 * relative, below its root. What is in the way is only replaced if it is a dead socket: nobody is bound to it (every
 * connect(2) is refused), and it belongs to the owner that is recorded, or to ckpt's own user, whose restore may have been
 * killed. It can be of no use to anybody. Anything else is refused before anything is created.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "log.h"
#include "macro.h"
#include "sock/uapi.h"
#include "sock/unix.h"

enum { DEPTH = 40 }; /* more than ".." fits into a name */

static const char *path_of(const Img__UnixSk *m) {
        return (const char *)m->name.data;
}

/* As ckpt sees it. */
static int full_path(const Img__UnixSk *m, char ret[static PATH_MAX]) {
        const char *name = path_of(m);
        int n = snprintf(ret, PATH_MAX, "%s%s%s%s", m->name_root ? m->name_root : "",
                         name[0] != '/' && m->name_dir ? m->name_dir : "", name[0] == '/' ? "" : "/", name);

        return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Where it is to be in the end: many servers bind a path and move it over another then, so that none is ever missing. */
static int final_path(const Img__UnixSk *m, char ret[static PATH_MAX]) {
        return m->moved_to ? (snprintf(ret, PATH_MAX, "%s", m->moved_to) < PATH_MAX ? 0 : -ENAMETOOLONG)
                           : full_path(m, ret);
}

static int connect_node(int fd, int node) {
        union unix_address a;
        char link[32];
        int n = snprintf(link, sizeof(link), "/proc/self/fd/%d", node);
        socklen_t len = unix_address(link, (size_t)n + 1, &a);

        return connect(fd, &a.any, len) < 0 ? -errno : 0;
}

/* 1: a dead socket that may go; 0: nothing is there; -EADDRINUSE: something else. */
static int find_leftover(int dirfd, const char *path, const Img__UnixSk *m) {
        _cleanup_close_ int node = openat(dirfd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC), fd = -EBADF;
        struct stat st;

        if (node < 0)
                return errno == ENOENT ? 0 : -errno;
        if (fstat(node, &st) < 0)
                return -errno;
        if (!S_ISSOCK(st.st_mode) ||
            (st.st_uid != geteuid() && (!m->file_perms || st.st_uid != m->file_perms->uid)))
                return -EADDRINUSE;
        /* A datagram socket leaves no trace with whoever listens there. */
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        return connect_node(fd, node) == -ECONNREFUSED ? 1 : -EADDRINUSE;
}

/* One of its paths: that it was bound to, and that to which it was moved. */
static void check_one_path(const Img__UnixSk *m, const char *path, const char *text, struct blockers *b) {
        char dir[PATH_MAX];
        char *slash;
        int r;

        snprintf(dir, sizeof(dir), "%s", path);
        slash = strrchr(dir, '/');
        slash[slash == dir] = 0;
        if (access(dir, F_OK) < 0) {
                blocker_add(b, "Make the directory first", "the directory of %s, %s, is not there", text,
                            dir);
                return;
        }
        r = find_leftover(AT_FDCWD, path, m);
        if (r == -EADDRINUSE)
                blocker_add(b, "Remove it, or end the program that it belongs to (`ss -xlp` tells which)",
                            "the path of %s is taken: %s is there, and no socket that the tree has left",
                            text, path);
        else if (r < 0)
                blocker_add(b, NULL, "the path of %s, %s, cannot be looked at: %s", text, path,
                            strerror(-r));
}

void unix_check_path(const Img__UnixSk *m, struct blockers *b) {
        char path[PATH_MAX], text[UNIX_TEXT_MAX];

        unix_describe(m->type, m->name.data, m->name.len, text);
        if (full_path(m, path) < 0) {
                blocker_add(b, NULL, "the path of %s is too long", text);
                return;
        }
        check_one_path(m, path, text, b);
        if (m->moved_to && final_path(m, path) == 0)
                check_one_path(m, path, text, b);
}

/* ---- where it is bound ---- */

/* This thread's working directory, root and umask, while they are another's. */
struct place {
        int cwd, root;
        mode_t umask;
};

static void leave(struct place *p) {
        if (p->root >= 0) {
                umask(p->umask);
                if (fchdir(p->root) < 0 || chroot(".") < 0 || fchdir(p->cwd) < 0)
                        ckpt_assert(!"the way back from another root directory");
        }
        p->root = safe_close(p->root);
        p->cwd = safe_close(p->cwd);
}

/* `dir` and `root` are O_PATH; root < 0: ckpt's own. */
static int enter(struct unix_state *state, int dir, int root, mode_t mask, struct place *ret) {
        struct place p = { -EBADF, -EBADF, 0 };
        int r = 0;

        /* Other threads of ckpt go on with what was common. */
        if (!state->own_fs && unshare(CLONE_FS) < 0)
                return -errno;
        state->own_fs = true;
        p.cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        p.root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (p.cwd < 0 || p.root < 0) {
                r = -errno;
                safe_close(p.cwd);
                safe_close(p.root);
                return r;
        }
        p.umask = umask(mask);
        if ((root >= 0 && (fchdir(root) < 0 || chroot(".") < 0)) || fchdir(dir) < 0) {
                r = -errno;
                leave(&p);
                return r;
        }
        *ret = p;
        return 0;
}

static int open_places(const Img__UnixSk *m, int *ret_dir, int *ret_root) {
        _cleanup_close_ int dir = open(m->name_dir ? m->name_dir : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_close_ int root = -EBADF;

        if (dir < 0)
                return -errno;
        if (m->name_root) {
                root = open(m->name_root, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (root < 0)
                        return -errno;
        }
        *ret_dir = TAKE_FD(dir);
        *ret_root = TAKE_FD(root);
        return 0;
}

static int bind_name(int fd, const void *name, size_t len) {
        union unix_address a;
        socklen_t size = unix_address(name, len, &a);

        return bind(fd, &a.any, size) < 0 ? -errno : 0;
}

static int set_perms(int node, const Img__FilePerms *perms) {
        char link[32];
        struct stat st;

        if (!perms)
                return 0;
        snprintf(link, sizeof(link), "/proc/self/fd/%d", node);
        if (fstat(node, &st) < 0)
                return -errno;
        if ((st.st_uid != perms->uid || st.st_gid != perms->gid) &&
            fchownat(node, "", perms->uid, perms->gid, AT_EMPTY_PATH) < 0)
                return -errno;
        return chmod(link, perms->mode & 07777) < 0 ? -errno : 0;
}

/* What is dead there goes; anything else is not overwritten. */
static int move_there(const struct unix_sock *s) {
        char from[PATH_MAX], to[PATH_MAX];
        int r = full_path(s->m, from);

        if (r == 0)
                r = final_path(s->m, to);
        if (r < 0)
                return r;
        r = find_leftover(AT_FDCWD, to, s->m);
        if (r >= 0)
                r = rename(from, to) < 0 ? -errno : 0;
        if (r < 0)
                unlink(from);
        return r;
}

/* Where it was. */
static int bind_there(struct unix_state *state, struct unix_sock *s) {
        _cleanup_close_ int dir = -EBADF, root = -EBADF;
        struct place place;
        mode_t mode = s->m->file_perms ? s->m->file_perms->mode & 0777 : 0755;
        int r;

        r = open_places(s->m, &dir, &root);
        if (r == 0)
                r = enter(state, dir, root, ~mode & 0777, &place);
        if (r < 0)
                return r;
        r = bind_name(s->fd, s->m->name.data, s->m->name.len);
        if (r == -EADDRINUSE) {
                leave(&place); /* /proc is needed */
                char path[PATH_MAX];

                r = full_path(s->m, path);
                if (r == 0)
                        r = find_leftover(AT_FDCWD, path, s->m);
                if (r == 1)
                        r = unlink(path) < 0 ? -errno : 0;
                if (r == 0)
                        r = enter(state, dir, root, ~mode & 0777, &place);
                if (r < 0)
                        return r;
                r = bind_name(s->fd, s->m->name.data, s->m->name.len);
        }
        s->bound = r == 0;
        leave(&place);
        return r == 0 && s->m->moved_to ? move_there(s) : r;
}

/* ---- where nobody sees it ---- */

/* An empty filesystem that is mounted nowhere and goes with the last that is bound to something in it. */
static int make_filesystem(void) {
        _cleanup_close_ int context = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
        int mount;

        if (context < 0 || syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
        return mount < 0 ? -errno : mount;
}

static int go_down(void) {
        for (int i = 0; i < DEPTH; i++)
                if (mkdir("d", 0700) < 0 || chdir("d") < 0)
                        return -errno;
        return 0;
}

static int make_parents(const char *name) {
        char path[UNIX_NAME_MAX + 1] = "";

        memcpy(path, name, strnlen(name, sizeof(path) - 1));
        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = 0;
                if (mkdir(path, 0700) < 0 && errno != EEXIST)
                        return -errno;
                *slash = '/';
        }
        return 0;
}

int unix_bind_unseen(struct unix_state *state, int fd, const void *name, size_t len,
                     struct ckpt_error *err) {
        _cleanup_close_ int mount = make_filesystem();
        struct place place;
        char text[UNIX_TEXT_MAX];
        int r = mount;

        unix_describe(SOCK_STREAM, name, len, text);
        if (r >= 0)
                r = enter(state, mount, mount, 0, &place);
        if (r >= 0) {
                r = go_down();
                if (r == 0)
                        r = make_parents(name);
                if (r == 0)
                        r = bind_name(fd, name, len);
                if (r == 0)
                        unlink(name);
                leave(&place);
        }
        return r < 0 ? ckpt_error_errno(err, r, "cannot give a socket the deleted path of %s", text) : 0;
}

int unix_bind_stranger(struct unix_state *state, int fd, const ProtobufCBinaryData *name,
                       struct ckpt_error *err) {
        char text[UNIX_TEXT_MAX];

        if (name->len == 0)
                return 0;
        if (name->data[0] != 0)
                return unix_bind_unseen(state, fd, name->data, name->len, err);
        if (bind_name(fd, name->data, name->len) < 0) {
                unix_describe(SOCK_DGRAM, name->data, name->len, text);
                log_debug("%s, which had been closed, cannot be named any more: its name is in use", text);
        }
        return 0;
}

/* ---- for the others ---- */

static int open_node(struct unix_sock *s) {
        s->node = ioctl(s->fd, SIOCUNIXFILE);
        return s->node < 0 ? -errno : 0;
}

int unix_bind(struct unix_state *state, struct unix_sock *s, struct ckpt_error *err) {
        char text[UNIX_TEXT_MAX];
        int r;

        if (s->m->name.data[0] == 0) {
                r = bind_name(s->fd, s->m->name.data, s->m->name.len);
        } else if (s->m->has_deleted && s->m->deleted) {
                r = unix_bind_unseen(state, s->fd, s->m->name.data, s->m->name.len, err);
                if (r < 0)
                        return r;
                r = open_node(s);
        } else {
                r = bind_there(state, s);
                if (r == 0)
                        r = open_node(s);
                if (r == 0)
                        r = set_perms(s->node, s->m->file_perms);
        }
        if (r == 0)
                return 0;
        unix_describe(s->m->type, s->m->name.data, s->m->name.len, text);
        return ckpt_error_errno(err, r, "cannot bind %s again", text);
}

void unix_unbind(const struct unix_sock *s) {
        char path[PATH_MAX];
        struct stat own, there;

        if (s->node >= 0 && final_path(s->m, path) == 0 && fstat(s->node, &own) == 0 &&
            lstat(path, &there) == 0 && own.st_dev == there.st_dev && own.st_ino == there.st_ino)
                unlink(path);
}
