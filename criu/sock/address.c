/* SPDX-License-Identifier: GPL-2.0-only */
/* Addresses of internet sockets as the images have them, for the kernel and for people. */
#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "macro.h"
#include "sock/restore.h"
#include "sock/uapi.h"

static bool is_mapped(const uint32_t *a) {
        return a[0] == 0 && a[1] == 0 && a[2] == htonl(0xffff);
}

void inet_tuple(const Img__InetSk *isk, struct sock_tuple *ret) {
        /* They are compared as bytes. */
        memset(ret, 0, sizeof(*ret));
        ret->src_port = (uint16_t)isk->src_port;
        ret->dst_port = (uint16_t)isk->dst_port;
        if (isk->family == AF_INET) {
                ret->src[0] = isk->n_src_addr > 0 ? isk->src_addr[0] : 0;
                ret->dst[0] = isk->n_dst_addr > 0 ? isk->dst_addr[0] : 0;
        } else if (isk->n_src_addr == 4 && isk->n_dst_addr == 4) {
                ret->v6 = !is_mapped(isk->dst_addr);
                memcpy(ret->src, isk->src_addr + (ret->v6 ? 0 : 3), ret->v6 ? 16 : 4);
                memcpy(ret->dst, isk->dst_addr + (ret->v6 ? 0 : 3), ret->v6 ? 16 : 4);
        }
}

static int print_end(char *ret, size_t size, const uint32_t *a, size_t n, uint32_t port) {
        char text[INET6_ADDRSTRLEN] = "?";

        if (n == 1)
                inet_ntop(AF_INET, a, text, sizeof(text));
        else if (n == 4 && is_mapped(a))
                inet_ntop(AF_INET, a + 3, text, sizeof(text));
        else if (n == 4)
                inet_ntop(AF_INET6, a, text, sizeof(text));
        return snprintf(ret, size, strchr(text, ':') ? "[%s]:%u" : "%s:%u", text, port);
}

/* Of all but TCP. */
static const char *kind_name(const Img__InetSk *isk) {
        if (isk->type == SOCK_RAW)
                return "raw";
        switch (isk->proto) {
        case IPPROTO_UDPLITE:
                return "UDP-Lite";
        case IPPROTO_ICMP:
        case IPPROTO_ICMPV6:
                return "ping";
        default:
                return "UDP";
        }
}

void inet_describe(const Img__InetSk *isk, char ret[static SOCK_NAME_MAX]) {
        bool tcp = isk->type == SOCK_STREAM;
        bool connected = isk->dst_port != 0 || (!tcp && isk->state == TCP_ESTABLISHED);
        char src[64], dst[64] = "";

        print_end(src, sizeof(src), isk->src_addr, isk->n_src_addr, isk->src_port);
        if (connected)
                print_end(dst, sizeof(dst), isk->dst_addr, isk->n_dst_addr, isk->dst_port);
        if (tcp && connected)
                snprintf(ret, SOCK_NAME_MAX, "the %s connection %s - %s (%s)",
                         isk->proto == IPPROTO_MPTCP ? "MPTCP" : "TCP", src, dst,
                         tcp_state_name(isk->state));
        else
                snprintf(ret, SOCK_NAME_MAX, "the %s socket %s%s%s",
                         !tcp                       ? kind_name(isk)
                         : isk->state == TCP_LISTEN ? "listening TCP"
                                                    : "TCP",
                         src, connected ? " - " : "", dst);
}

bool inet_is_connection(const Img__InetSk *isk) {
        if (isk->type != SOCK_STREAM)
                return false;
        return tcp_is_connection(isk->state) ||
               (isk->state == TCP_CLOSE && isk->has_shutdown && isk->shutdown == IMG__SK_SHUTDOWN__BOTH);
}

void inet_address(const Img__InetSk *isk, bool peer, union sock_address *ret, socklen_t *ret_len) {
        const uint32_t *a = peer ? isk->dst_addr : isk->src_addr;
        uint16_t port = htons((uint16_t)(peer ? isk->dst_port : isk->src_port));

        memset(ret, 0, sizeof(*ret));
        if (isk->family == AF_INET) {
                ret->in = (struct sockaddr_in){ .sin_family = AF_INET,
                                                .sin_port = port,
                                                .sin_addr = { a[0] } };
                *ret_len = sizeof(ret->in);
                return;
        }
        ret->in6.sin6_family = AF_INET6;
        ret->in6.sin6_port = port;
        memcpy(&ret->in6.sin6_addr, a, 16);
        if (isk->ifname && IN6_IS_ADDR_LINKLOCAL(&ret->in6.sin6_addr))
                ret->in6.sin6_scope_id = if_nametoindex(isk->ifname);
        *ret_len = sizeof(ret->in6);
}
