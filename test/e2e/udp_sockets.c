/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=60 */
/*
 * UDP and UDP-Lite sockets: unbound, bound, connected, several on one port (SO_REUSEPORT, SO_REUSEADDR with multicast),
 * groups with and without sources, shut-down halves, owner; and listening TCP sockets on shared ports.
 */
#include <netinet/tcp.h>

#include "e2e_net.h"

struct udp {
        int plain, bound, client, server, v6, mapped, lite, shut_rd, shut_wr;
        int port[3]; /* SO_REUSEPORT */
        int group[2], group6, source;
        int listen[2], listen6, only4;
        uint16_t bound_port, lite_port, reuse_port, group_port, listen_port;
};

static const char GROUP[] = "239.1.2.3", SOURCE_GROUP[] = "232.1.2.3", GROUP6[] = "ff15::99";

static union address a;
static socklen_t alen;

static void address(const char *text, uint16_t port) {
        alen = address_of(&a, text, port);
}

static int make(int family, int type, int protocol, const char *text, uint16_t port, int option) {
        int fd = SYS(socket(family, type, protocol));

        if (option)
                set_option(fd, SOL_SOCKET, option, 1);
        if (text) {
                address(text, port);
                SYS(bind(fd, &a.any, alen));
        }
        return fd;
}

static void join(int fd, const char *text) {
        struct group_req req = { .gr_interface = if_nametoindex("lo") };

        address(text, 0);
        memcpy(&req.gr_group, &a, sizeof(a));
        SYS(setsockopt(fd, a.any.sa_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, MCAST_JOIN_GROUP, &req,
                       sizeof(req)));
}

static void join_source(int fd, const char *group, const char *source) {
        struct group_source_req req = { .gsr_interface = if_nametoindex("lo") };

        address(group, 0);
        memcpy(&req.gsr_group, &a, sizeof(a));
        address(source, 0);
        memcpy(&req.gsr_source, &a, sizeof(a));
        SYS(setsockopt(fd, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &req, sizeof(req)));
}

static void check_connected(int from, int to, const char *text) {
        char buf[64] = "";
        ssize_t n;

        CHECK(send(from, text, strlen(text), 0) == (ssize_t)strlen(text), "send %s: %m", text);
        n = recv(to, buf, sizeof(buf), 0);
        CHECK(n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0,
              "got %zd bytes \"%s\", not \"%s\": %m", n, buf, text);
}

static void check_sent_to(int from, const char *address_text, uint16_t port, int to, const char *text) {
        char buf[64] = "";
        ssize_t n;

        address(address_text, port);
        CHECK(sendto(from, text, strlen(text), 0, &a.any, alen) > 0, "send to %s: %m", address_text);
        n = recv(to, buf, sizeof(buf), 0);
        CHECK(n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0,
              "got %zd bytes \"%s\", not \"%s\": %m", n, buf, text);
}

static void set_up(struct udp *u) {
        u->plain = make(AF_INET, SOCK_DGRAM, 0, NULL, 0, 0);
        u->bound = make(AF_INET, SOCK_DGRAM, 0, "127.0.0.1", 0, 0);
        u->bound_port = port_of(u->bound);
        u->server = make(AF_INET, SOCK_DGRAM, 0, "127.0.0.1", 0, 0);
        u->client = make(AF_INET, SOCK_DGRAM, 0, NULL, 0, 0);
        address("127.0.0.1", port_of(u->server));
        SYS(connect(u->client, &a.any, alen));
        address("127.0.0.1", port_of(u->client));
        SYS(connect(u->server, &a.any, alen));
        u->v6 = make(AF_INET6, SOCK_DGRAM, 0, "::1", 0, 0);
        u->mapped = make(AF_INET6, SOCK_DGRAM, 0, "::", 0, 0);
        address("::ffff:127.0.0.1", u->bound_port);
        SYS(connect(u->mapped, &a.any, alen));
        u->lite = make(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, "127.0.0.1", 0, 0);
        u->lite_port = port_of(u->lite);
        for (int i = 0; i < 3; i++) {
                u->port[i] = make(AF_INET, SOCK_DGRAM, 0, "127.0.0.1", u->reuse_port, SO_REUSEPORT);
                u->reuse_port = port_of(u->port[i]);
        }
        for (int i = 0; i < 2; i++) {
                u->group[i] = make(AF_INET, SOCK_DGRAM, 0, "0.0.0.0", u->group_port, SO_REUSEADDR);
                u->group_port = port_of(u->group[i]);
                join(u->group[i], GROUP);
        }
        u->source = make(AF_INET, SOCK_DGRAM, 0, "0.0.0.0", 0, 0);
        join_source(u->source, SOURCE_GROUP, "127.0.0.1");
        u->group6 = make(AF_INET6, SOCK_DGRAM, 0, "::", 0, 0);
        join(u->group6, GROUP6);
        u->shut_rd = make(AF_INET, SOCK_DGRAM, 0, "127.0.0.1", 0, 0);
        address("127.0.0.1", u->bound_port);
        SYS(connect(u->shut_rd, &a.any, alen));
        SYS(shutdown(u->shut_rd, SHUT_RD));
        u->shut_wr = make(AF_INET, SOCK_DGRAM, 0, "127.0.0.1", 0, 0);
        address("127.0.0.1", u->bound_port);
        SYS(connect(u->shut_wr, &a.any, alen));
        SYS(shutdown(u->shut_wr, SHUT_WR));
        /* One port: two that share it, and one for IPv6 alone. One that has given up SO_REUSEADDR after its bind. */
        for (int i = 0; i < 2; i++) {
                u->listen[i] = make(AF_INET, SOCK_STREAM, 0, "0.0.0.0", u->listen_port, SO_REUSEPORT);
                u->listen_port = port_of(u->listen[i]);
                SYS(listen(u->listen[i], 7 + i));
        }
        u->listen6 = make(AF_INET6, SOCK_STREAM, 0, NULL, 0, 0);
        set_option(u->listen6, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        address("::", u->listen_port);
        SYS(bind(u->listen6, &a.any, alen));
        SYS(listen(u->listen6, 9));
        u->only4 = make(AF_INET, SOCK_STREAM, 0, "127.0.0.1", 0, SO_REUSEADDR);
        set_option(u->only4, SOL_SOCKET, SO_REUSEADDR, 0);
        SYS(fchown(u->only4, 1234, 567));
}

static int backlog(int fd) {
        struct tcp_info info;
        socklen_t len = sizeof(info);

        SYS(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
        CHECK_EQ(info.tcpi_state, TCP_LISTEN);
        return (int)info.tcpi_sacked;
}

static void check_groups(const struct udp *u) {
        struct ip_mreqn via = { .imr_ifindex = (int)if_nametoindex("lo") };
        char buf[16];

        SYS(setsockopt(u->plain, IPPROTO_IP, IP_MULTICAST_IF, &via, sizeof(via)));
        check_sent_to(u->plain, GROUP, u->group_port, u->group[0], "to all");
        CHECK(recv(u->group[1], buf, sizeof(buf), 0) == 6, "the other of the group");
        {
                struct group_filter *f = calloc(1, GROUP_FILTER_SIZE(4));
                socklen_t len = GROUP_FILTER_SIZE(4);
                struct sockaddr_in *src = (struct sockaddr_in *)&f->gf_slist[0];

                f->gf_interface = (uint32_t)via.imr_ifindex;
                f->gf_numsrc = 4;
                address(SOURCE_GROUP, 0);
                memcpy(&f->gf_group, &a, sizeof(a));
                SYS(getsockopt(u->source, IPPROTO_IP, MCAST_MSFILTER, f, &len));
                CHECK(f->gf_fmode == MCAST_INCLUDE && f->gf_numsrc == 1 &&
                              src->sin_addr.s_addr == htonl(INADDR_LOOPBACK),
                      "mode %u, %u sources", f->gf_fmode, f->gf_numsrc);
                /* There is no route for it on the loopback device, so the kernel is asked. */
                address(GROUP6, 0);
                memcpy(&f->gf_group, &a, sizeof(a));
                f->gf_numsrc = 4;
                SYS(getsockopt(u->group6, IPPROTO_IPV6, MCAST_MSFILTER, f, &len));
                CHECK(f->gf_fmode == MCAST_EXCLUDE && f->gf_numsrc == 0, "mode %u, %u sources", f->gf_fmode,
                      f->gf_numsrc);
        }
}

int main(int argc, char **argv) {
        static struct udp u;
        struct stat st;
        char c;
        int client, conn;

        test_init(argc, argv);
        set_up(&u);
        test_ready();
        test_wait();
        /* break: shutdown(u.client, SHUT_RDWR); */
        /* break: listen(u.listen[1], 9); */
        check_sent_to(u.plain, "127.0.0.1", u.bound_port, u.bound, "hello");
        check_connected(u.client, u.server, "from the client");
        check_connected(u.server, u.client, "from the server");
        check_connected(u.mapped, u.bound, "mapped");
        check_sent_to(u.v6, "::1", port_of(u.v6), u.v6, "to itself");
        check_sent_to(u.lite, "127.0.0.1", u.lite_port, u.lite, "light");
        check_groups(&u);
        CHECK(recv(u.shut_rd, &c, 1, 0) == 0, "not shut for reading: %m");
        CHECK(send(u.shut_rd, "x", 1, 0) == 1 && recv(u.bound, &c, 1, 0) == 1, "shut for writing: %m");
        CHECK(send(u.shut_wr, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "not shut for writing: %m");
        for (int i = 0; i < 3; i++)
                CHECK_EQ(port_of(u.port[i]), u.reuse_port);
        CHECK_EQ(backlog(u.listen[0]), 7);
        CHECK_EQ(backlog(u.listen[1]), 8);
        CHECK_EQ(backlog(u.listen6), 9);
        SYS(fstat(u.only4, &st));
        CHECK(st.st_uid == 1234 && st.st_gid == 567, "owner %u:%u", st.st_uid, st.st_gid);
        client = SYS(socket(AF_INET6, SOCK_STREAM, 0));
        address("::1", u.listen_port);
        SYS(connect(client, &a.any, alen));
        conn = SYS(accept(u.listen6, NULL, NULL));
        CHECK(write(conn, "!", 1) == 1 && read(client, &c, 1) == 1 && c == '!', "a new connection: %m");
        SYS(listen(u.only4, 5));
        test_pass();
}
