/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/unix_early.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "sock/unix.h"

enum {
        CLIENTS_MAX = 65536,
        MESSAGES_MAX = 65536,
        GROUPS_MAX = 65536,
        NOBODY = -1,
        LONG = 20000, /* bytes that are not in one piece */
};

/* ---- who ---- */

static int read_groups(struct peek *p, uint64_t info, struct arena *arena, Img__UnixCred *cred) {
        uint64_t n = 0, at;
        int r;

        r = peek_number(p, info, PEEK_group_info__ngroups, &n);
        if (r == 0 && n > GROUPS_MAX)
                r = -ENODATA;
        if (r == 0)
                r = peek_place(p, info, PEEK_group_info__gid, &at);
        if (r < 0 || n == 0)
                return r;
        cred->groups = arena_new_array(arena, uint32_t, n);
        cred->n_groups = n;
        for (uint64_t i = 0; r == 0 && i < n; i += PEEK_MAX / sizeof(*cred->groups)) {
                size_t some = MIN((size_t)(n - i), PEEK_MAX / sizeof(*cred->groups));

                r = peek_bytes(p, at + i * sizeof(*cred->groups), cred->groups + i,
                               some * sizeof(*cred->groups));
        }
        return r;
}

/* As SO_PEERCRED of the accepted socket will tell. */
static int read_cred(struct peek *p, uint64_t sk, struct arena *arena, Img__UnixCred **ret) {
        Img__UnixCred *cred = arena_message(arena, Img__UnixCred, img__unix_cred__init);
        uint64_t pid = 0, nr = 0, ids = 0, uid = 0, gid = 0, groups = 0;
        int r;

        r = peek_number(p, sk, PEEK_sock__sk_peer_pid, &pid);
        if (r == 0)
                r = peek_pid_number(p, pid, &nr);
        if (r == 0)
                r = peek_number(p, sk, PEEK_sock__sk_peer_cred, &ids);
        if (r == 0)
                r = peek_wrapped(p, ids, PEEK_cred__euid, sizeof(uid_t), &uid);
        if (r == 0)
                r = peek_wrapped(p, ids, PEEK_cred__egid, sizeof(gid_t), &gid);
        if (r == 0)
                r = peek_number(p, ids, PEEK_cred__group_info, &groups);
        if (r == 0)
                r = read_groups(p, groups, arena, cred);
        if (r < 0)
                return r;
        cred->pid = (int32_t)nr;
        cred->uid = (uint32_t)uid;
        cred->gid = (uint32_t)gid;
        *ret = cred;
        return 0;
}

/* The inode of a socket; 0: it was closed. */
static int read_inode(struct peek *p, uint64_t sk, uint32_t *ret) {
        uint64_t sock = 0, ino = 0;
        int r;

        r = peek_number(p, sk, PEEK_sock__sk_socket, &sock);
        if (r == 0 && sock != 0) {
                r = peek_container(p, sock, PEEK_socket_alloc__socket, &sock);
                if (r == 0)
                        r = peek_place(p, sock, PEEK_socket_alloc__vfs_inode, &sock);
                if (r == 0)
                        r = peek_number(p, sock, PEEK_inode__i_ino, &ino);
        }
        if (r == 0)
                *ret = (uint32_t)ino;
        return r;
}

struct reading {
        const struct unix_memory *memory;
        struct arena *arena;
        struct unix_early_vec *clients;
        uint64_t sk; /* whose queue it is */
        struct unix_peeked *last;
};

static int take_message(void *arg, uint64_t skb) {
        struct reading *reading = arg;
        struct unix_peeked *m = arena_new(reading->arena, struct unix_peeked);
        int r;

        r = unix_memory_message(reading->memory, reading->sk, skb, reading->arena, m);
        if (r < 0)
                return r;
        if (reading->last)
                reading->last->next = m;
        else
                reading->clients->v[reading->clients->n - 1].first = m;
        reading->last = m;
        return 0;
}

/* A packet in the listener's queue has the socket that is to be accepted; that one's peer is the client. */
static int take_client(void *arg, uint64_t skb) {
        uint64_t sk = 0, peer = 0, back = 0;
        struct reading *reading = arg;
        struct peek *p = reading->memory->peek;
        struct unix_early *e = unix_early_vec_add(reading->clients);
        int r;

        ckpt_assert(e);
        reading->last = NULL;
        r = peek_number(p, skb, PEEK_sk_buff__sk, &sk);
        if (r == 0)
                r = peek_number(p, sk, PEEK_unix_sock__peer, &peer);
        if (r == 0)
                r = read_inode(p, peer, &e->ino);
        if (r == 0 && e->ino != 0)
                r = peek_number(p, peer, PEEK_unix_sock__peer, &back);
        if (r == 0 && e->ino != 0 && back != sk)
                r = -ENODATA;
        if (r == 0)
                r = read_cred(p, sk, reading->arena, &e->cred);
        if (r == 0)
                r = unix_memory_name(p, peer, reading->arena, &e->name, &e->name_len);
        reading->sk = sk;
        return r < 0 ? r : unix_memory_each(p, sk, MESSAGES_MAX, take_message, reading);
}

int unix_early_read(const struct unix_memory *m, int fd, struct arena *arena, struct unix_early_vec *ret) {
        _cleanup_(unix_early_vec_done) struct unix_early_vec clients = { 0 };
        struct reading reading = { .memory = m, .arena = arena, .clients = &clients };
        uint64_t sk;
        int r;

        r = peek_sock(m->peek, fd, &sk);
        if (r == 0)
                r = unix_memory_each(m->peek, sk, CLIENTS_MAX, take_client, &reading);
        if (r < 0)
                return r;
        *ret = clients;
        clients = (struct unix_early_vec){ 0 };
        return 0;
}

/* ---- is it so? ---- */

static bool is_own(const struct unix_early *e, int fd, const char *text) {
        const struct unix_peeked *m = e->first;
        struct stat st = { 0 };

        if (fd >= 0 && fstat(fd, &st) < 0)
                return false;
        return e->ino == (uint32_t)st.st_ino && e->cred->pid == getpid() && e->cred->uid == geteuid() &&
               e->cred->gid == getegid() && m && m->len == strlen(text) &&
               memcmp(m->data, text, m->len) == 0 && m->has_cred && m->cred.pid == getpid() &&
               m->cred.uid == getuid() && m->cred.gid == getgid();
}

/* Connected, with what each has sent; the second closes its end. */
static bool try_clients(const struct unix_memory *p, int listener, int first, int second) {
        _cleanup_(unix_early_vec_done) struct unix_early_vec clients = { 0 };
        _cleanup_(arena_done) struct arena arena = { 0 };
        union unix_address a = { .any.sa_family = AF_UNIX }, own = { 0 };
        socklen_t len = sizeof(a), own_len = sizeof(own);
        bool ok;

        ok = bind(listener, &a.any, sizeof(sa_family_t)) == 0 && listen(listener, 2) == 0 &&
             getsockname(listener, &a.any, &len) == 0 && connect(first, &a.any, len) == 0 &&
             connect(second, &a.any, len) == 0 && send(first, "one", 3, MSG_NOSIGNAL) == 3 &&
             send(first, "more", 4, MSG_NOSIGNAL) == 4 && send(second, "the other", 9, MSG_NOSIGNAL) == 9;
        close(second);
        return ok && unix_early_read(p, listener, &arena, &clients) == 0 && clients.n == 2 &&
               is_own(&clients.v[0], first, "one") && is_own(&clients.v[1], NOBODY, "the other") &&
               clients.v[0].first->next && clients.v[0].first->next->len == 4 &&
               !clients.v[0].first->next->next && getsockname(first, &own.any, &own_len) == 0 &&
               clients.v[0].name_len == unix_name_length(&own.un, own_len) &&
               memcmp(clients.v[0].name, own.un.sun_path, clients.v[0].name_len) == 0;
}

/* They ask for credentials, so that these are there whatever the kernel adds by itself; that names them, too. */
static bool prove_short(const struct unix_memory *p) {
        _cleanup_close_ int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        _cleanup_close_ int first = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int second = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

        if (listener < 0 || first < 0 || second < 0 ||
            setsockopt(first, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
            setsockopt(second, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0) {
                safe_close(second);
                return false;
        }
        return try_clients(p, listener, first, second);
}

static bool prove_long(const struct unix_memory *p) {
        _cleanup_close_ int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        _cleanup_close_ int client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        _cleanup_(unix_early_vec_done) struct unix_early_vec clients = { 0 };
        _cleanup_(arena_done) struct arena arena = { 0 };
        union unix_address a = { .any.sa_family = AF_UNIX };
        socklen_t len = sizeof(a);
        uint32_t own[LONG / 4];

        for (size_t i = 0; i < ELEMENTSOF(own); i++)
                own[i] = (uint32_t)i * 2654435761U;
        return listener >= 0 && client >= 0 && bind(listener, &a.any, sizeof(sa_family_t)) == 0 &&
               listen(listener, 1) == 0 && getsockname(listener, &a.any, &len) == 0 &&
               connect(client, &a.any, len) == 0 &&
               send(client, own, sizeof(own), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(own) &&
               unix_early_read(p, listener, &arena, &clients) == 0 && clients.n == 1 && clients.v[0].first &&
               clients.v[0].first->len == sizeof(own) &&
               memcmp(clients.v[0].first->data, own, sizeof(own)) == 0;
}

bool unix_early_prove(struct peek *peek, void *arg) {
        struct unix_memory *ret = arg;

        *ret = (struct unix_memory){ .peek = peek };
        if (!prove_short(ret))
                return false;
        ret->paged = peek_pages_find(peek, &ret->pages) == 0;
        ret->paged = ret->paged && prove_long(ret);
        unix_memory_prove(ret);
        return true;
}
