/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=60 dump=--tcp-established restore=--tcp-established */
/* Errors that sockets have and that the program has not been told of yet: which, and only once. */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "e2e.h"

static socklen_t address(int family, struct sockaddr_storage *ret) {
        memset(ret, 0, sizeof(*ret));
        ret->ss_family = (sa_family_t)family;
        if (family == AF_INET6)
                ((struct sockaddr_in6 *)ret)->sin6_addr = in6addr_loopback;
        else
                ((struct sockaddr_in *)ret)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

/* Where nobody listens. */
static socklen_t closed_address(int family, int type, struct sockaddr_storage *ret) {
        socklen_t len = address(family, ret);
        int fd = SYS(socket(family, type, 0));

        SYS(bind(fd, (struct sockaddr *)ret, len));
        SYS(getsockname(fd, (struct sockaddr *)ret, &len));
        SYS(close(fd));
        return len;
}

static bool has_error(int fd) {
        struct pollfd p = { .fd = fd };

        return poll(&p, 1, 0) == 1 && p.revents & POLLERR;
}

static int refused_udp(int family) {
        struct sockaddr_storage a;
        socklen_t len = closed_address(family, SOCK_DGRAM, &a);
        int fd = SYS(socket(family, SOCK_DGRAM, 0));

        SYS(connect(fd, (struct sockaddr *)&a, len));
        SYS(send(fd, "x", 1, 0));
        WAIT_FOR(has_error(fd), "nobody is against it");
        return fd;
}

static int refused_tcp(int family) {
        struct sockaddr_storage a;
        socklen_t len = closed_address(family, SOCK_STREAM, &a);
        int fd = SYS(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));

        CHECK(connect(fd, (struct sockaddr *)&a, len) < 0 && errno == EINPROGRESS, "connect: %m");
        WAIT_FOR(has_error(fd), "nobody is against it");
        return fd;
}

static uint16_t checksum(const void *data, size_t n) {
        const uint16_t *words = data;
        uint32_t sum = 0;

        for (size_t i = 0; i < n / 2; i++)
                sum += words[i];
        sum = (sum & 0xffff) + (sum >> 16);
        return (uint16_t) ~((sum & 0xffff) + (sum >> 16));
}

/* A router says that there is no such host. */
static int unreachable_tcp(void) {
        struct {
                struct icmphdr icmp;
                struct iphdr ip;
                uint16_t src, dst;
                uint32_t seq;
        } h = { .icmp = { .type = ICMP_DEST_UNREACH, .code = ICMP_HOST_UNREACH },
                .ip = { .version = 4, .ihl = 5, .protocol = IPPROTO_TCP, .tot_len = htons(40) } };
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) }, own;
        int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), raw, on = 1, off = -1;
        int queue = TCP_SEND_QUEUE, seq = 4711;
        socklen_t len = sizeof(own);

        /* A neighbour that does not answer: nothing comes back. */
        to.sin_addr.s_addr = htonl(0x0a090902);
        SYS(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)));
        SYS(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)));
        SYS(setsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, sizeof(seq)));
        queue = TCP_NO_QUEUE;
        SYS(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)));
        SYS(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)));
        CHECK(connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno == EINPROGRESS, "connect: %m");
        SYS(getsockname(fd, (struct sockaddr *)&own, &len));
        h.ip.saddr = own.sin_addr.s_addr;
        h.ip.daddr = to.sin_addr.s_addr;
        h.src = own.sin_port;
        h.dst = to.sin_port;
        h.seq = htonl((uint32_t)seq);
        h.ip.check = checksum(&h.ip, sizeof(h.ip));
        h.icmp.checksum = checksum(&h, sizeof(h));
        raw = SYS(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
        SYS(sendto(raw, &h, sizeof(h), 0, (struct sockaddr *)&own, sizeof(own)));
        SYS(close(raw));
        WAIT_FOR(has_error(fd), "nobody is against it");
        return fd;
}

/* The peer has closed its half, and then all of it, with something unread. */
static int broken_tcp(int family) {
        struct sockaddr_storage a;
        socklen_t len = address(family, &a);
        int listener = SYS(socket(family, SOCK_STREAM, 0)), fd = SYS(socket(family, SOCK_STREAM, 0)), peer;

        SYS(bind(listener, (struct sockaddr *)&a, len));
        SYS(listen(listener, 1));
        SYS(getsockname(listener, (struct sockaddr *)&a, &len));
        SYS(connect(fd, (struct sockaddr *)&a, len));
        peer = SYS(accept(listener, NULL, NULL));
        SYS(close(listener));
        SYS(send(peer, "bye", 3, 0));
        SYS(shutdown(peer, SHUT_WR));
        SYS(send(fd, "x", 1, 0));
        SYS(close(peer));
        WAIT_FOR(has_error(fd), "nobody is against it");
        return fd;
}

static void check_error(int fd, int error) {
        int value;
        socklen_t len = sizeof(value);

        CHECK(has_error(fd), "no error at all instead of %s", strerror(error));
        SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len));
        CHECK(value == error, "\"%s\" instead of \"%s\"", strerror(value), strerror(error));
        SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len));
        CHECK_EQ(value, 0);
}

static void make_network(void) {
        struct ifreq req = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK };
        int fd = SYS(socket(AF_INET, SOCK_DGRAM, 0));

        SYS(ioctl(fd, SIOCSIFFLAGS, &req));
        SYS(close(fd));
        CHECK_EQ(
                system("ip link add veth-a type veth peer name veth-b && "
                       "ip addr add 10.9.9.1/24 dev veth-a && ip link set veth-a up && ip link set veth-b up"),
                0);
}

int main(int argc, char **argv) {
        int udp4, udp6, tcp4, tcp6, broken, unreachable, fine;
        char buf[8];

        test_init(argc, argv);
        make_network();
        udp4 = refused_udp(AF_INET);
        udp6 = refused_udp(AF_INET6);
        tcp4 = refused_tcp(AF_INET);
        tcp6 = refused_tcp(AF_INET6);
        broken = broken_tcp(AF_INET);
        unreachable = unreachable_tcp();
        fine = SYS(socket(AF_INET, SOCK_DGRAM, 0));
        test_ready();
        test_wait();

        CHECK(send(udp4, "x", 1, 0) < 0 && errno == ECONNREFUSED, "%m");
        CHECK(recv(udp6, buf, 1, MSG_DONTWAIT) < 0 && errno == ECONNREFUSED, "%m");
        CHECK(recv(udp6, buf, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "%m");
        check_error(tcp4, ECONNREFUSED);
        check_error(tcp6, ECONNREFUSED);
        check_error(unreachable, EHOSTUNREACH);
        CHECK(recv(broken, buf, sizeof(buf), 0) == 3 && memcmp(buf, "bye", 3) == 0, "its last words: %m");
        check_error(broken, EPIPE);
        CHECK(!has_error(fine), "an error out of nothing");
        test_pass();
}
