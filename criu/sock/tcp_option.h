/* SPDX-License-Identifier: GPL-2.0-only */
/* Options of TCP sockets for tcp.c and tcp_read.c. System calls only. All return a negative errno. */
#pragma once

#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>

#include "sock/uapi.h"

static inline int tcp_get_number(int fd, int name, uint32_t *ret) {
        socklen_t len = sizeof(*ret);

        return getsockopt(fd, IPPROTO_TCP, name, ret, &len) < 0 ? -errno : 0;
}

static inline int tcp_set_number(int fd, int name, uint32_t value) {
        return setsockopt(fd, IPPROTO_TCP, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* In repair mode. */
static inline int tcp_get_window(int fd, struct tcp_repair_window *ret) {
        socklen_t len = sizeof(*ret);

        return getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, ret, &len) < 0 ? -errno : 0;
}

/* a - b, as numbers on a circle. */
static inline int32_t tcp_distance(uint32_t a, uint32_t b) {
        return (int32_t)(a - b);
}
