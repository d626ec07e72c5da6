/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns nocheck timeout=60 dump=--tcp-established restore=--tcp-established */
/*
 * Options of TCP and UDP sockets: many are set to something unusual, then every option number of every level is read, and
 * must read the same afterwards, but for those that count or measure.
 */
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <sys/time.h>

#include "e2e_net.h"

enum { NAMES = 130, VALUE = 64, KINDS = 9 };

static const int levels[] = { SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP };

struct seen {
        int error;
        socklen_t len;
        unsigned char value[VALUE];
};

static struct seen (*before)[ELEMENTS(levels)][NAMES];
static int fds[KINDS];
static const char *const names[KINDS] = { "tcp4",       "tcp6",       "listening4",
                                          "listening6", "connected4", "accepted4",
                                          "connected6", "udp4",       "udp6" };

/* SO_ERROR, SO_MEMINFO, SO_INCOMING_NAPI_ID, SO_COOKIE and the like; what the kernel chooses by itself. */
static bool may_differ(int kind, int level, int name) {
        static const int sol[] = { 4, 31, 49, 55, 56, 57, 77 };
        static const int tcp[] = {
                TCP_INFO,      TCP_QUICKACK, TCP_CC_INFO, TCP_TIMESTAMP, TCP_ZEROCOPY_RECEIVE,
                TCP_QUEUE_SEQ, 36,           TCP_MAXSEG
        };

        for (size_t i = 0; level == SOL_SOCKET && i < ELEMENTS(sol); i++)
                if (sol[i] == name)
                        return true;
        for (size_t i = 0; level == IPPROTO_TCP && i < ELEMENTS(tcp); i++)
                if (tcp[i] == name)
                        return true;
        /* Of multicast in a TCP socket the kernel keeps what the SYN said; a connection is never "v6only" or not. */
        if (kind < 7 && ((level == IPPROTO_IP && name >= 32 && name <= 34) ||
                         (level == IPPROTO_IPV6 && ((name >= 17 && name <= 19) || name == IPV6_V6ONLY))))
                return true;
        return (level == IPPROTO_IP && name == 14) ||
               (level == IPPROTO_IPV6 && (name == 24 || name == 61 || name == 6)) ||
               (level == IPPROTO_IP && name == 9);
}

static struct seen look(int fd, int level, int name) {
        struct seen s = { .len = VALUE };

        if (getsockopt(fd, level, name, s.value, &s.len) < 0) {
                s.error = errno;
                s.len = 0;
                memset(s.value, 0, sizeof(s.value));
        }
        return s;
}

static void set_common(int fd, int n) {
        struct timeval tv = { .tv_sec = 1 + n, .tv_usec = 400000 };
        struct linger linger = { .l_onoff = 1, .l_linger = 7 };
        struct sock_filter accept_all = BPF_STMT(BPF_RET | BPF_K, 0xffffffff);
        struct sock_fprog prog = { .len = 1, .filter = &accept_all };

        set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
        set_option(fd, SOL_SOCKET, SO_PRIORITY, 5);
        set_option(fd, SOL_SOCKET, SO_MARK, 77);
        set_option(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
        set_option(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
        set_option(fd, SOL_SOCKET, SO_BROADCAST, 1);
        set_option(fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1);
        if (n % 2)
                set_option(fd, SOL_SOCKET, SO_RCVBUF, 150000 + n * 2);
        if (n % 3)
                set_option(fd, SOL_SOCKET, SO_SNDBUF, 140000 + n * 2);
        SYS(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
        SYS(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
        SYS(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
        SYS(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
        set_option(fd, IPPROTO_IP, IP_TOS, 0x10);
        set_option(fd, IPPROTO_IP, IP_TTL, 55);
        set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
        set_option(fd, IPPROTO_IP, IP_FREEBIND, 1);
        set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
        set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
}

static void set_v6(int fd) {
        set_option(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 44);
        set_option(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
        set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
        set_option(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
        set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
        set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
}

static void set_tcp(int fd) {
        set_option(fd, SOL_SOCKET, SO_RCVLOWAT, 3);
        set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1234);
        set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 23);
        set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
        set_option(fd, IPPROTO_TCP, TCP_SYNCNT, 3);
        set_option(fd, IPPROTO_TCP, TCP_LINGER2, 17);
        set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 54321);
        set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 99999);
        set_option(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1);
        CHECK(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0, "reno: %m");
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        before = calloc(KINDS, sizeof(*before));
        CHECK(before, "calloc");
        fds[0] = SYS(socket(AF_INET, SOCK_STREAM, 0));
        fds[1] = bound(AF_INET6, SOCK_STREAM);
        fds[2] = bound(AF_INET, SOCK_STREAM);
        fds[3] = bound(AF_INET6, SOCK_STREAM);
        SYS(listen(fds[2], 37));
        SYS(listen(fds[3], 11));
        fds[4] = connected(fds[2]);
        fds[5] = SYS(accept(fds[2], NULL, NULL));
        fds[6] = connected(fds[3]);
        (void)SYS(accept(fds[3], NULL, NULL));
        fds[7] = bound(AF_INET, SOCK_DGRAM);
        fds[8] = SYS(socket(AF_INET6, SOCK_DGRAM, 0));
        for (int i = 0; i < KINDS; i++) {
                bool v6 = strchr(names[i], '6') != NULL, udp = names[i][0] == 'u';

                set_common(fds[i], i);
                if (v6)
                        set_v6(fds[i]);
                if (!udp)
                        set_tcp(fds[i]);
                else {
                        set_option(fds[i], IPPROTO_IP, IP_MULTICAST_TTL, 9);
                        set_option(fds[i], IPPROTO_IP, IP_MULTICAST_LOOP, 0);
                        set_option(fds[i], IPPROTO_IP, IP_RECVTTL, 1);
                        set_option(fds[i], IPPROTO_UDP, 103, 1200);
                        set_option(fds[i], IPPROTO_UDP, 104, 1);
                        set_option(fds[i], SOL_SOCKET, SO_REUSEPORT, 1);
                }
        }
        set_option(fds[4], IPPROTO_TCP, TCP_CORK, 1);
        set_option(fds[3], IPPROTO_TCP, TCP_DEFER_ACCEPT, 20);
        set_option(fds[2], IPPROTO_TCP, TCP_FASTOPEN, 12);
        for (int i = 0; i < KINDS; i++)
                for (size_t l = 0; l < ELEMENTS(levels); l++)
                        for (int n = 0; n < NAMES; n++)
                                before[i][l][n] = look(fds[i], levels[l], n);
        test_ready();
        test_wait();
        /* break: set_option(fds[7], IPPROTO_IP, IP_RECVTTL, 0); */
        /* break: set_option(fds[4], IPPROTO_TCP, TCP_KEEPCNT, 5); */
        /* break: set_option(fds[5], SOL_SOCKET, SO_RCVBUF, 200000); */
        for (int i = 0; i < KINDS; i++)
                for (size_t l = 0; l < ELEMENTS(levels); l++)
                        for (int n = 0; n < NAMES; n++) {
                                struct seen now = look(fds[i], levels[l], n), *was = &before[i][l][n];
                                int a, b;

                                memcpy(&a, was->value, sizeof(a));
                                memcpy(&b, now.value, sizeof(b));
                                if (!may_differ(i, levels[l], n) && memcmp(&now, was, sizeof(now)) != 0)
                                        test_msg(
                                                "%s: level %d option %d: was %d (error %d, %u bytes), is %d (error %d, %u "
                                                "bytes)",
                                                names[i], levels[l], n, a, was->error, was->len, b,
                                                now.error, now.len);
                        }
        for (int i = 0; i < KINDS; i++)
                for (size_t l = 0; l < ELEMENTS(levels); l++)
                        for (int n = 0; n < NAMES; n++) {
                                struct seen now = look(fds[i], levels[l], n);

                                CHECK(may_differ(i, levels[l], n) ||
                                              memcmp(&now, &before[i][l][n], sizeof(now)) == 0,
                                      "%s: level %d option %d", names[i], levels[l], n);
                        }
        test_pass();
}
