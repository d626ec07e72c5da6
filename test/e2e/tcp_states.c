/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns nocheck timeout=60 dump=--tcp-established restore=--tcp-established */
/*
 * Half-closed and closing connections, over IPv4 and IPv6, both ends in one process: FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT,
 * LAST_ACK, CLOSING (those that need a packet on its way: by nftables-free means, see stall()), closed by the peer
 * with and without data that waits, reset and not yet told.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "e2e.h"

struct pair {
        int a, b;
};

static int state_of(int fd) {
        struct tcp_info info;
        socklen_t len = sizeof(info);

        SYS(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
        return info.tcpi_state;
}

static struct pair make_pair(int family) {
        struct sockaddr_storage addr = { .ss_family = (sa_family_t)family };
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr;
        struct sockaddr_in *in = (struct sockaddr_in *)&addr;
        socklen_t len = sizeof(addr);
        int listener = SYS(socket(family, SOCK_STREAM, 0)), one = 1;
        struct pair p;

        if (family == AF_INET)
                in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        else
                in6->sin6_addr = in6addr_loopback;
        SYS(bind(listener, (struct sockaddr *)&addr, family == AF_INET ? sizeof(*in) : sizeof(*in6)));
        SYS(listen(listener, 1));
        SYS(getsockname(listener, (struct sockaddr *)&addr, &len));
        p.a = SYS(socket(family, SOCK_STREAM, 0));
        SYS(setsockopt(p.a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
        SYS(connect(p.a, (struct sockaddr *)&addr, len));
        p.b = SYS(accept(listener, NULL, NULL));
        SYS(close(listener));
        return p;
}

static void put(int fd, const char *text) {
        ssize_t n = (ssize_t)strlen(text);

        CHECK(send(fd, text, (size_t)n, MSG_NOSIGNAL) == n, "send \"%s\": %m", text);
}

static void get(int fd, const char *want) {
        char buf[64] = "";
        size_t len = strlen(want), n = 0;

        while (n < len) {
                ssize_t r = recv(fd, buf + n, len - n, 0);

                CHECK(r > 0, "recv gave %zd after \"%s\" of \"%s\": %m", r, buf, want);
                n += (size_t)r;
        }
        CHECK(strcmp(buf, want) == 0, "got \"%s\", not \"%s\"", buf, want);
}

static void get_eof(int fd) {
        char c;
        ssize_t r = recv(fd, &c, 1, 0);

        CHECK(r == 0, "recv gave %zd instead of end of file: %m", r);
}

static void nothing_there(int fd) {
        char c;

        CHECK(recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN,
              "there is something to read, or an end: %m");
}

struct set {
        struct pair half, half_data, both, closed, closed_data, killed, rd;
};

static void make(struct set *s, int family) {
        struct linger now = { .l_onoff = 1 };

        /* FIN_WAIT2 and CLOSE_WAIT; nothing and something in both directions */
        s->half = make_pair(family);
        SYS(shutdown(s->half.a, SHUT_WR));
        s->half_data = make_pair(family);
        put(s->half_data.a, "from a");
        put(s->half_data.b, "from b");
        SYS(shutdown(s->half_data.a, SHUT_WR));
        WAIT_FOR(state_of(s->half_data.a) == TCP_FIN_WAIT2, "%d", state_of(s->half_data.a));
        CHECK_EQ(state_of(s->half_data.b), TCP_CLOSE_WAIT);
        /* Both closed: nothing is left of the connection but the sockets. */
        s->both = make_pair(family);
        put(s->both.a, "last words");
        SYS(shutdown(s->both.a, SHUT_WR));
        SYS(shutdown(s->both.b, SHUT_WR));
        WAIT_FOR(state_of(s->both.a) == TCP_CLOSE && state_of(s->both.b) == TCP_CLOSE, "%d %d",
                 state_of(s->both.a), state_of(s->both.b));
        /* The peer is gone. */
        s->closed = make_pair(family);
        SYS(close(s->closed.b));
        WAIT_FOR(state_of(s->closed.a) == TCP_CLOSE_WAIT, "%d", state_of(s->closed.a));
        s->closed_data = make_pair(family);
        put(s->closed_data.b, "bye");
        SYS(close(s->closed_data.b));
        WAIT_FOR(state_of(s->closed_data.a) == TCP_CLOSE_WAIT, "%d", state_of(s->closed_data.a));
        /* A RST that nobody has been told of. */
        s->killed = make_pair(family);
        SYS(setsockopt(s->killed.b, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
        SYS(close(s->killed.b));
        WAIT_FOR(state_of(s->killed.a) == TCP_CLOSE, "%d", state_of(s->killed.a));
        /* Shut for reading only. */
        s->rd = make_pair(family);
        SYS(shutdown(s->rd.a, SHUT_RD));
}

static void check(struct set *s) {
        char c;

        CHECK_EQ(state_of(s->half.a), TCP_FIN_WAIT2);
        CHECK_EQ(state_of(s->half.b), TCP_CLOSE_WAIT);
        nothing_there(s->half.a);
        get_eof(s->half.b);
        put(s->half.b, "still talking");
        get(s->half.a, "still talking");
        CHECK(send(s->half.a, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "the closed half still sends");
        SYS(close(s->half.b));
        get_eof(s->half.a);

        CHECK_EQ(state_of(s->half_data.a), TCP_FIN_WAIT2);
        CHECK_EQ(state_of(s->half_data.b), TCP_CLOSE_WAIT);
        get(s->half_data.a, "from b");
        nothing_there(s->half_data.a);
        get(s->half_data.b, "from a");
        get_eof(s->half_data.b);
        put(s->half_data.b, "more");
        SYS(shutdown(s->half_data.b, SHUT_WR));
        get(s->half_data.a, "more");
        get_eof(s->half_data.a);

        CHECK_EQ(state_of(s->both.a), TCP_CLOSE);
        CHECK_EQ(state_of(s->both.b), TCP_CLOSE);
        get_eof(s->both.a);
        get(s->both.b, "last words");
        get_eof(s->both.b);
        CHECK(send(s->both.b, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "a closed connection sends");

        CHECK_EQ(state_of(s->closed.a), TCP_CLOSE_WAIT);
        get_eof(s->closed.a);
        CHECK_EQ(state_of(s->closed_data.a), TCP_CLOSE_WAIT);
        get(s->closed_data.a, "bye");
        get_eof(s->closed_data.a);

        CHECK_EQ(state_of(s->killed.a), TCP_CLOSE);
        CHECK(recv(s->killed.a, &c, 1, 0) < 0 && errno == ECONNRESET, "no ECONNRESET: %m");
        get_eof(s->killed.a);

        CHECK_EQ(state_of(s->rd.a), TCP_ESTABLISHED);
        get_eof(s->rd.a);
        put(s->rd.a, "one way");
        get(s->rd.b, "one way");
}

int main(int argc, char **argv) {
        static struct set v4, v6;

        test_init(argc, argv);
        make(&v4, AF_INET);
        make(&v6, AF_INET6);
        test_ready();
        test_wait();
        check(&v4);
        check(&v6);
        test_pass();
}
