/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Errors that a socket has not told its program yet. To ask for one (SO_ERROR) takes it away: which it is, is read from the
 * kernel's memory. Those that the network brings can be brought again; of others the program is told another
 * one, or none, with a warning.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/peek.h"
#include "log.h"
#include "macro.h"
#include "sock/common.h"
#include "sock/restore.h"
#include "sock/tcp_option.h"

enum { WAIT_MS = 5000, STATE_CONNECTING = 2 /* SS_CONNECTING of linux/net.h */ };

/* ---- dump ---- */

static int peek_error(struct peek *p, int fd, uint64_t *ret) {
        uint64_t sk;
        int r = peek_sock(p, fd, &sk);

        return r < 0 ? r : peek_number(p, sk, PEEK_sock__sk_err, ret);
}

/* Does it work on an error that is known? A unix socket whose peer was closed with something unread has ECONNRESET. */
static bool prove(struct peek *p, void *arg __attribute__((unused))) {
        uint64_t before = 1, error = 0, after = 1;
        int pair[2];
        bool ok;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return false;
        ok = peek_error(p, pair[0], &before) == 0 && send(pair[0], "x", 1, MSG_NOSIGNAL) == 1;
        close(pair[1]);
        ok = ok && peek_error(p, pair[0], &error) == 0 && sock_option(pair[0], SO_ERROR) == ECONNRESET &&
             peek_error(p, pair[0], &after) == 0;
        close(pair[0]);
        return ok && before == 0 && error == ECONNRESET && after == 0;
}

static bool was_connecting(struct peek *p, int fd) {
        uint64_t file, sock, state = 0;

        return peek_file(p, fd, &file) == 0 && peek_number(p, file, PEEK_file__private_data, &sock) == 0 &&
               peek_number(p, sock, PEEK_socket__state, &state) == 0 && state == STATE_CONNECTING;
}

static bool is_v6(const Img__InetSk *isk) {
        return isk->family == AF_INET6 && isk->n_src_addr == 4 &&
               !IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)isk->src_addr);
}

/* Of TCP: what a RST does to what was connected, and the network to what was to be. Of UDP: what the network does. */
static bool can_come_back(const Img__InetSk *isk) {
        if (isk->type == SOCK_STREAM && !isk->connecting)
                return isk->state == TCP_CLOSE && (isk->error == ECONNRESET || isk->error == EPIPE);
        return (isk->type == SOCK_STREAM ? isk->state == TCP_CLOSE : isk->state == TCP_ESTABLISHED) &&
               packet_can_tell(is_v6(isk), (int)isk->error);
}

void pending_error_dump(struct dump *d, int fd, Img__InetSk *isk, const char *name) {
        struct peek *p = isk->type == SOCK_RAW ? NULL : dump_peek_for(d, DUMP_PEEK_ERRORS, prove, NULL);
        uint64_t error = 0;

        if (!p || peek_error(p, fd, &error) < 0 || error == 0 || error > INT16_MAX)
                return;
        isk->error = (uint32_t)error;
        isk->connecting = isk->has_connecting = isk->type == SOCK_STREAM && was_connecting(p, fd);
        isk->has_error = can_come_back(isk);
        if (!isk->has_error)
                log_warn("%s: it has an error that its program has not been told of (%s), which cannot be "
                         "brought back: %s",
                         name, strerror((int)error),
                         isk->has_reset ? "it will be told that the connection was reset" : "it is lost");
}

/* ---- restore ---- */

const char *pending_error_check(const Img__InetSk *isk) {
        return isk->has_error && !can_come_back(isk) ? "has an impossible error" : NULL;
}

bool pending_error_connecting(const Img__InetSk *isk) {
        return isk->has_error && isk->connecting;
}

static bool await_error(int fd) {
        struct pollfd p = { .fd = fd };

        return poll(&p, 1, WAIT_MS) > 0 && p.revents & POLLERR;
}

/* Nobody must answer, not even ourselves. */
static int be_deaf(int fd, bool on) {
        struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
        const struct sock_fprog prog = { ELEMENTSOF(code), code };

        return setsockopt(fd, SOL_SOCKET, on ? SO_ATTACH_FILTER : SO_DETACH_FILTER, &prog, sizeof(prog)) < 0
                       ? -errno
                       : 0;
}

/* Nobody listens on port 0. */
static void own_address(const Img__InetSk *isk, union sock_address *ret, socklen_t *ret_len) {
        Img__InetSk own = *isk;

        own.src_port = 0;
        inet_address(&own, false, ret, ret_len);
        if (ret->any.sa_family == AF_INET && ret->in.sin_addr.s_addr == 0)
                ret->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        else if (ret->any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&ret->in6.sin6_addr))
                ret->in6.sin6_addr = in6addr_loopback;
}

/* From the addresses that the socket has by now. */
static int find_tuple(int fd, const Img__InetSk *isk, const union sock_address *peer,
                      struct sock_tuple *ret) {
        Img__InetSk isk_now = IMG__INET_SK__INIT;
        bool v6 = peer->any.sa_family == AF_INET6;
        union sock_address own, other = *peer;
        socklen_t len = sizeof(own);

        if (getsockname(fd, &own.any, &len) < 0)
                return -errno;
        isk_now.family = isk->family;
        isk_now.n_src_addr = isk_now.n_dst_addr = v6 ? 4 : 1;
        isk_now.src_addr = v6 ? (uint32_t *)&own.in6.sin6_addr : (uint32_t *)&own.in.sin_addr;
        isk_now.dst_addr = v6 ? (uint32_t *)&other.in6.sin6_addr : (uint32_t *)&other.in.sin_addr;
        isk_now.src_port = ntohs(v6 ? own.in6.sin6_port : own.in.sin_port);
        isk_now.dst_port = ntohs(v6 ? other.in6.sin6_port : other.in.sin_port);
        inet_tuple(&isk_now, ret);
        return 0;
}

static int start_connecting(int fd, const union sock_address *peer, socklen_t len) {
        int flags = fcntl(fd, F_GETFL), r = 0;

        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        if (connect(fd, &peer->any, len) < 0 && errno != EINPROGRESS)
                r = -errno;
        return fcntl(fd, F_SETFL, flags) < 0 && r == 0 ? -errno : r;
}

int pending_error_connect(struct inet_file *f, const char *what, struct ckpt_error *err) {
        const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
        const uint32_t first = 1; /* 0: the kernel would choose it */
        union sock_address peer;
        struct sock_tuple tuple;
        socklen_t len;
        int r;

        own_address(f->isk, &peer, &len);
        r = tcp_set_number(f->fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
        if (r == 0)
                r = tcp_set_number(f->fd, TCP_QUEUE_SEQ, first);
        if (r == 0)
                r = tcp_repair(f->fd, TCP_REPAIR_OFF_NO_WP);
        if (r == 0)
                r = be_deaf(f->fd, true);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot repair %s", what);
        f->repaired = false;
        r = start_connecting(f->fd, &peer, len);
        if (r == 0)
                r = find_tuple(f->fd, f->isk, &peer, &tuple);
        if (r == 0)
                r = packet_tell(&tuple, IPPROTO_TCP, first, (int)f->isk->error);
        if (r < 0 || !await_error(f->fd)) {
                log_warn("%s: it has an error that its program has not been told of (%s), which cannot be "
                         "brought back: it will be told that the connection was reset",
                         what, strerror((int)f->isk->error));
                /* It leaves ECONNRESET behind. */
                (void)connect(f->fd, &nowhere, sizeof(nowhere));
        }
        r = be_deaf(f->fd, false);
        return r < 0 ? ckpt_error_errno(err, r, "cannot repair %s", what) : 0;
}

void pending_error_tell(const struct inet_file *f, const char *what) {
        const Img__InetSk *isk = f->isk;
        union sock_address peer;
        struct sock_tuple tuple;
        socklen_t len;

        if (!isk->has_error || isk->type == SOCK_STREAM)
                return;
        inet_address(isk, true, &peer, &len);
        if (find_tuple(f->fd, isk, &peer, &tuple) < 0 ||
            packet_tell(&tuple, (uint8_t)isk->proto, 0, (int)isk->error) < 0 || !await_error(f->fd))
                log_warn("%s: the error that its program has not been told of (%s) is lost", what,
                         strerror((int)isk->error));
}
