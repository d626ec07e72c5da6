/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Unix sockets are made all at once, before any task has its descriptors:
 * - what has no name comes in pairs (socketpair);
 * - what has one of its own is bound to it; for accepted sockets whose listener is gone a stand-in has the name for a
 *   moment;
 * - connections are made over their listeners, then the clients that wait to be accepted, then the listeners get their
 *   own backlog.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "log.h"
#include "macro.h"
#include "sock/common.h"
#include "sock/sock.h"
#include "sock/unix.h"

enum {
        BACKLOG_FEW = 256,   /* while connections are made and accepted one by one: room beside strangers */
        BACKLOG_MOST = 4096, /* for those that stay */
        CONNECT_TRIES = 1000,
};

static bool is_stream(const struct unix_sock *u) {
        return u->m->type != SOCK_DGRAM;
}

static bool is_closed(const struct unix_sock *u) {
        return u->m->has_closed && u->m->closed;
}

static bool same_name(const Img__UnixSk *a, const Img__UnixSk *b) {
        return a->type == b->type && a->name.len > 0 && a->name.len == b->name.len &&
               memcmp(a->name.data, b->name.data, a->name.len) == 0 && a->file_ino == b->file_ino &&
               a->file_dev == b->file_dev;
}

static bool same_cred(const Img__UnixCred *a, const Img__UnixCred *b) {
        if (!a || !b)
                return a == b;
        return a->pid == b->pid && a->uid == b->uid && a->gid == b->gid && a->n_groups == b->n_groups &&
               (a->n_groups == 0 || memcmp(a->groups, b->groups, a->n_groups * sizeof(*a->groups)) == 0);
}

/* ---- who has whose name ---- */

static int compare_names(const void *a, const void *b) {
        const Img__UnixSk *x = (*(struct unix_sock *const *)a)->m, *y = (*(struct unix_sock *const *)b)->m;
        int order = (x->type > y->type) - (x->type < y->type);

        if (order == 0)
                order = (x->file_dev > y->file_dev) - (x->file_dev < y->file_dev);
        if (order == 0)
                order = (x->file_ino > y->file_ino) - (x->file_ino < y->file_ino);
        if (order == 0)
                order = (x->name.len > y->name.len) - (x->name.len < y->name.len);
        if (order == 0 && x->name.len > 0)
                order = memcmp(x->name.data, y->name.data, x->name.len);
        return order != 0 ? order : (x->ino > y->ino) - (x->ino < y->ino);
}

/* Was this end of a connection made by accept(2)? If nobody can tell the difference, it need not have been. */
static bool was_accepted(const struct unix_sock *u, bool has_listener, bool shared) {
        if (!is_stream(u) || u->m->name.len == 0 || u->m->state != TCP_ESTABLISHED || u->waits ||
            u->m->has_outside)
                return false;
        if (has_listener || shared)
                return true;
        if (!u->peer || u->peer->accepted)
                return false;
        return !same_cred(u->m->peer_cred, u->peer->m->peer_cred) &&
               (u->peer->m->name.len == 0 || u->peer->m->ino < u->m->ino);
}

static struct unix_sock *add_stand_in(struct unix_state *s, const struct unix_sock *u) {
        struct unix_sock *t = &s->stand_ins[s->nr_stand_ins++];

        *t = (struct unix_sock){
                .m = u->m, .fd = -EBADF, .node = -EBADF, .ghost = -EBADF, .stand_in = true
        };
        return t;
}

/* Sockets of one name, `n` of them. */
static int sort_out_name(struct unix_state *s, struct unix_sock **v, size_t n, struct ckpt_error *err) {
        struct unix_sock *binder = NULL;
        char text[UNIX_TEXT_MAX];

        for (size_t i = 0; i < n; i++)
                if (v[i]->m->state == TCP_LISTEN)
                        binder = v[i];
        for (size_t i = 0; i < n; i++) {
                v[i]->accepted = was_accepted(v[i], binder && binder->m->state == TCP_LISTEN, n > 1);
                if (v[i]->accepted || v[i] == binder)
                        continue;
                if (binder) {
                        unix_describe(v[i]->m->type, v[i]->m->name.data, v[i]->m->name.len, text);
                        return ckpt_error(err, -EBADMSG,
                                          "two sockets of the images are bound to the name of %s", text);
                }
                binder = v[i];
        }
        for (size_t i = 0; i < n; i++)
                if (v[i]->accepted) {
                        if (!binder)
                                binder = add_stand_in(s, v[i]);
                        else if (binder->m->state != TCP_LISTEN && !binder->stand_in)
                                v[i]->accepted = false;
                        v[i]->listener = v[i]->accepted ? binder : NULL;
                }
        return 0;
}

int unix_sort_out(struct unix_state *s, struct ckpt_error *err) {
        struct unix_sock **v = calloc(s->n, sizeof(*v));
        int r = 0;

        s->stand_ins = calloc(s->n, sizeof(*s->stand_ins));
        ckpt_assert(v && s->stand_ins);
        for (size_t i = 0; i < s->n; i++)
                v[i] = &s->v[i];
        qsort(v, s->n, sizeof(struct unix_sock *), compare_names);
        for (size_t i = 0; r == 0 && i < s->n;) {
                size_t n = 1;

                while (i + n < s->n && same_name(v[i]->m, v[i + n]->m))
                        n++;
                if (v[i]->m->name.len > 0)
                        r = sort_out_name(s, v + i, n, err);
                i += n;
        }
        free(v);
        for (size_t i = 0; r == 0 && i < s->n; i++) {
                const struct unix_sock *u = &s->v[i], *q = u->peer;

                if (q && ((u->accepted && q->accepted) || (!is_stream(u) && q->m->name.len == 0 && q->peer &&
                                                           q->peer != u && q->peer->peer == q)))
                        r = ckpt_error(err, -EBADMSG,
                                       "files.img: nothing could connect the unix sockets %u and %u",
                                       u->m->ino, q->m->ino);
        }
        return r;
}

/* ---- making them ---- */

static void describe(const struct unix_sock *u, char ret[static UNIX_TEXT_MAX]) {
        unix_describe(u->m->type, u->m->name.data, u->m->name.len, ret);
}

/* Owner, and the options whose time has come. */
static int prepare(struct unix_state *s, struct unix_sock *u, struct ckpt_error *err) {
        struct sock_kind kind = { AF_UNIX, (int)u->m->type, 0 };
        struct sock_opts opts = { u->m->opts, NULL, NULL };
        char text[UNIX_TEXT_MAX];

        describe(u, text);
        if (u->m->has_uid && u->m->has_gid && (u->m->uid != geteuid() || u->m->gid != getegid()) &&
            fchown(u->fd, u->m->uid, u->m->gid) < 0)
                return ckpt_error_errno(err, -errno, "cannot give %s to user %u", text, u->m->uid);
        return sock_opts_restore(u->fd, &kind, &opts, SOCK_WHEN_BIND, 4 * u->most_bytes + 65536, s->defaults,
                                 text, err);
}

/* One of a pair that socketpair(2) makes. */
struct pair {
        struct unix_sock *a, *b; /* b: NULL if the other end is closed */
};

/* Is it, with its peer, a pair? */
static bool is_pair(const struct unix_sock *u) {
        const struct unix_sock *q = u->peer;

        if (u->accepted || u->waits || u->m->state == TCP_LISTEN || u->m->has_outside)
                return false;
        if (!q)
                return is_closed(u) && (is_stream(u) || u->m->name.len == 0);
        if (is_stream(u))
                return !q->accepted;
        return q->m->name.len == 0; /* how else would it be reached */
}

static int compare_pairs(const void *a, const void *b) {
        const struct pair *x = a, *y = b;
        const Img__UnixCred *c = x->a->m->peer_cred, *d = y->a->m->peer_cred;
        int order = (x->a->m->type > y->a->m->type) - (x->a->m->type < y->a->m->type);

        if (order == 0)
                order = (c ? c->pid : 0) - (d ? d->pid : 0);
        if (order == 0 && c && d)
                order = (c->uid > d->uid) - (c->uid < d->uid);
        return order != 0 ? order : (x->a->m->ino > y->a->m->ino) - (x->a->m->ino < y->a->m->ino);
}

static size_t list_pairs(struct unix_state *s, struct pair *pairs) {
        size_t n = 0;

        /* Those that are each other's peers first: of datagram sockets one may be the peer of several. */
        for (int mutual = 1; mutual >= 0; mutual--)
                for (size_t i = 0; i < s->n; i++) {
                        struct unix_sock *u = &s->v[i], *q = u->peer;

                        if (u->fd != -EBADF || (q && q->fd != -EBADF) || !is_pair(u) ||
                            (mutual && q && q->peer != u))
                                continue;
                        pairs[n++] = (struct pair){ u, q };
                        u->fd = -ECHILD; /* taken */
                        if (q)
                                q->fd = -ECHILD;
                }
        return n;
}

static int make_run(struct restore *r, struct unix_state *s, const struct pair *pairs, size_t n,
                    struct ckpt_error *err) {
        int(*fds)[2] = calloc(n, sizeof(*fds));
        int rc;

        ckpt_assert(fds);
        memset(fds, 0xff, n * sizeof(*fds));
        rc = unix_make_pairs(r, pairs[0].a->m->peer_cred, pairs[0].a->m->type, n, fds, err);
        for (size_t i = 0; i < n; i++) {
                pairs[i].a->fd = fds[i][0];
                pairs[i].a->partner = pairs[i].b;
                if (pairs[i].b)
                        pairs[i].b->partner = pairs[i].a;
                *(pairs[i].b ? &pairs[i].b->fd : &pairs[i].a->ghost) = fds[i][1];
        }
        free(fds);
        for (size_t i = 0; rc == 0 && i < n; i++) {
                rc = prepare(s, pairs[i].a, err);
                if (rc == 0 && pairs[i].b)
                        rc = prepare(s, pairs[i].b, err);
        }
        return rc;
}

static int make_pairs(struct restore *r, struct unix_state *s, struct ckpt_error *err) {
        struct pair *pairs = calloc(s->n, sizeof(*pairs));
        size_t n;
        int rc = 0;

        ckpt_assert(pairs);
        n = list_pairs(s, pairs);
        if (n > 0)
                qsort(pairs, n, sizeof(*pairs), compare_pairs);
        for (size_t i = 0; rc == 0 && i < n;) {
                size_t run = 1;

                while (i + run < n && pairs[i + run].a->m->type == pairs[i].a->m->type &&
                       same_cred(pairs[i + run].a->m->peer_cred, pairs[i].a->m->peer_cred))
                        run++;
                rc = make_run(r, s, pairs + i, run, err);
                i += run;
        }
        for (size_t i = 0; i < s->n; i++)
                if (s->v[i].fd == -ECHILD)
                        s->v[i].fd = -EBADF;
        free(pairs);
        return rc;
}

static int make_single(struct unix_state *s, struct unix_sock *u, struct ckpt_error *err) {
        u->fd = socket(AF_UNIX, (int)u->m->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (u->fd < 0)
                return ckpt_error_errno(err, -errno, "cannot make a unix socket");
        return u->stand_in ? 0 : prepare(s, u, err);
}

static int make_singles(struct unix_state *s, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < s->nr_stand_ins; i++)
                r = make_single(s, &s->stand_ins[i], err);
        for (size_t i = 0; r == 0 && i < s->n; i++)
                if (s->v[i].fd < 0 && !s->v[i].accepted)
                        r = make_single(s, &s->v[i], err);
        return r;
}

static int bind_all(struct unix_state *s, struct ckpt_error *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < s->nr_stand_ins; i++)
                r = unix_bind(s, &s->stand_ins[i], err);
        /* The path that one was moved away from may be another's. */
        for (int moved = 1; moved >= 0; moved--)
                for (size_t i = 0; r == 0 && i < s->n; i++)
                        if (!s->v[i].accepted && s->v[i].m->name.len > 0 &&
                            (s->v[i].m->moved_to != NULL) == moved)
                                r = unix_bind(s, &s->v[i], err);
        return r;
}

/* ---- connecting them ---- */

static pid_t peer_pid(int fd) {
        struct ucred cred = { 0 };
        socklen_t len = sizeof(cred);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ? -1 : cred.pid;
}

/*
 * As soon as a name is there and listens, anybody may connect. Who has come between is turned away, as by a server that is
 * being started again: in *ret the connection that process `maker` has made, with maker 0 none is left.
 */
static int accept_one(struct unix_sock *listener, pid_t maker, int *ret, struct ckpt_error *err) {
        char text[UNIX_TEXT_MAX];
        socklen_t no_name = 0;

        for (;;) {
                _cleanup_close_ int fd = accept4(listener->fd, NULL, &no_name, SOCK_CLOEXEC);

                if (fd < 0 && errno == EAGAIN && maker == 0)
                        return 0;
                if (fd < 0) {
                        describe(listener, text);
                        return ckpt_error_errno(err, -errno, "cannot accept a connection of %s again", text);
                }
                if (maker != 0 && peer_pid(fd) == maker) {
                        *ret = TAKE_FD(fd);
                        return 0;
                }
                listener->turned_away++;
        }
}

/* `first`: nobody of the tree waits there yet. */
static int connect_over(struct restore *r, const Img__UnixCred *cred, int fd, struct unix_sock *listener,
                        bool first, struct ckpt_error *err) {
        for (int i = 1;; i++) {
                int rc = unix_make_connect(r, cred, fd, listener->node, listener->m->name.data,
                                           listener->m->name.len, err);

                if (rc != -EAGAIN || !first || i == CONNECT_TRIES)
                        return rc;
                ckpt_error_clear(err);
                rc = accept_one(listener, 0, NULL, err);
                if (rc < 0)
                        return rc;
        }
}

static int listen_as(struct restore *r, const Img__UnixCred *cred, struct unix_sock *listener,
                     uint32_t backlog, struct ckpt_error *err) {
        int rc;

        if (listener->listens && same_cred(listener->listened, cred))
                return 0;
        rc = unix_make_listen(r, cred, listener->fd, backlog, err);
        listener->listens = rc == 0;
        listener->listened = cred;
        return rc;
}

/* The client sees who listened, the accepted end sees who connected. */
static int connect_pair(struct restore *r, struct unix_state *s, struct unix_sock *u,
                        struct ckpt_error *err) {
        const Img__UnixCred *listened = u->peer ? u->peer->m->peer_cred : u->listener->m->peer_cred;
        int rc, client = u->peer ? u->peer->fd : -EBADF;

        if (!u->peer) {
                client = u->ghost = socket(AF_UNIX, (int)u->m->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                if (client < 0)
                        return ckpt_error_errno(err, -errno, "cannot make a unix socket");
        }
        rc = listen_as(r, listened, u->listener, BACKLOG_FEW, err);
        if (rc == 0)
                rc = connect_over(r, u->m->peer_cred, client, u->listener, true, err);
        if (rc == 0)
                rc = accept_one(u->listener, unix_maker(r, u->m->peer_cred), &u->fd, err);
        return rc < 0 ? rc : prepare(s, u, err);
}

/* Since Linux 6.16 accepted sockets have what the listener had when the client connected (SO_PASSCRED and its like). */
static int set_inherited(struct unix_state *s, const struct unix_sock *listener, struct ckpt_error *err) {
        struct sock_kind kind = { AF_UNIX, (int)listener->m->type, 0 };
        struct sock_opts opts = { listener->m->opts, NULL, NULL };
        char text[UNIX_TEXT_MAX];

        if (listener->m->n_waiting == 0)
                return 0;
        describe(listener, text);
        return sock_opts_restore(listener->fd, &kind, &opts, SOCK_WHEN_OPEN, 0, s->defaults, text, err);
}

static int connect_waiting(struct restore *r, struct unix_state *s, struct unix_sock *listener,
                           struct ckpt_error *err) {
        int rc = set_inherited(s, listener, err);

        listener->listens = false; /* not with so much room */
        for (size_t i = 0; rc == 0 && i < listener->m->n_waiting; i++) {
                struct unix_sock *client = unix_by_ino(s, listener->m->waiting[i]);
                struct unix_early_client *e = &listener->early[i];

                if (e->gone) {
                        e->fd = socket(AF_UNIX, (int)listener->m->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                        if (e->fd < 0)
                                return ckpt_error_errno(err, -errno, "cannot make a unix socket");
                }
                rc = listen_as(r, e->gone ? listener->m->peer_cred : client->m->peer_cred, listener,
                               BACKLOG_MOST, err);
                if (rc == 0)
                        rc = connect_over(r, e->gone ? e->gone->cred : client->m->cred,
                                          e->gone ? e->fd : client->fd, listener, i == 0, err);
        }
        return rc;
}

static int connect_outside(struct unix_sock *u, struct ckpt_error *err) {
        char text[UNIX_TEXT_MAX];
        union unix_address a;
        socklen_t len = unix_address(u->m->outside.data, u->m->outside.len, &a);

        if (connect(u->fd, &a.any, len) == 0)
                return 0;
        unix_describe(u->m->type, u->m->outside.data, u->m->outside.len, text);
        ckpt_error_errno(err, -errno, "cannot connect to %s, outside of the tree, again", text);
        return ckpt_error_hint(err, "Start the program that the socket belongs to");
}

static int connect_all(struct restore *r, struct unix_state *s, struct ckpt_error *err) {
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < s->n; i++)
                if (s->v[i].accepted)
                        rc = connect_pair(r, s, &s->v[i], err);
        for (size_t i = 0; i < s->nr_stand_ins; i++)
                s->stand_ins[i].fd = safe_close(s->stand_ins[i].fd);
        for (size_t i = 0; rc == 0 && i < s->n; i++)
                if (s->v[i].m->has_outside)
                        rc = connect_outside(&s->v[i], err);
        for (size_t i = 0; rc == 0 && i < s->n; i++) {
                if (s->v[i].m->state != TCP_LISTEN)
                        continue;
                rc = connect_waiting(r, s, &s->v[i], err);
                if (rc == 0)
                        rc = unix_make_listen(r, s->v[i].m->peer_cred, s->v[i].fd, s->v[i].m->backlog, err);
        }
        return rc;
}

static size_t turned_away(const struct unix_sock *v, size_t n) {
        size_t sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += v[i].turned_away;
        return sum;
}

static void tell_strangers(const struct unix_state *s) {
        size_t n = turned_away(s->v, s->n) + turned_away(s->stand_ins, s->nr_stand_ins);

        if (n > 0)
                log_info(
                        "%zu connections by others to unix sockets of the tree came before these were restored, and "
                        "were turned away",
                        n);
}

static void warn_creds(struct restore *r, const struct unix_state *s) {
        size_t n = 0;

        for (size_t i = 0; i < s->n; i++) {
                const Img__UnixCred *c = s->v[i].m->peer_cred;
                const struct restore_task *t = c && c->pid > 0 ? restore_find_task(r, c->pid) : NULL;

                n += c && (!t || t->kind != RESTORE_TASK_LIVE);
        }
        if (n > 0)
                log_warn(
                        "%zu unix sockets were connected by processes that are not in the tree: their SO_PEERCRED gets "
                        "another pid",
                        n);
}

int unix_build(struct restore *r, struct ckpt_error *err) {
        struct unix_state *s = unix_state(r->files);
        int rc;

        if (!s)
                return 0;
        warn_creds(r, s);
        rc = make_pairs(r, s, err);
        if (rc == 0)
                rc = make_singles(s, err);
        if (rc == 0)
                rc = bind_all(s, err);
        if (rc == 0)
                rc = connect_all(r, s, err);
        tell_strangers(s);
        return rc;
}

/* ---- handing them out ---- */

int unix_open(struct restore *r, struct restore_file *file, struct ckpt_error *err) {
        struct unix_sock *u = unix_by_ino(unix_state(r->files), file->msg->usk->ino);

        if (u->fd < 0)
                return ckpt_error(err, -EBADMSG, "the unix socket with the id %u could not be made",
                                  file->id);
        file->fd = TAKE_FD(u->fd);
        return 0;
}

int unix_finish(struct restore *r, struct restore_file *file __attribute__((unused)),
                struct ckpt_error *err) {
        return unix_fill(r, err);
}

int unix_fill(struct restore *r, struct ckpt_error *err) {
        struct unix_state *s = unix_state(r->files);

        if (!s || s->filled)
                return 0;
        s->filled = true;
        return unix_finish_all(r, err);
}

void unix_settled(struct restore *r) {
        struct unix_state *s = r->files ? unix_state(r->files) : NULL;

        if (s)
                s->done = true;
}
