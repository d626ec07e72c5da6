/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns nocheck timeout=60 dump=--tcp-established restore=--tcp-established */
/*
 * MPTCP sockets whose peers speak plain TCP, over IPv4 and IPv6, both ends in one process: idle, with data that waits in both
 * directions, more than the socket inside takes, half-closed with and without such, closed by the peer, reset. They come back
 * as TCP sockets, and go on.
 */
#include <netinet/tcp.h>
#include <poll.h>

#include "e2e_net.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

enum { BACK = 30000, BUFFER = 100000, CHUNK = 7919, SENT_MAX = 64 << 20 };

/* a: of MPTCP; b: of TCP. */
struct pair {
        int a, b;
        uint64_t sent, received; /* from a to b */
};

struct set {
        struct pair idle, full, narrow, half, half_full, full_closed, closed, both, reset;
};

static unsigned char byte_at(uint64_t at) {
        return (unsigned char)(pattern(17, at >> 3) >> (at & 7) * 8);
}

static int state_of(int fd) {
        struct tcp_info info;
        socklen_t len = sizeof(info);

        SYS(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
        return info.tcpi_state;
}

static void make_pair_with(struct pair *p, const char *address, int receive_buffer) {
        int family = strchr(address, ':') ? AF_INET6 : AF_INET, listener;
        union address a;
        socklen_t len = address_of(&a, address, 0);

        memset(p, 0, sizeof(*p));
        p->a = socket(family, SOCK_STREAM, IPPROTO_MPTCP);
        if (p->a < 0)
                test_skip("no MPTCP here: %s", strerror(errno));
        listener = SYS(socket(family, SOCK_STREAM, 0));
        set_option(listener, SOL_SOCKET, SO_RCVBUF, BUFFER);
        set_option(p->a, SOL_SOCKET, SO_SNDBUF, BUFFER);
        set_option(p->a, SOL_SOCKET, SO_PRIORITY, 3);
        if (receive_buffer > 0)
                set_option(p->a, SOL_SOCKET, SO_RCVBUF, receive_buffer);
        SYS(bind(listener, &a.any, len));
        SYS(listen(listener, 1));
        len = own_address(listener, &a);
        SYS(connect(p->a, &a.any, len));
        p->b = SYS(accept(listener, NULL, NULL));
        SYS(close(listener));
        set_option(p->a, IPPROTO_TCP, TCP_NODELAY, 1);
        set_option(p->a, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_option(p->a, IPPROTO_TCP, TCP_KEEPIDLE, 1234);
}

static void make_pair(struct pair *p, const char *address) {
        make_pair_with(p, address, 0);
}

static void put(int fd, const char *text) {
        ssize_t n = (ssize_t)strlen(text);

        CHECK(send(fd, text, (size_t)n, MSG_NOSIGNAL) == n, "send \"%s\": %m", text);
}

static void get(int fd, const char *want) {
        char buf[64] = "";
        ssize_t len = (ssize_t)strlen(want);

        CHECK(recv(fd, buf, (size_t)len, MSG_WAITALL) == len && strcmp(buf, want) == 0,
              "got \"%s\", not \"%s\"", buf, want);
}

static void get_eof(int fd) {
        char c;
        ssize_t r = recv(fd, &c, 1, 0);

        CHECK(r == 0, "recv gave %zd instead of end of file: %m", r);
}

/* Until nobody takes any more. */
static void fill_up(struct pair *p) {
        unsigned char buf[BACK];
        ssize_t n = 0;

        for (size_t i = 0; i < BACK; i++)
                buf[i] = byte_at(i);
        CHECK(send(p->b, buf, BACK, MSG_NOSIGNAL) == BACK, "send: %m");
        while (n >= 0 && p->sent < SENT_MAX) {
                for (size_t i = 0; i < CHUNK; i++)
                        buf[i] = byte_at(p->sent + i);
                n = send(p->a, buf, CHUNK, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n > 0)
                        p->sent += (uint64_t)n;
        }
        CHECK(n < 0 && errno == EAGAIN, "it takes all: %m");
        CHECK(p->sent > BUFFER, "only %" PRIu64 " bytes", p->sent);
}

/* More than the MPTCP socket takes, in small pieces: what it leaves is in the socket inside. */
static void fill_narrow(struct pair *p) {
        unsigned char buf[100];

        set_option(p->b, IPPROTO_TCP, TCP_NODELAY, 1);
        for (uint64_t at = 0; at < BACK; at += sizeof(buf)) {
                for (size_t i = 0; i < sizeof(buf); i++)
                        buf[i] = byte_at(at + i);
                CHECK(send(p->b, buf, sizeof(buf), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(buf), "send: %m");
        }
}

static void receive(int fd, uint64_t *from, uint64_t to) {
        unsigned char buf[4096];

        while (*from < to) {
                size_t want = to - *from < sizeof(buf) ? (size_t)(to - *from) : sizeof(buf);
                ssize_t n = recv(fd, buf, want, 0);

                CHECK(n > 0, "recv gave %zd at %" PRIu64 " of %" PRIu64 ": %m", n, *from, to);
                for (ssize_t i = 0; i < n; i++, (*from)++)
                        CHECK(buf[i] == byte_at(*from), "wrong byte at %" PRIu64, *from);
        }
}

static void make(struct set *s, const char *address) {
        const struct linger now = { .l_onoff = 1 };

        make_pair(&s->idle, address);
        put(s->idle.a, "was sent");
        get(s->idle.b, "was sent");
        make_pair(&s->full, address);
        fill_up(&s->full);
        make_pair_with(&s->narrow, address, 1);
        fill_narrow(&s->narrow);
        make_pair(&s->half, address);
        put(s->half.a, "from a");
        put(s->half.b, "from b");
        SYS(shutdown(s->half.a, SHUT_WR));
        WAIT_FOR(state_of(s->half.a) == TCP_FIN_WAIT2, "%d", state_of(s->half.a));
        make_pair(&s->half_full, address);
        fill_up(&s->half_full);
        SYS(shutdown(s->half_full.a, SHUT_WR));
        make_pair(&s->full_closed, address);
        fill_up(&s->full_closed);
        SYS(shutdown(s->full_closed.b, SHUT_WR));
        WAIT_FOR(state_of(s->full_closed.a) == TCP_CLOSE_WAIT, "%d", state_of(s->full_closed.a));
        make_pair(&s->closed, address);
        put(s->closed.b, "bye");
        SYS(close(s->closed.b));
        WAIT_FOR(state_of(s->closed.a) == TCP_CLOSE_WAIT, "%d", state_of(s->closed.a));
        make_pair(&s->both, address);
        put(s->both.b, "last words");
        SYS(shutdown(s->both.a, SHUT_WR));
        SYS(shutdown(s->both.b, SHUT_WR));
        WAIT_FOR(state_of(s->both.a) == TCP_CLOSE && state_of(s->both.b) == TCP_CLOSE, "%d %d",
                 state_of(s->both.a), state_of(s->both.b));
        make_pair(&s->reset, address);
        SYS(setsockopt(s->reset.b, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
        SYS(close(s->reset.b));
        WAIT_FOR(state_of(s->reset.a) == TCP_CLOSE, "%d", state_of(s->reset.a));
}

static void check_options(int fd) {
        int protocol = get_option(fd, SOL_SOCKET, SO_PROTOCOL);

        CHECK(protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP, "protocol %d", protocol);
        CHECK_EQ(get_option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
        CHECK_EQ(get_option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 1234);
        CHECK_EQ(get_option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
        CHECK_EQ(get_option(fd, SOL_SOCKET, SO_PRIORITY), 3);
        CHECK_EQ(get_option(fd, SOL_SOCKET, SO_SNDBUF), 2 * BUFFER);
}

static void check_full(struct pair *p) {
        uint64_t back = 0;

        receive(p->a, &back, BACK);
        receive(p->b, &p->received, p->sent);
}

static void check_narrow(struct pair *p) {
        uint64_t back = 0;

        receive(p->a, &back, BACK);
}

static void talk(int a, int b) {
        put(a, "still here");
        get(b, "still here");
        put(b, "and there");
        get(a, "and there");
}

static void check(struct set *s) {
        char c;

        check_options(s->idle.a);
        check_options(s->full.a);
        talk(s->idle.a, s->idle.b);
        check_full(&s->full);
        talk(s->full.a, s->full.b);
        check_narrow(&s->narrow);
        talk(s->narrow.a, s->narrow.b);

        CHECK_EQ(state_of(s->half.a), TCP_FIN_WAIT2);
        CHECK_EQ(state_of(s->half.b), TCP_CLOSE_WAIT);
        get(s->half.a, "from b");
        get(s->half.b, "from a");
        get_eof(s->half.b);
        put(s->half.b, "more");
        get(s->half.a, "more");
        CHECK(send(s->half.a, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "the closed half still sends");
        SYS(close(s->half.b));
        get_eof(s->half.a);

        check_full(&s->half_full);
        get_eof(s->half_full.b);
        put(s->half_full.b, "more");
        get(s->half_full.a, "more");

        check_full(&s->full_closed);
        get_eof(s->full_closed.a);
        put(s->full_closed.a, "more");
        get(s->full_closed.b, "more");
        SYS(shutdown(s->full_closed.a, SHUT_WR));
        get_eof(s->full_closed.b);

        CHECK_EQ(state_of(s->closed.a), TCP_CLOSE_WAIT);
        get(s->closed.a, "bye");
        get_eof(s->closed.a);

        CHECK_EQ(state_of(s->both.a), TCP_CLOSE);
        get(s->both.a, "last words");
        get_eof(s->both.a);
        CHECK(send(s->both.a, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "a closed connection sends");

        CHECK_EQ(state_of(s->reset.a), TCP_CLOSE);
        CHECK(recv(s->reset.a, &c, 1, 0) < 0 && errno == ECONNRESET, "no ECONNRESET: %m");
        CHECK(recv(s->reset.a, &c, 1, 0) <= 0, "it can be read"); /* TCP sees the end, MPTCP fails */
}

int main(int argc, char **argv) {
        static struct set v4, v6;

        test_init(argc, argv);
        loopback_up();
        make(&v4, "127.0.0.1");
        make(&v6, "::1");
        test_ready();
        test_wait();
        check(&v4);
        check(&v6);
        test_pass();
}
