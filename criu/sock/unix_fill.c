/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is in the queues of unix sockets is sent again, with descriptors and credentials. A part of a stream can only come
 * from its peer. A datagram comes from the socket that had sent it, if the tree has that; else from one that is made for
 * the moment and has its name. Only then are datagram sockets connected: a connected one receives from its peer alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cleanup.h"
#include "log.h"
#include "macro.h"
#include "sock/sock.h"
#include "sock/uapi.h"
#include "sock/unix.h"

enum { RIGHTS_MAX = 253 };

static void describe(const struct unix_sock *u, char ret[static UNIX_TEXT_MAX]) {
        unix_describe(u->m->type, u->m->name.data, u->m->name.len, ret);
}

/* ---- one message ---- */

struct control {
        char buf[CMSG_SPACE(RIGHTS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))]
                __attribute__((aligned(16)));
        size_t len;
};

static void add_control(struct control *c, int type, const void *data, size_t size) {
        struct cmsghdr *at = (struct cmsghdr *)(c->buf + c->len);

        memset(at, 0, CMSG_SPACE(size));
        at->cmsg_level = SOL_SOCKET;
        at->cmsg_type = type;
        at->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(at), data, size);
        c->len += CMSG_SPACE(size);
}

static int open_rights(struct restore *r, const Img__Scm *scm, int *fds, struct ckpt_error *err) {
        for (size_t i = 0; i < scm->n_rights; i++) {
                struct restore_file *file = restore_find_file(r->files, scm->rights[i]);
                int rc = fd_file_open(r, file, err);

                if (rc < 0)
                        return rc;
                fds[i] = file->fd;
        }
        return 0;
}

static int send_message(int from, const union unix_address *to, socklen_t to_len,
                        const struct unix_packet *p, const struct control *c) {
        struct iovec iov = { p->data, p->msg->length };
        struct msghdr msg = { .msg_name = to_len > 0 ? (void *)to : NULL,
                              .msg_namelen = to_len,
                              .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = c->len > 0 ? (void *)c->buf : NULL,
                              .msg_controllen = c->len };

        int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (p->msg->has_urgent ? MSG_OOB : 0);

        while (iov.iov_len > 0 || p->msg->length == 0) {
                ssize_t n = sendmsg(from, &msg, flags);

                if (n < 0)
                        return -errno;
                if ((size_t)n == iov.iov_len)
                        return 0;
                iov.iov_base = (char *)iov.iov_base + n; /* of a stream; what came with it is sent */
                iov.iov_len -= (size_t)n;
                msg.msg_control = NULL;
                msg.msg_controllen = 0;
        }
        return 0;
}

/* Who has died since cannot be named any more. */
static int send_as(int from, const union unix_address *to, socklen_t to_len, const struct unix_packet *p,
                   struct control *c) {
        const Img__UnixCred *cred = p->msg->cred;
        struct control with = *c;
        struct ucred ids;
        int r;

        if (!cred)
                return send_message(from, to, to_len, p, c);
        ids = (struct ucred){ .pid = cred->pid, .uid = cred->uid, .gid = cred->gid };
        add_control(&with, SCM_CREDENTIALS, &ids, sizeof(ids));
        r = send_message(from, to, to_len, p, &with);
        if (r != -ESRCH)
                return r;
        log_warn(
                "a message in a unix socket came from pid %d, which is not there any more: it is from nobody now",
                cred->pid);
        return send_message(from, to, to_len, p, c);
}

static int send_packet(struct restore *r, int from, const union unix_address *to, socklen_t to_len,
                       const struct unix_packet *p, const char *what, struct ckpt_error *err) {
        const Img__Scm *scm = p->msg->n_scm > 0 ? p->msg->scm[0] : NULL;
        struct control c = { .len = 0 };
        int fds[RIGHTS_MAX], rc;

        if (scm && scm->n_rights > 0) {
                rc = open_rights(r, scm, fds, err);
                if (rc < 0)
                        return rc;
                add_control(&c, SCM_RIGHTS, fds, scm->n_rights * sizeof(int));
        }
        rc = send_as(from, to, to_len, p, &c);
        if (rc < 0) {
                ckpt_error_errno(err, rc, "cannot put a message of %u bytes into the queue of %s",
                                 p->msg->length, what);
                if (rc == -EAGAIN)
                        ckpt_error_hint(err, "Raise the sysctl net.unix.max_dgram_qlen to what it was");
                return rc;
        }
        for (size_t i = 0; scm && i < scm->n_rights; i++)
                fd_file_sent(restore_find_file(r->files, scm->rights[i]));
        return 0;
}

/* ---- streams and connections of packets ---- */

/* What is left of urgent data that has been read: its place, and descriptors. */
static int leave_mark(struct restore *r, struct unix_sock *u, int from, const struct unix_packet *p,
                      const char *what, struct ckpt_error *err) {
        Img__SkPacket msg = *p->msg;
        char c = 0;
        struct unix_packet byte = { .msg = &msg, .data = &c };
        int rc;

        msg.length = 1;
        rc = send_packet(r, from, NULL, 0, &byte, what, err);
        if (rc < 0)
                return rc;
        if (recv(unix_fd(u), &c, 1, MSG_OOB | MSG_DONTWAIT) < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot put the mark of urgent data into the queue of %s", what);
        return 0;
}

static bool has_urgent(const struct unix_sock *u) {
        const struct unix_packet *p = u->first;

        while (p && !p->msg->has_urgent)
                p = p->next;
        return p;
}

/* The owner has had his SIGURG. */
static int without_owner(struct restore *r, struct unix_sock *u, bool without, struct ckpt_error *err) {
        if (!u->file || u->file->owner_waits || !has_urgent(u))
                return 0;
        if (!without)
                return fown_restore(r->files, u->file, err);
        return fcntl(unix_fd(u), F_SETOWN, 0) < 0 ? ckpt_error_errno(err, -errno, "cannot release a socket")
                                                  : 0;
}

int unix_send_packet(struct restore *r, int from, const struct unix_packet *p, const char *what,
                     struct ckpt_error *err) {
        return send_packet(r, from, NULL, 0, p, what, err);
}

static int fill_connection(struct restore *r, struct unix_sock *u, const char *what,
                           struct ckpt_error *err) {
        int from = u->peer ? unix_fd(u->peer) : u->ghost, rc = 0;
        int room = (int)MIN(4 * u->bytes + 65536, (size_t)INT32_MAX / 2);

        if (from < 0)
                return ckpt_error(err, -EBADMSG, "%s has data and no peer", what);
        /* The peer has that room already, if it is one of the images. */
        if (!u->peer && setsockopt(from, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
                setsockopt(from, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        rc = without_owner(r, u, true, err);
        for (const struct unix_packet *p = u->first; rc == 0 && p; p = p->next)
                rc = p->msg->has_urgent && p->msg->urgent == UNIX_URGENT_READ
                             ? leave_mark(r, u, from, p, what, err)
                             : send_packet(r, from, NULL, 0, p, what, err);
        return rc < 0 ? rc : without_owner(r, u, false, err);
}

/* ---- datagrams ---- */

static socklen_t address_of(const struct unix_sock *u, union unix_address *ret) {
        char link[32];
        int n;

        if (u->node < 0)
                return unix_address(u->m->name.data, u->m->name.len, ret);
        n = snprintf(link, sizeof(link), "/proc/self/fd/%d", u->node);
        return unix_address(link, (size_t)n + 1, ret);
}

static struct unix_sock *find_sender(struct unix_state *s, const ProtobufCBinaryData *name) {
        for (size_t i = 0; i < s->n; i++) {
                const Img__UnixSk *m = s->v[i].m;

                if (m->type == SOCK_DGRAM && m->name.len == name->len &&
                    memcmp(m->name.data, name->data, name->len) == 0)
                        return &s->v[i];
        }
        return NULL;
}

/* A socket of that name for one message. */
static int make_sender(struct unix_state *s, const Img__SkPacket *msg, int *ret, struct ckpt_error *err) {
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int room = (int)MIN(4 * (size_t)msg->length + 65536, (size_t)INT32_MAX / 2), r;

        if (fd < 0)
                return ckpt_error_errno(err, -errno, "cannot make a unix socket");
        if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
                setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        r = unix_bind_stranger(s, fd, &msg->sender, err);
        if (r == 0)
                *ret = TAKE_FD(fd);
        return r;
}

static int join(struct unix_sock *u, const union unix_address *to, socklen_t len, struct ckpt_error *err) {
        char text[UNIX_TEXT_MAX];

        if (connect(unix_fd(u), &to->any, len) < 0) {
                describe(u, text);
                return ckpt_error_errno(err, -errno, "cannot connect %s again", text);
        }
        u->joined = true;
        return 0;
}

static int join_peer(struct unix_sock *u, struct ckpt_error *err) {
        union unix_address to;
        socklen_t len = address_of(u->peer, &to);

        return join(u, &to, len, err);
}

static bool is_from(const struct unix_packet *p, const struct unix_sock *sender) {
        return p->msg->sender.len == sender->m->name.len &&
               memcmp(p->msg->sender.data, sender->m->name.data, p->msg->sender.len) == 0;
}

/* The first of those at the end that all come from its peer. A queue may be longer for a peer than for strangers. */
static const struct unix_packet *find_own(const struct unix_sock *u) {
        const struct unix_packet *first = NULL;

        if (!u->peer || u->peer->m->name.len == 0 || u->joined)
                return NULL;
        for (const struct unix_packet *p = u->first; p; p = p->next) {
                if (!is_from(p, u->peer))
                        first = NULL;
                else if (!first)
                        first = p;
        }
        return first;
}

static int fill_datagrams(struct restore *r, struct unix_state *s, struct unix_sock *u, const char *what,
                          struct ckpt_error *err) {
        int pair = u->joined ? -EBADF : u->partner ? unix_fd(u->partner) : u->ghost;
        const struct unix_packet *own = pair >= 0 ? NULL : find_own(u);
        union unix_address to;
        socklen_t len = pair >= 0 ? 0 : address_of(u, &to);
        int rc = u->ghost >= 0 ? unix_bind_stranger(s, u->ghost, &u->m->peer_name, err) : 0;

        for (const struct unix_packet *p = u->first; rc == 0 && p; p = p->next) {
                struct unix_sock *sender = p->msg->has_sender ? find_sender(s, &p->msg->sender) : NULL;
                _cleanup_close_ int made = -EBADF;
                int from = pair >= 0 ? pair : sender ? unix_fd(sender) : -EBADF;

                if (p == own)
                        rc = join_peer(u, err);
                if (rc == 0 && from < 0) {
                        rc = make_sender(s, p->msg, &made, err);
                        from = made;
                }
                if (rc == 0)
                        rc = send_packet(r, from, &to, len, p, what, err);
        }
        return rc;
}

/* To one that is closed at once. */
static int join_closed(struct unix_state *s, struct unix_sock *u, struct ckpt_error *err) {
        struct unix_sock ghost = { .m = u->m, .fd = -EBADF, .node = -EBADF };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), node = -EBADF;
        union unix_address to = { .any.sa_family = AF_UNIX };
        socklen_t len = sizeof(to);
        int r;

        if (fd < 0)
                return ckpt_error_errno(err, -errno, "cannot make a unix socket");
        r = unix_bind_stranger(s, fd, &u->m->peer_name, err);
        if (r < 0)
                return r;
        ghost.node = node = ioctl(fd, SIOCUNIXFILE);
        if (node >= 0) {
                len = address_of(&ghost, &to);
        } else {
                (void)bind(fd, &to.any, sizeof(sa_family_t)); /* to any name, if it has none */
                if (getsockname(fd, &to.any, &len) < 0)
                        return ckpt_error_errno(err, -errno, "cannot name a unix socket");
        }
        return join(u, &to, len, err);
}

/* Those of a pair that have turned to somebody else: what they had received is lost by that. */
static int turn_away(struct unix_sock *u, struct ckpt_error *err) {
        const union unix_address nobody = { .any.sa_family = AF_UNSPEC };

        if (u->m->type != SOCK_DGRAM || !u->partner || u->peer == u->partner)
                return 0;
        return u->peer ? join_peer(u, err) : join(u, &nobody, sizeof(nobody.any), err);
}

static int connect_datagram(struct unix_state *s, struct unix_sock *u, struct ckpt_error *err) {
        if (u->m->type != SOCK_DGRAM || u->joined || u->partner || u->ghost >= 0)
                return 0;
        if (u->peer)
                return join_peer(u, err);
        return u->m->has_closed && u->m->closed ? join_closed(s, u, err) : 0;
}

/* ---- what comes last ---- */

static int set_options(struct unix_state *s, struct unix_sock *u, struct ckpt_error *err) {
        struct sock_kind kind = { AF_UNIX, (int)u->m->type, 0 };
        struct sock_opts opts = { u->m->opts, NULL, NULL };
        char text[UNIX_TEXT_MAX];
        int r = 0;

        describe(u, text);
        for (int when = SOCK_WHEN_OPEN; r == 0 && when < SOCK_WHEN_MAX; when++)
                r = sock_opts_restore(unix_fd(u), &kind, &opts, (enum sock_when)when, 0, s->defaults, text,
                                      err);
        if (r == 0 && fcntl(unix_fd(u), F_SETFL, O_RDWR | (u->m->flags & O_NONBLOCK)) < 0)
                r = ckpt_error_errno(err, -errno, "cannot set the flags of %s", text);
        return r;
}

/* A peer that is closed with something unread leaves ECONNRESET behind. */
static int end_ghost(struct unix_state *s, struct unix_sock *u, struct ckpt_error *err) {
        int r;

        if (u->ghost < 0)
                return 0;
        /* Only now: an abstract name is taken as long as it has it. */
        r = u->m->type == SOCK_DGRAM ? 0 : unix_bind_stranger(s, u->ghost, &u->m->peer_name, err);
        if (r < 0)
                return r;
        if (u->m->has_reset && u->m->reset && u->m->type != SOCK_DGRAM &&
            send(unix_fd(u), "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                return ckpt_error_errno(err, -errno,
                                        "cannot bring a unix connection into the state after a reset");
        u->ghost = safe_close(u->ghost);
        return 0;
}

static int shut_down(struct unix_sock *u, struct ckpt_error *err) {
        unsigned int bits = u->m->has_shutdown ? (unsigned int)u->m->shutdown & 3 : 0;
        int how = bits == 3 ? SHUT_RDWR : bits == 1 ? SHUT_RD : SHUT_WR;

        if (bits == 0 || (u->m->type != SOCK_DGRAM && u->m->has_closed && u->m->closed))
                return 0;
        /* In the kernel both halves begin with 1 for receiving. */
        if (shutdown(unix_fd(u), how) < 0 && errno != ENOTCONN)
                return ckpt_error_errno(err, -errno, "cannot shut a unix socket down again");
        return 0;
}

static int fill_one(struct restore *r, struct unix_state *s, struct unix_sock *u, struct ckpt_error *err) {
        char text[UNIX_TEXT_MAX];

        if (!u->first)
                return 0;
        describe(u, text);
        return u->m->type == SOCK_DGRAM ? fill_datagrams(r, s, u, text, err)
                                        : fill_connection(r, u, text, err);
}

int unix_finish_all(struct restore *r, struct ckpt_error *err) {
        struct unix_state *s = unix_state(r->files);
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < s->n; i++)
                rc = turn_away(&s->v[i], err);
        for (size_t i = 0; rc == 0 && i < s->n; i++)
                rc = fill_one(r, s, &s->v[i], err);
        for (size_t i = 0; rc == 0 && i < s->n; i++)
                rc = unix_waiting_fill(r, s, &s->v[i], err);
        for (size_t i = 0; rc == 0 && i < s->n; i++)
                rc = connect_datagram(s, &s->v[i], err);
        for (size_t i = 0; rc == 0 && i < s->n; i++)
                rc = end_ghost(s, &s->v[i], err);
        for (size_t i = 0; rc == 0 && i < s->n; i++)
                rc = unix_waiting_end(s, &s->v[i], err);
        for (size_t i = 0; rc == 0 && i < s->n; i++)
                rc = set_options(s, &s->v[i], err);
        for (size_t i = 0; rc == 0 && i < s->n; i++)
                rc = shut_down(&s->v[i], err);
        return rc;
}
