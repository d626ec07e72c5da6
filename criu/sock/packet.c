/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/packet.h"

#include <errno.h>
#include <libnet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "macro.h"

enum { HOPS = 64 };

struct packet_sender {
        libnet_t *net[2]; /* IPv4, IPv6 */
};

struct packet_sender *packet_sender_new(void) {
        struct packet_sender *s = calloc(1, sizeof(*s));

        ckpt_assert(s);
        return s;
}

void packet_sender_free(struct packet_sender **s) {
        if (!*s)
                return;
        for (size_t i = 0; i < ELEMENTSOF((*s)->net); i++)
                if ((*s)->net[i])
                        libnet_destroy((*s)->net[i]);
        free(*s);
        *s = NULL;
}

static int sender_for(struct packet_sender *s, bool v6, libnet_t **ret, struct ckpt_error *err) {
        char why[LIBNET_ERRBUF_SIZE] = "";
        uint32_t mark = NETLOCK_MARK;
        libnet_t *net = s->net[v6];

        if (!net) {
                net = libnet_init(v6 ? LIBNET_RAW6 : LIBNET_RAW4, NULL, why);
                if (!net)
                        return ckpt_error(err, -EPERM, "cannot make packets for closing connections: %s", why);
                if (setsockopt(libnet_getfd(net), SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0) {
                        libnet_destroy(net);
                        return ckpt_error_errno(err, -errno, "cannot make packets for closing connections");
                }
                s->net[v6] = net;
        }
        libnet_clear_packet(net);
        *ret = net;
        return 0;
}

static libnet_ptag_t add_ip(libnet_t *net, const struct sock_tuple *t) {
        struct libnet_in6_addr src, dst;

        if (!t->v6)
                return libnet_build_ipv4(LIBNET_IPV4_H + LIBNET_TCP_H, 0, 0, 0, HOPS, IPPROTO_TCP, 0, t->src[0],
                                         t->dst[0], NULL, 0, net, 0);
        memcpy(&src, t->src, sizeof(src));
        memcpy(&dst, t->dst, sizeof(dst));
        return libnet_build_ipv6(0, 0, LIBNET_TCP_H, IPPROTO_TCP, HOPS, src, dst, NULL, 0, net, 0);
}

int packet_send(struct packet_sender *s, const struct sock_tuple *tuple, uint32_t seq, uint32_t ack, uint16_t window,
                uint8_t flags, struct ckpt_error *err) {
        libnet_t *net;
        int r;

        r = sender_for(s, tuple->v6, &net, err);
        if (r < 0)
                return r;
        if (libnet_build_tcp(tuple->src_port, tuple->dst_port, seq, ack, flags, window, 0, 0, LIBNET_TCP_H, NULL, 0, net,
                             0) < 0 ||
            add_ip(net, tuple) < 0 || libnet_write(net) < 0)
                return ckpt_error(err, -EIO, "cannot send a packet for a closing connection: %s", libnet_geterror(net));
        return 0;
}
