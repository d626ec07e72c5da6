/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns nocheck timeout=60 dump=--tcp-established restore=--tcp-established */
/*
 * MPTCP listeners, as Go programs have them, and what they accept from clients of plain TCP: connections that have
 * fallen back to TCP. And MPTCP sockets that have no connection.
 */
#include <netinet/tcp.h>

#include "e2e_net.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

struct sockets {
        int fresh, bound, listener, client, server;
};

static union address a;
static socklen_t alen;

static void set_up(struct sockets *s) {
        const int on = 1, port = 0;

        s->fresh = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
        if (s->fresh < 0)
                test_skip("no MPTCP here: %s", strerror(errno));
        loopback_up();
        SYS(setsockopt(s->fresh, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
        s->bound = SYS(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP));
        a.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        SYS(bind(s->bound, &a.any, sizeof(a.in)));
        s->listener = SYS(socket(AF_INET6, SOCK_STREAM, IPPROTO_MPTCP));
        SYS(setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
        a.in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = (in_port_t)port };
        SYS(bind(s->listener, &a.any, sizeof(a.in6)));
        SYS(listen(s->listener, 23));
        alen = sizeof(a);
        SYS(getsockname(s->listener, &a.any, &alen));
        s->client = SYS(socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP));
        SYS(connect(s->client, &a.any, alen));
        s->server = SYS(accept(s->listener, NULL, NULL));
        CHECK(send(s->client, "before", 6, 0) == 6, "send: %m");
}

static void check_talk(int from, int to, const char *text) {
        char buf[16] = "";

        CHECK(send(from, text, strlen(text), 0) == (ssize_t)strlen(text), "send: %m");
        CHECK(recv(to, buf, strlen(text), MSG_WAITALL) == (ssize_t)strlen(text) && strcmp(buf, text) == 0,
              "got \"%s\"", buf);
}

int main(int argc, char **argv) {
        static struct sockets s;
        struct tcp_info info;
        socklen_t len = sizeof(info);
        in_port_t port;
        char buf[16] = "";
        int client, server;

        test_init(argc, argv);
        set_up(&s);
        port = a.in6.sin6_port;
        test_ready();
        test_wait();
        /* break: s.fresh = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP); */
        /* break: listen(s.listener, 24); */
        CHECK_EQ(get_option(s.fresh, SOL_SOCKET, SO_PROTOCOL), IPPROTO_MPTCP);
        CHECK_EQ(get_option(s.fresh, IPPROTO_TCP, TCP_NODELAY), 1);
        CHECK_EQ(get_option(s.listener, SOL_SOCKET, SO_PROTOCOL), IPPROTO_MPTCP);
        CHECK_EQ(get_option(s.listener, SOL_SOCKET, SO_REUSEADDR), 1);
        CHECK_EQ(get_option(s.server, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
        SYS(getsockopt(s.listener, IPPROTO_TCP, TCP_INFO, &info, &len));
        CHECK_EQ(info.tcpi_sacked, 23);
        CHECK(recv(s.server, buf, 6, MSG_WAITALL) == 6 && strcmp(buf, "before") == 0, "got \"%s\"", buf);
        check_talk(s.client, s.server, "there");
        check_talk(s.server, s.client, "and back");
        /* A client of MPTCP finds it too. */
        alen = sizeof(a);
        SYS(getsockname(s.listener, &a.any, &alen));
        CHECK_EQ(a.in6.sin6_port, port);
        client = s.fresh;
        a.in = (struct sockaddr_in){ .sin_family = AF_INET,
                                     .sin_port = port,
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        SYS(connect(client, &a.any, sizeof(a.in)));
        server = SYS(accept(s.listener, NULL, NULL));
        CHECK_EQ(get_option(server, SOL_SOCKET, SO_PROTOCOL), IPPROTO_MPTCP);
        check_talk(client, server, "multipath");
        SYS(listen(s.bound, 1));
        test_pass();
}
