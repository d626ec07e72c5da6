/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=60 */
/*
 * Datagrams that were received and not read: of sockets bound to an address and to any, connected, in a SO_REUSEPORT
 * group, of a device, with a filter; empty ones, large ones, many; their order, their senders, and where they went.
 */
#include <linux/filter.h>
#include <netinet/udp.h>

#include "e2e_net.h"

enum { GROUP = 3, MANY = 150, LARGE = 65000, LARGE6 = 65480 };

struct sockets {
        int bound, any, connected, group[GROUP], device, v6, mapped, lite, many, peeked, gro;
};

static int make(const char *text, uint16_t port, int protocol, int option) {
        union address a;
        socklen_t len = address_of(&a, text, port);
        int fd = SYS(socket(a.any.sa_family, SOCK_DGRAM, protocol));

        if (option)
                set_option(fd, SOL_SOCKET, option, 1);
        SYS(bind(fd, &a.any, len));
        return fd;
}

/* From an address and port that nobody has any more when the datagram is read. */
static void send_from(const char *from, uint16_t from_port, const char *to, uint16_t port, int protocol,
                      const void *data, size_t size) {
        int fd = make(from, from_port, protocol, SO_REUSEADDR);
        union address a;
        socklen_t len = address_of(&a, to, port);

        CHECK(sendto(fd, data, size, 0, &a.any, len) == (ssize_t)size, "send to %s: %m", to);
        close(fd);
}

#define SEND(from, to, fd, text) send_from(from, 4001, to, port_of(fd), 0, text, strlen(text))

/* Next in `fd`: this text from this address, port 4001. */
static void expect(int fd, const char *from, const char *text) {
        char buf[64] = "", seen[INET6_ADDRSTRLEN] = "";
        union address a = { 0 };
        socklen_t len = sizeof(a);
        ssize_t n;

        wait_readable(fd);
        n = recvfrom(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT, &a.any, &len);
        CHECK(n == (ssize_t)strlen(text) && strcmp(buf, text) == 0, "got %zd \"%s\", not \"%s\": %m", n, buf,
              text);
        inet_ntop(a.any.sa_family,
                  a.any.sa_family == AF_INET ? (void *)&a.in.sin_addr : (void *)&a.in6.sin6_addr, seen,
                  sizeof(seen));
        CHECK(strcmp(seen, from) == 0, "from %s, not %s", seen, from);
        CHECK_EQ(ntohs(a.in.sin_port), 4001);
}

static void expect_no_more(int fd) {
        char c;

        CHECK(recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "there is more in it");
}

/* Where to, and with which hop limit. */
static void expect_info(int fd, const char *text, uint32_t to, int ttl) {
        union {
                struct cmsghdr align;
                char bytes[512];
        } control;
        char buf[64] = "";
        struct iovec iov = { buf, sizeof(buf) - 1 };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        int seen = 0;

        CHECK(recvmsg(fd, &m, MSG_DONTWAIT) == (ssize_t)strlen(text) && strcmp(buf, text) == 0, "got \"%s\"",
              buf);
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
                struct in_pktinfo info;
                int value;

                if (c->cmsg_type == IP_PKTINFO) {
                        memcpy(&info, CMSG_DATA(c), sizeof(info));
                        CHECK_EQ(info.ipi_addr.s_addr, htonl(to));
                        seen++;
                } else if (c->cmsg_type == IP_TTL) {
                        memcpy(&value, CMSG_DATA(c), sizeof(value));
                        CHECK_EQ(value, ttl);
                        seen++;
                }
        }
        CHECK_EQ(seen, 2);
}

static void send_many(const struct sockets *s) {
        uint16_t port = port_of(s->many);
        int fd = make("127.0.0.9", 0, 0, 0);
        union address a;
        socklen_t len = address_of(&a, "127.0.0.1", port);

        for (int i = 0; i < MANY; i++)
                CHECK(sendto(fd, &i, sizeof(i), 0, &a.any, len) == sizeof(i), "send: %m");
        close(fd);
}

/* Three datagrams of 1000 bytes and one of 500, put together. */
static void send_segments(const struct sockets *s) {
        int fd = make("127.0.0.1", 4001, 0, 0);
        char data[3500];
        union address a;
        socklen_t len = address_of(&a, "127.0.0.1", port_of(s->gro));

        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (char)(i / 1000 + '0');
        set_option(fd, IPPROTO_UDP, 103 /* UDP_SEGMENT */, 1000);
        CHECK(sendto(fd, data, sizeof(data), 0, &a.any, len) == sizeof(data), "send: %m");
        close(fd);
}

static char large[LARGE6];

static void set_up_group(struct sockets *s) {
        for (int i = 0; i < GROUP; i++) {
                uint16_t port = i ? port_of(s->group[0]) : 0;

                s->group[i] = make("127.0.0.1", port, 0, SO_REUSEPORT);
        }
        /* All of them from one sender would be for one of the group: a program of its own says which. */
        for (int i = 0; i < GROUP; i++) {
                struct sock_filter which[] = { BPF_STMT(BPF_RET | BPF_K, (uint32_t)i) };
                const struct sock_fprog choose = { 1, which };
                char text[16];

                SYS(setsockopt(s->group[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &choose, sizeof(choose)));
                snprintf(text, sizeof(text), "for %d", i);
                SEND("127.0.0.5", "127.0.0.1", s->group[0], text);
                SYS(setsockopt(s->group[0], SOL_SOCKET, 68 /* SO_DETACH_REUSEPORT_BPF */, &choose,
                               sizeof(choose)));
        }
}

static void set_up(struct sockets *s) {
        struct sock_filter no_x[] = { BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8),
                                      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'x', 0, 1),
                                      BPF_STMT(BPF_RET | BPF_K, 0), BPF_STMT(BPF_RET | BPF_K, 0xffffffff) };
        const struct sock_fprog prog = { ELEMENTS(no_x), no_x };
        union address a;

        s->bound = make("127.0.0.1", 0, 0, 0);
        loopback_up();
        for (size_t i = 0; i < sizeof(large); i++)
                large[i] = (char)(i * 7 + i / 251);
        SEND("127.0.0.5", "127.0.0.1", s->bound, "first");
        SEND("127.0.0.5", "127.0.0.1", s->bound, "");
        send_from("127.0.0.6", 4002, "127.0.0.1", port_of(s->bound), 0, large, LARGE);
        SEND("127.0.0.5", "127.0.0.1", s->bound, "last");
        s->any = make("0.0.0.0", 0, 0, 0);
        set_option(s->any, IPPROTO_IP, IP_PKTINFO, 1);
        set_option(s->any, IPPROTO_IP, IP_RECVTTL, 1);
        SEND("127.0.0.5", "127.0.0.77", s->any, "to 77");
        s->connected = make("127.0.0.1", 0, 0, 0);
        SYS(setsockopt(s->connected, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
        SEND("127.0.0.5", "127.0.0.1", s->connected, "from somebody else");
        SYS(connect(s->connected, &a.any, address_of(&a, "127.0.0.8", 4001)));
        SEND("127.0.0.8", "127.0.0.1", s->connected, "from the peer");
        set_up_group(s);
        s->device = make("0.0.0.0", 0, 0, 0);
        SYS(setsockopt(s->device, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2));
        SEND("127.0.0.5", "127.0.0.1", s->device, "of lo");
        s->v6 = make("::1", 0, 0, 0);
        send_from("::1", 4001, "::1", port_of(s->v6), 0, "six", 3);
        send_from("::1", 4002, "::1", port_of(s->v6), 0, large, LARGE6);
        s->mapped = make("::", 0, 0, 0);
        SEND("127.0.0.5", "127.0.0.1", s->mapped, "four");
        send_from("::1", 4001, "::1", port_of(s->mapped), 0, "six", 3);
        s->lite = make("127.0.0.1", 0, IPPROTO_UDPLITE, 0);
        send_from("127.0.0.5", 4001, "127.0.0.1", port_of(s->lite), IPPROTO_UDPLITE, "lite", 4);
        s->many = make("0.0.0.0", 0, 0, 0);
        send_many(s);
        s->peeked = make("127.0.0.1", 0, 0, 0);
        SEND("127.0.0.5", "127.0.0.1", s->peeked, "one");
        SEND("127.0.0.5", "127.0.0.1", s->peeked, "two");
        set_option(s->peeked, SOL_SOCKET, SO_PEEK_OFF, 3);
        s->gro = make("127.0.0.1", 0, 0, 0);
        set_option(s->gro, IPPROTO_UDP, 104 /* UDP_GRO */, 1);
        send_segments(s);
}

static void check_large(int fd, size_t size) {
        static char buf[1 << 17];
        ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

        CHECK(n == (ssize_t)size && memcmp(buf, large, size) == 0, "got %zd bytes, not %zu: %m", n, size);
}

static void check_segments(int fd) {
        static char buf[1 << 17];
        size_t got = 0;

        while (got < 3500) {
                ssize_t n = recv(fd, buf + got, sizeof(buf) - got, MSG_DONTWAIT);

                CHECK(n > 0, "after %zu bytes: %m", got);
                got += (size_t)n;
        }
        for (size_t i = 0; i < 3500; i++)
                CHECK(buf[i] == (char)(i / 1000 + '0'), "byte %zu", i);
}

static void check_all(const struct sockets *s) {
        char buf[16] = "";

        expect(s->bound, "127.0.0.5", "first");
        expect(s->bound, "127.0.0.5", "");
        check_large(s->bound, LARGE);
        expect(s->bound, "127.0.0.5", "last");
        expect_no_more(s->bound);
        expect_info(s->any, "to 77", INADDR_LOOPBACK + 76, 64);
        expect(s->connected, "127.0.0.5", "from somebody else");
        expect(s->connected, "127.0.0.8", "from the peer");
        for (int i = 0; i < GROUP; i++) {
                char text[16];

                snprintf(text, sizeof(text), "for %d", i);
                expect(s->group[i], "127.0.0.5", text);
                expect_no_more(s->group[i]);
        }
        expect(s->device, "127.0.0.5", "of lo");
        expect(s->v6, "::1", "six");
        check_large(s->v6, LARGE6);
        expect(s->mapped, "::ffff:127.0.0.5", "four");
        expect(s->mapped, "::1", "six");
        expect(s->lite, "127.0.0.5", "lite");
        for (int i = 0; i < MANY; i++) {
                int seen = -1;

                CHECK(recv(s->many, &seen, sizeof(seen), MSG_DONTWAIT) == sizeof(seen) && seen == i,
                      "%d, not %d", seen, i);
        }
        expect_no_more(s->many);
        CHECK(recv(s->peeked, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT) == 3 && strcmp(buf, "two") == 0,
              "peeked \"%s\"", buf);
        expect(s->peeked, "127.0.0.5", "one");
        expect(s->peeked, "127.0.0.5", "two");
        check_segments(s->gro);
        expect_no_more(s->gro);
        /* And they go on. */
        send_from("127.0.0.8", 4001, "127.0.0.1", port_of(s->connected), 0, "x", 1);
        send_from("127.0.0.8", 4001, "127.0.0.1", port_of(s->connected), 0, "on", 2);
        expect(s->connected, "127.0.0.8", "on");
}

int main(int argc, char **argv) {
        static struct sockets s;

        test_init(argc, argv);
        set_up(&s);
        test_ready();
        test_wait();
        /* break: recv(s.bound, large, 1, 0); */
        /* break: SEND("127.0.0.5", "127.0.0.1", s.group[0], "more"); */
        check_all(&s);
        test_pass();
}
