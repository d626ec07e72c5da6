/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=60 */
/*
 * Raw and ping sockets of IPv4 and IPv6: protocols, addresses, connected without a port, filters of ICMP types,
 * checksums, IP_HDRINCL, the ids of ping sockets; a ping socket of a group that may make them when root's may not.
 */
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>

#include "e2e_net.h"

/* <linux/icmp.h>, which does not go together with <net/if.h>. */
struct icmp_filter {
        uint32_t data;
};
#define ICMP_FILTER 1

enum { PROTOCOL = 253 /* for experiments */, PING_ID = 4711, GROUP = 567 };

struct sockets {
        int raw, tcp, header, icmp, icmp6, sum, ping, ping6, cooked;
};

static union address a;
static socklen_t alen;

static void address(const char *text, uint16_t port) {
        alen = address_of(&a, text, port);
}

static void bind_to(int fd, const char *text, uint16_t port) {
        address(text, port);
        SYS(bind(fd, &a.any, alen));
}

static void connect_to(int fd, const char *text) {
        address(text, 0);
        SYS(connect(fd, &a.any, alen));
}

/* Only that group may, not root. */
static int make_ping(int family, int protocol) {
        int fd = SYS(open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY)), ping;
        char text[32];
        int n = snprintf(text, sizeof(text), "%d %d", GROUP, GROUP);

        CHECK(write(fd, text, (size_t)n) == n, "ping_group_range: %m");
        close(fd);
        SYS(syscall(SYS_setresgid, -1, GROUP, -1));
        ping = SYS(socket(family, SOCK_DGRAM, protocol));
        SYS(syscall(SYS_setresgid, -1, 0, -1));
        SYS(prctl(PR_SET_DUMPABLE, 1));
        return ping;
}

static void set_up(struct sockets *s) {
        struct icmp_filter f4 = { .data = ~(1U << ICMP_ECHOREPLY) };
        struct icmp6_filter f6;

        loopback_up();
        s->raw = SYS(socket(AF_INET, SOCK_RAW, PROTOCOL));
        bind_to(s->raw, "127.0.0.1", 0);
        s->tcp = SYS(socket(AF_INET, SOCK_RAW, IPPROTO_TCP));
        set_option(s->tcp, IPPROTO_IP, IP_TTL, 33);
        SYS(fcntl(s->tcp, F_SETFL, O_NONBLOCK));
        s->header = SYS(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
        s->cooked = SYS(socket(AF_INET, SOCK_RAW, PROTOCOL));
        set_option(s->cooked, IPPROTO_IP, IP_HDRINCL, 1);
        set_option(s->cooked, IPPROTO_IP, 22 /* IP_NODEFRAG */, 1);
        connect_to(s->cooked, "127.0.0.1");
        s->icmp = SYS(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
        SYS(setsockopt(s->icmp, SOL_RAW, ICMP_FILTER, &f4, sizeof(f4)));
        s->icmp6 = SYS(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
        ICMP6_FILTER_SETBLOCKALL(&f6);
        ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &f6);
        SYS(setsockopt(s->icmp6, IPPROTO_ICMPV6, ICMP6_FILTER, &f6, sizeof(f6)));
        s->sum = SYS(socket(AF_INET6, SOCK_RAW, PROTOCOL));
        set_option(s->sum, IPPROTO_IPV6, IPV6_CHECKSUM, 2);
        bind_to(s->sum, "::1", 0);
        connect_to(s->sum, "::1");
        s->ping = make_ping(AF_INET, IPPROTO_ICMP);
        bind_to(s->ping, "127.0.0.1", PING_ID);
        SYS(fchown(s->ping, 1234, GROUP));
        s->ping6 = make_ping(AF_INET6, IPPROTO_ICMPV6);
        SYS(fchown(s->ping6, 1234, GROUP));
        bind_to(s->ping6, "::1", PING_ID + 1);
        connect_to(s->ping6, "::1");
}

static ssize_t next(int fd, void *buf, size_t size) {
        struct pollfd p = { .fd = fd, .events = POLLIN };

        CHECK(poll(&p, 1, 30000) == 1, "nothing comes");
        return SYS(recv(fd, buf, size, 0));
}

/* Its own question comes to `listener` only as the answer: the filter holds back what is no reply. */
static void check_ping(int fd, int listener, bool v6, uint16_t id, const char *to) {
        struct icmphdr q = { .type = v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO }, *head;
        char buf[256] = "";
        ssize_t n;

        if (to) {
                address(to, 0);
                CHECK(sendto(fd, &q, sizeof(q), 0, &a.any, alen) == sizeof(q), "send: %m");
        } else
                CHECK(send(fd, &q, sizeof(q), 0) == sizeof(q), "send: %m");
        n = next(fd, buf, sizeof(buf));
        head = (struct icmphdr *)buf;
        CHECK(n == sizeof(q) && head->type == (v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY) &&
                      ntohs(head->un.echo.id) == id,
              "%zd bytes, type %u, id %u", n, head->type, ntohs(head->un.echo.id));
        n = next(listener, buf, sizeof(buf));
        head = (struct icmphdr *)(buf + (v6 ? 0 : sizeof(struct iphdr)));
        CHECK(n > 0 && head->type == (v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY), "heard type %u", head->type);
        CHECK(recv(listener, buf, sizeof(buf), MSG_DONTWAIT) < 0 && errno == EAGAIN, "heard more than that");
}

static void check_raw(const struct sockets *s) {
        struct {
                struct iphdr ip;
                char text[4];
        } m = { .ip = { .version = 4, .ihl = 5, .ttl = 9, .protocol = PROTOCOL }, .text = "raw" };
        char buf[256] = "";

        m.ip.daddr = htonl(INADDR_LOOPBACK);
        m.ip.saddr = htonl(INADDR_LOOPBACK);
        /* With a header of its own, to where it is connected. */
        CHECK(send(s->cooked, &m, sizeof(m), 0) == sizeof(m), "send: %m");
        CHECK(next(s->raw, buf, sizeof(buf)) == sizeof(m) && ((struct iphdr *)buf)->ttl == 9 &&
                      strcmp(buf + sizeof(struct iphdr), "raw") == 0,
              "got \"%s\"", buf + sizeof(struct iphdr));
        address("127.0.0.1", 0);
        CHECK(sendto(s->header, &m, sizeof(m), 0, &a.any, alen) == sizeof(m), "send: %m");
        CHECK(next(s->raw, buf, sizeof(buf)) == sizeof(m), "got something else");
        /* The kernel writes the checksum where it was told to. */
        CHECK(send(s->sum, "ab\0\0cd", 6, 0) == 6, "send: %m");
        CHECK(next(s->sum, buf, sizeof(buf)) == 6 && (buf[2] || buf[3]) && buf[4] == 'c', "no checksum");
}

static void check_sizes(const struct sockets *s) {
        struct icmp_filter f4;
        socklen_t len = sizeof(f4);
        struct stat st;

        SYS(getsockopt(s->icmp, SOL_RAW, ICMP_FILTER, &f4, &len));
        CHECK_EQ(f4.data, ~(1U << ICMP_ECHOREPLY));
        CHECK_EQ(get_option(s->tcp, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
        CHECK_EQ(get_option(s->tcp, IPPROTO_IP, IP_TTL), 33);
        CHECK(SYS(fcntl(s->tcp, F_GETFL)) & O_NONBLOCK, "it is blocking");
        CHECK_EQ(get_option(s->header, IPPROTO_IP, IP_HDRINCL), 1);
        CHECK_EQ(get_option(s->raw, IPPROTO_IP, IP_HDRINCL), 0);
        CHECK_EQ(get_option(s->cooked, IPPROTO_IP, 22), 1);
        CHECK_EQ(get_option(s->sum, IPPROTO_IPV6, IPV6_CHECKSUM), 2);
        SYS(fstat(s->ping, &st));
        CHECK(st.st_uid == 1234 && st.st_gid == GROUP, "owner %u:%u", st.st_uid, st.st_gid);
        alen = sizeof(a);
        SYS(getsockname(s->raw, &a.any, &alen));
        CHECK_EQ(a.in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
        alen = sizeof(a);
        SYS(getsockname(s->ping, &a.any, &alen));
        CHECK_EQ(ntohs(a.in.sin_port), PING_ID);
}

int main(int argc, char **argv) {
        static struct sockets s;

        test_init(argc, argv);
        set_up(&s);
        test_ready();
        test_wait();
        /* break: set_option(s.sum, IPPROTO_IPV6, IPV6_CHECKSUM, -1); */
        /* break: set_option(s.cooked, IPPROTO_IP, IP_HDRINCL, 0); */
        /* break: { struct icmp_filter f = { 0 }; setsockopt(s.icmp, SOL_RAW, ICMP_FILTER, &f, sizeof(f)); } */
        check_sizes(&s);
        check_ping(s.ping, s.icmp, false, PING_ID, "127.0.0.1");
        check_ping(s.ping6, s.icmp6, true, PING_ID + 1, NULL);
        check_raw(&s);
        test_pass();
}
