/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

/* Sockets of the internet: addresses, options, the loopback device. */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "e2e.h"

union address {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
};

/* "127.0.0.1", "::1". Returns the length. */
static inline socklen_t address_of(union address *a, const char *text, uint16_t port) {
        memset(a, 0, sizeof(*a));
        if (strchr(text, ':')) {
                a->in6.sin6_family = AF_INET6;
                a->in6.sin6_port = htons(port);
                SYS(inet_pton(AF_INET6, text, &a->in6.sin6_addr));
                return sizeof(a->in6);
        }
        a->in.sin_family = AF_INET;
        a->in.sin_port = htons(port);
        SYS(inet_pton(AF_INET, text, &a->in.sin_addr));
        return sizeof(a->in);
}

static inline socklen_t own_address(int fd, union address *a) {
        socklen_t len = sizeof(*a);

        SYS(getsockname(fd, &a->any, &len));
        return len;
}

static inline uint16_t port_of(int fd) {
        union address a;

        own_address(fd, &a);
        return ntohs(a.in.sin_port);
}

static inline void set_option(int fd, int level, int name, int value) {
        CHECK(setsockopt(fd, level, name, &value, sizeof(value)) == 0, "fd %d: level %d option %d to %d: %m",
              fd, level, name, value);
}

static inline int get_option(int fd, int level, int name) {
        socklen_t len = sizeof(int);
        int value = 0;

        CHECK(getsockopt(fd, level, name, &value, &len) == 0, "fd %d: level %d option %d: %m", fd, level,
              name);
        return value;
}

/* Of its own family only, at the loopback address and some port. */
static inline int bound(int family, int type) {
        union address a;
        int fd = SYS(socket(family, type, 0));

        if (family == AF_INET6)
                set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        SYS(bind(fd, &a.any, address_of(&a, family == AF_INET ? "127.0.0.1" : "::1", 0)));
        return fd;
}

static inline int connected(int listener) {
        union address a;
        socklen_t len = own_address(listener, &a);
        int fd = SYS(socket(a.any.sa_family, SOCK_STREAM, 0));

        SYS(connect(fd, &a.any, len));
        return fd;
}

/* In a network namespace of the test's own. */
static inline void loopback_up(void) {
        struct ifreq req = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK };
        int control = SYS(socket(AF_INET, SOCK_DGRAM, 0));

        SYS(ioctl(control, SIOCSIFFLAGS, &req));
        close(control);
}
