/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/unix_memory.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/peek_skb.h"
#include "macro.h"
#include "sock/unix.h"

enum {
        PARTS_MAX = 65536,
        MESSAGE_MAX = 1 << 20,
        RIGHTS_MAX = 253,
};

int unix_memory_name(struct peek *p, uint64_t sk, struct arena *arena, const char **ret, size_t *ret_len) {
        union unix_address a = { 0 };
        uint64_t addr = 0, len = 0, at;
        int r;

        r = peek_number(p, sk, PEEK_unix_sock__addr, &addr);
        *ret_len = 0;
        if (r < 0 || addr == 0)
                return r;
        r = peek_number(p, addr, PEEK_unix_address__len, &len);
        if (r == 0 && (len <= sizeof(sa_family_t) || len > sizeof(a)))
                r = -ENODATA;
        if (r == 0)
                r = peek_place(p, addr, PEEK_unix_address__name, &at);
        if (r == 0)
                r = peek_bytes(p, at, &a, len);
        if (r == 0 && a.any.sa_family != AF_UNIX)
                r = -ENODATA;
        if (r < 0)
                return r;
        *ret_len = unix_name_length(&a.un, (socklen_t)len);
        *ret = arena_copy(arena, a.un.sun_path, *ret_len);
        return 0;
}

/* ---- messages ---- */

/* SCM_CREDENTIALS, if there are any. */
static int read_sender(struct peek *p, uint64_t cb, struct unix_peeked *ret) {
        uint64_t pid = 0, nr = 0, uid = 0, gid = 0;
        int r;

        r = peek_number(p, cb, PEEK_unix_skb_parms__pid, &pid);
        if (r < 0 || pid == 0)
                return r;
        r = peek_pid_number(p, pid, &nr);
        if (r == 0)
                r = peek_wrapped(p, cb, PEEK_unix_skb_parms__uid, sizeof(uid_t), &uid);
        if (r == 0)
                r = peek_wrapped(p, cb, PEEK_unix_skb_parms__gid, sizeof(gid_t), &gid);
        ret->has_cred = r == 0;
        ret->cred = (struct ucred){ .pid = (pid_t)nr, .uid = (uid_t)uid, .gid = (gid_t)gid };
        return r;
}

static int read_data(const struct unix_memory *m, uint64_t skb, struct arena *arena,
                     struct unix_peeked *ret) {
        const struct peek_skbs skbs = { m->peek, m->paged ? &m->pages : NULL };
        uint64_t len = 0;
        char *buf;
        int r;

        r = peek_skb_length(m->peek, skb, &len);
        if (r == 0 && len > MESSAGE_MAX)
                r = -ENODATA;
        if (r < 0)
                return r;
        buf = arena_alloc(arena, len + 1);
        ret->data = buf;
        ret->len = len;
        return peek_skb_read(&skbs, skb, buf, len);
}

/* Descriptors that came with it: what they refer to. */
static int read_files(struct peek *p, uint64_t list, struct arena *arena, struct unix_peeked *ret) {
        uint64_t n = 0, at;
        int r = peek_number(p, list, PEEK_scm_fp_list__count, &n);

        if (r == 0 && (n == 0 || n > RIGHTS_MAX))
                r = -ENODATA;
        if (r == 0)
                r = peek_place(p, list, PEEK_scm_fp_list__fp, &at);
        if (r < 0)
                return r;
        ret->files = arena_new_array(arena, uint64_t, n);
        ret->nr_files = n;
        return peek_bytes(p, at, ret->files, n * sizeof(*ret->files));
}

/* 0: there is none, or this kernel has no such data. */
static uint64_t urgent_packet(struct peek *p, uint64_t sk) {
        uint64_t skb = 0;

        return peek_number(p, sk, PEEK_unix_sock__oob_skb, &skb) == 0 ? skb : 0;
}

static int read_control(const struct unix_memory *m, uint64_t skb, struct arena *arena,
                        struct unix_peeked *ret) {
        struct peek *p = m->peek;
        uint64_t cb, files = 0;
        int r = peek_place(p, skb, PEEK_sk_buff__cb, &cb);

        if (r == 0)
                r = peek_number(p, cb, PEEK_unix_skb_parms__fp, &files);
        if (r == 0 && files != 0)
                r = m->rights ? read_files(p, files, arena, ret) : -EOPNOTSUPP;
        return r < 0 ? r : read_sender(p, cb, ret);
}

static int read_length(struct peek *p, uint64_t skb, uint64_t *ret_len, uint64_t *ret_consumed) {
        uint64_t cb, len = 0, consumed = 0;
        int r = peek_place(p, skb, PEEK_sk_buff__cb, &cb);

        if (r == 0)
                r = peek_number(p, cb, PEEK_unix_skb_parms__consumed, &consumed);
        if (r == 0)
                r = peek_number(p, skb, PEEK_sk_buff__len, &len);
        if (r == 0 && consumed > len)
                r = -ENODATA;
        if (r < 0)
                return r;
        *ret_len = len - consumed;
        *ret_consumed = consumed;
        return 0;
}

int unix_memory_message(const struct unix_memory *m, uint64_t sk, uint64_t skb, struct arena *arena,
                        struct unix_peeked *ret) {
        uint64_t consumed = 0, len = 0;
        int r;

        *ret = (struct unix_peeked){ 0 };
        r = read_length(m->peek, skb, &len, &consumed);
        if (r == 0 && consumed != 0) /* who would have read of it? */
                r = -ENODATA;
        if (r == 0 && skb == urgent_packet(m->peek, sk)) {
                ret->urgent = UNIX_URGENT_UNREAD;
                r = !m->urgent ? -EOPNOTSUPP : len != 1 ? -ENODATA : 0;
        }
        if (r == 0)
                r = read_control(m, skb, arena, ret);
        return r < 0 ? r : read_data(m, skb, arena, ret);
}

int unix_memory_each(struct peek *p, uint64_t sk, size_t max, int (*fn)(void *arg, uint64_t skb),
                     void *arg) {
        uint64_t head;
        int r = peek_place(p, sk, PEEK_sock__sk_receive_queue, &head);

        return r < 0 ? r : peek_skb_each(p, head, max, fn, arg);
}

/* ---- what a queue consists of ---- */

DEFINE_VEC(unix_part_vec, struct unix_part);

struct dissection {
        const struct unix_memory *m;
        struct arena *arena;
        uint64_t urgent;
        int type;
        uint64_t sk;
        bool in_line; /* readers get the mark like other data ... */
        bool any;     /* ... as they do if there is data before it */
        bool ended;   /* they do not get beyond it */
        bool special;
        struct unix_part_vec parts;
};

/* Of a packet without data, all that there is of it. Urgent data that was read still has what came with it. */
static int read_empty(const struct dissection *d, uint64_t skb, enum unix_urgent urgent,
                      const struct unix_peeked **ret) {
        struct unix_peeked *empty = arena_new(d->arena, struct unix_peeked);
        const char *name = NULL;
        uint64_t from = 0;
        int r;

        *empty = (struct unix_peeked){ .urgent = urgent };
        r = read_control(d->m, skb, d->arena, empty);
        if (r == 0 && d->type == SOCK_DGRAM)
                r = peek_number(d->m->peek, skb, PEEK_sk_buff__sk, &from);
        if (r == 0 && from != 0)
                r = unix_memory_name(d->m->peek, from, d->arena, &name, &empty->sender_len);
        if (r == 0 && name)
                memcpy(empty->sender, name, empty->sender_len);
        if (r == 0)
                *ret = empty;
        return r;
}

static int read_known(const struct dissection *d, uint64_t skb, const struct unix_peeked **ret) {
        struct unix_peeked *known = arena_new(d->arena, struct unix_peeked);
        int r = unix_memory_message(d->m, d->sk, skb, d->arena, known);

        if (r == 0)
                *ret = known;
        return r;
}

static int take_part(void *arg, uint64_t skb) {
        uint64_t cb, len = 0, consumed = 0, files = 0;
        struct dissection *d = arg;
        struct unix_part *part;
        int r;

        r = read_length(d->m->peek, skb, &len, &consumed);
        if (r == 0)
                r = peek_place(d->m->peek, skb, PEEK_sk_buff__cb, &cb);
        if (r == 0)
                r = peek_number(d->m->peek, cb, PEEK_unix_skb_parms__fp, &files);
        if (r < 0)
                return r;
        part = unix_part_vec_add(&d->parts);
        ckpt_assert(part);
        *part = (struct unix_part){ .len = len, .has_fds = files != 0 };
        if (skb == d->urgent)
                part->urgent = UNIX_URGENT_UNREAD;
        else if (len == 0 && d->type == SOCK_STREAM)
                part->urgent = UNIX_URGENT_READ;
        if (len == 0 || skb == d->urgent)
                d->special = true;
        if (len == 0)
                return read_empty(d, skb, part->urgent, &part->known);
        if (skb == d->urgent && !d->in_line && !d->any) {
                enum unix_at_mark there = d->m->at_mark[d->parts.n > 1];

                d->ended = there == UNIX_AT_MARK_NOTHING;
                if (there != UNIX_AT_MARK_BYTE)
                        return read_known(d, skb, &part->known);
        }
        d->any = true;
        return d->ended ? read_known(d, skb, &part->known) : 0;
}

int unix_memory_parts(const struct unix_memory *m, int fd, int type, struct arena *arena,
                      const struct unix_part **ret, size_t *ret_n) {
        struct dissection d = { .m = m, .arena = arena, .type = type };
        int r, in_line = 0;
        socklen_t len = sizeof(in_line);

        r = peek_sock(m->peek, fd, &d.sk);
        if (r == 0 && type == SOCK_STREAM)
                d.urgent = urgent_packet(m->peek, d.sk);
        if (r == 0 && d.urgent != 0 && getsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &in_line, &len) < 0)
                r = -errno;
        d.in_line = in_line;
        if (r == 0)
                r = unix_memory_each(m->peek, d.sk, PARTS_MAX, take_part, &d);
        if (r == 0 && d.special && !(type == SOCK_STREAM ? m->urgent : m->empty))
                r = -EOPNOTSUPP;
        if (r == 0) {
                *ret = d.special ? arena_copy(arena, d.parts.v, d.parts.n * sizeof(*d.parts.v)) : NULL;
                *ret_n = d.special ? d.parts.n : 0;
        }
        unix_part_vec_done(&d.parts);
        return r;
}

/* ---- is it so? ---- */

struct trial {
        const struct unix_memory *m;
        struct arena *arena;
        uint64_t sk;
        struct unix_peeked last;
};

static int take_last(void *arg, uint64_t skb) {
        struct trial *t = arg;

        return unix_memory_message(t->m, t->sk, skb, t->arena, &t->last);
}

static bool send_own(int from, const int *fds, size_t n) {
        char control[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(16))) = "";
        struct iovec iov = { (char *)"x", 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

        ckpt_assert(n * sizeof(*fds) <= 2 * sizeof(int));
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(*fds));
        memcpy(CMSG_DATA(c), fds, n * sizeof(*fds));
        return sendmsg(from, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

/* Are those that ckpt has sent itself the ones that are seen? */
static bool sees_rights(const struct unix_memory *m) {
        _cleanup_(arena_done) struct arena arena = { 0 };
        struct unix_memory with = *m;
        struct trial t = { .m = &with, .arena = &arena };
        uint64_t own[2];
        int pair[2];
        bool ok;

        with.rights = true;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return false;
        ok = send_own(pair[0], pair, 2) && peek_file(m->peek, pair[0], &own[0]) == 0 &&
             peek_file(m->peek, pair[1], &own[1]) == 0 && peek_sock(m->peek, pair[1], &t.sk) == 0 &&
             unix_memory_each(m->peek, t.sk, 1, take_last, &t) == 0 && t.last.len == 1 &&
             t.last.nr_files == 2 && memcmp(t.last.files, own, sizeof(own)) == 0;
        close(pair[0]);
        close(pair[1]);
        return ok;
}

/* Data, an urgent byte that is read, data, one that is not, data. */
static bool sees_parts(const struct unix_memory *m, const int pair[2], struct arena *arena) {
        struct unix_memory with = *m;
        const struct unix_part *v = NULL;
        size_t n = 0;
        char c;

        with.urgent = true;
        return send(pair[0], "ab", 2, MSG_NOSIGNAL) == 2 &&
               send(pair[0], "c", 1, MSG_OOB | MSG_NOSIGNAL) == 1 && recv(pair[1], &c, 1, MSG_OOB) == 1 &&
               send(pair[0], "defg", 4, MSG_OOB | MSG_NOSIGNAL) == 4 &&
               send(pair[0], "hijk", 4, MSG_NOSIGNAL) == 4 &&
               unix_memory_parts(&with, pair[1], SOCK_STREAM, arena, &v, &n) == 0 && n == 5 &&
               v[0].len == 2 && v[0].urgent == UNIX_URGENT_NONE && v[1].len == 0 &&
               v[1].urgent == UNIX_URGENT_READ && v[2].len == 3 && v[2].urgent == UNIX_URGENT_NONE &&
               v[3].len == 1 && v[3].urgent == UNIX_URGENT_UNREAD && v[4].len == 4 &&
               v[4].urgent == UNIX_URGENT_NONE;
}

static enum unix_at_mark peek_at_mark(bool behind_read) {
        char c = 0, other;
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return UNIX_AT_MARK_NOTHING;
        if ((!behind_read || (send(pair[0], "r", 1, MSG_OOB | MSG_NOSIGNAL) == 1 &&
                              recv(pair[1], &other, 1, MSG_OOB | MSG_DONTWAIT) == 1)) &&
            send(pair[0], "m", 1, MSG_OOB | MSG_NOSIGNAL) == 1 && send(pair[0], "b", 1, MSG_NOSIGNAL) == 1)
                (void)!recv(pair[1], &c, 1, MSG_PEEK | MSG_DONTWAIT);
        close(pair[0]);
        close(pair[1]);
        return c == 'm' ? UNIX_AT_MARK_BYTE : c == 'b' ? UNIX_AT_MARK_BEHIND : UNIX_AT_MARK_NOTHING;
}

static bool sees_urgent(const struct unix_memory *m) {
        _cleanup_(arena_done) struct arena arena = { 0 };
        int pair[2];
        bool ok;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return false;
        ok = sees_parts(m, pair, &arena);
        /* A kernel without such data has none to be seen. */
        if (!ok)
                ok = send(pair[1], "x", 1, MSG_OOB | MSG_NOSIGNAL) < 0 && errno == EOPNOTSUPP;
        close(pair[0]);
        close(pair[1]);
        return ok;
}

/* A datagram without data behind another, from a socket that has a name. */
static bool sees_empty(const struct unix_memory *m) {
        _cleanup_close_ int to = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        _cleanup_close_ int from = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        _cleanup_(arena_done) struct arena arena = { 0 };
        union unix_address a = { .any.sa_family = AF_UNIX }, own = a;
        socklen_t len = sizeof(a), own_len = sizeof(own);
        const struct unix_part *v = NULL;
        struct unix_memory with = *m;
        int on = 1;
        size_t n;

        with.empty = true;
        return to >= 0 && from >= 0 && setsockopt(to, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0 &&
               bind(to, &a.any, sizeof(sa_family_t)) == 0 && bind(from, &a.any, sizeof(sa_family_t)) == 0 &&
               getsockname(to, &a.any, &len) == 0 && getsockname(from, &own.any, &own_len) == 0 &&
               sendto(from, "x", 1, MSG_NOSIGNAL, &a.any, len) == 1 &&
               sendto(from, "", 0, MSG_NOSIGNAL, &a.any, len) == 0 &&
               unix_memory_parts(&with, to, SOCK_DGRAM, &arena, &v, &n) == 0 && n == 2 && v[0].len == 1 &&
               !v[0].known && v[1].len == 0 && v[1].known && v[1].known->has_cred &&
               v[1].known->cred.pid == getpid() &&
               v[1].known->sender_len == unix_name_length(&own.un, own_len) &&
               memcmp(v[1].known->sender, own.un.sun_path, v[1].known->sender_len) == 0;
}

void unix_memory_prove(struct unix_memory *m) {
        m->rights = sees_rights(m);
        m->urgent = sees_urgent(m);
        m->at_mark[0] = peek_at_mark(false);
        m->at_mark[1] = peek_at_mark(true);
        m->empty = sees_empty(m);
}
