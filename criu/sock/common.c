/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/common.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "dump/stages.h"
#include "sock/inet.h"

int sock_copy_take(struct fd_probe *p) {
        struct dump_socks *s = dump_socks(p->task->dump);
        int fd = fd_probe_take_copy(p);

        if (fd >= 0)
                return fd;
        pthread_mutex_lock(&s->copy_lock);
        if (s->copy.fd >= 0 && s->copy.tid == p->proc->pid && s->copy.number == p->fd &&
            s->copy.ino == p->st.stx_ino)
                fd = TAKE_FD(s->copy.fd);
        pthread_mutex_unlock(&s->copy_lock);
        return fd >= 0 ? fd : fd_probe_get(p);
}

void sock_copy_keep(struct fd_probe *p, int fd) {
        struct dump_socks *s = dump_socks(p->task->dump);
        struct sock_copy copy = { .tid = p->proc->pid, .number = p->fd, .ino = p->st.stx_ino, .fd = fd };
        int old;

        pthread_mutex_lock(&s->copy_lock);
        old = s->copy.fd;
        s->copy = copy;
        pthread_mutex_unlock(&s->copy_lock);
        safe_close(old);
}

int sock_option(int fd, int name) {
        int value = 0;
        socklen_t len = sizeof(value);

        return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

bool sock_match(struct fd_probe *p, bool (*is_known)(int domain, int type, int protocol)) {
        _cleanup_close_ int fd = -EBADF;
        bool known;

        if ((p->st.stx_mode & S_IFMT) != S_IFSOCK || p->fd < 0 || strncmp(p->link, "socket:", 7) != 0)
                return false;
        fd = sock_copy_take(p);
        if (fd < 0)
                return false;
        known = is_known(sock_option(fd, SO_DOMAIN), sock_option(fd, SO_TYPE), sock_option(fd, SO_PROTOCOL));
        /* The next row asks about it, if this one does not want it. */
        sock_copy_keep(p, TAKE_FD(fd));
        return known;
}

/* Cookies say which network namespace (5.14); before, the look at the tasks has to do. */
static bool is_elsewhere(struct dump *d, int fd) {
        uint64_t cookie = 0;
        socklen_t len = sizeof(cookie);

        return dump_socks(d)->netns != 0 &&
               getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 &&
               cookie != dump_socks(d)->netns;
}

/* The kernel tells the instructions of a classic filter and refuses those of an eBPF program. */
static bool has_ebpf_filter(int fd) {
        char room[BPF_MAXINSNS]; /* as a sanitizer takes the number of instructions for that of bytes */
        socklen_t n = 0;         /* of room: it only tells how many there are */

        return getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, room, &n) < 0 && errno == EACCES;
}

bool sock_is_clear(struct dump *d, int fd) {
        Img__Fown fown = IMG__FOWN__INIT;
        pid_t outside = 0;

        return !is_elsewhere(d, fd) && !has_ebpf_filter(fd) && fown_dump(d, fd, &fown, &outside) == 0 &&
               outside == 0;
}

int sock_look_at(struct fd_probe *p, struct blockers *b) {
        Img__Fown fown = IMG__FOWN__INIT;
        struct dump *d = p->task->dump;
        pid_t outside = 0;
        int fd = sock_copy_take(p);

        if (fd == -ESRCH || fd == -EBADF) /* gone since */
                return fd;
        if (fd < 0) {
                blocker_add(b, NULL, "%s is a socket that cannot be read: %s", fd_probe_name(p),
                            strerror(-fd));
                return fd;
        }
        if (is_elsewhere(d, fd))
                blocker_add(
                        b, "Run ckpt in the same namespaces as the tree",
                        "%s is a socket of another network namespace than ckpt's, which is not supported yet",
                        fd_probe_name(p));
        if (has_ebpf_filter(fd))
                blocker_add(b, "Have the program use a classic filter (SO_ATTACH_FILTER) or none",
                            "%s is a socket with an eBPF program as its filter (SO_ATTACH_BPF), which the "
                            "kernel does not tell",
                            fd_probe_name(p));
        if (fown_dump(d, fd, &fown, &outside) == 0 && outside > 0)
                blocker_add(b, "Have the program take the signal itself (fcntl F_SETOWN)",
                            "%s sends its SIGIO to pid %d, outside of the tree", fd_probe_name(p), outside);
        return fd;
}

int sock_owner_dump(struct dump *d, int fd, struct arena *arena, const char *name, struct sock_owner *ret,
                    struct ckpt_error *err) {
        Img__Fown *fown = arena_message(arena, Img__Fown, img__fown__init);
        pid_t outside = 0;
        struct stat st;
        int r;

        r = fown_dump(d, fd, fown, &outside);
        if (r == 0 && fstat(fd, &st) < 0)
                r = -errno;
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read who owns it", name);
        if (outside > 0)
                return ckpt_error(err, -ENOTSUP, "%s sends its SIGIO to pid %d, outside of the tree", name,
                                  outside);
        *ret = (struct sock_owner){ .fown = fown, .uid = st.st_uid, .gid = st.st_gid, .ino = st.st_ino };
        return 0;
}

uint32_t sock_ns_id(void) {
        Img__TaskKobjIds ids = IMG__TASK_KOBJ_IDS__INIT;

        collect_namespace_ids(&ids);
        return ids.net_ns_id;
}

int sock_give(int fd, bool has_owner, uid_t uid, gid_t gid, const char *what, struct ckpt_error *err) {
        if (has_owner && (uid != geteuid() || gid != getegid()) && fchown(fd, uid, gid) < 0)
                return ckpt_error_errno(err, -errno, "cannot give %s to user %u", what, uid);
        return 0;
}

int sock_make(const struct sock_kind *kind, bool has_owner, uid_t uid, gid_t gid, const char *what,
              int *ret_fd, struct ckpt_error *err) {
        _cleanup_close_ int fd = socket(kind->domain, kind->type | SOCK_CLOEXEC, kind->protocol);
        int r;

        if (fd < 0)
                return ckpt_error_errno(err, -errno, "cannot make %s", what);
        r = sock_give(fd, has_owner, uid, gid, what, err);
        if (r == 0)
                *ret_fd = TAKE_FD(fd);
        return r;
}

int sock_set_flags(int fd, uint32_t flags, const char *what, struct ckpt_error *err) {
        if (flags & O_NONBLOCK && fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
                return ckpt_error_errno(err, -errno, "cannot make %s non-blocking", what);
        return 0;
}

void sock_check_machine(struct restore *r, const struct sock_kind *kind, const struct sock_opts *opts,
                        struct sock_defaults *defaults, const char *what) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        if (sock_opts_try(kind, opts, defaults, what, &err) < 0)
                blocker_add(r->files->blockers, err.hint, "%s", ckpt_error_message(&err));
}

struct sock_defaults *sock_defaults_of(struct restore *r) {
        void **state = &r->files->state[FD_STATE_SOCK_DEFAULTS];

        if (!*state)
                *state = sock_defaults_new();
        return *state;
}

void sock_defaults_drop(struct restore_files *files) {
        struct sock_defaults *defaults = files->state[FD_STATE_SOCK_DEFAULTS];

        if (!defaults)
                return;
        sock_defaults_free(&defaults);
        files->state[FD_STATE_SOCK_DEFAULTS] = NULL;
}
