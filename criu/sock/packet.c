/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/packet.h"

#include <errno.h>
#include <libnet.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cleanup.h"
#include "macro.h"

enum { HOPS = 64, HINTS = 8 };

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
                        return ckpt_error(err, -EPERM, "cannot make packets for closing connections: %s",
                                          why);
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

static libnet_ptag_t add_ip(libnet_t *net, const struct sock_tuple *t, uint16_t len) {
        struct libnet_in6_addr src, dst;

        if (!t->v6)
                return libnet_build_ipv4((uint16_t)(LIBNET_IPV4_H + len), 0, 0, 0, HOPS, IPPROTO_TCP, 0,
                                         t->src[0], t->dst[0], NULL, 0, net, 0);
        memcpy(&src, t->src, sizeof(src));
        memcpy(&dst, t->dst, sizeof(dst));
        return libnet_build_ipv6(0, 0, len, IPPROTO_TCP, HOPS, src, dst, NULL, 0, net, 0);
}

static int send_segment(struct packet_sender *s, const struct sock_tuple *t, uint32_t seq, uint32_t ack,
                        uint16_t window, uint8_t flags, const uint8_t *data, uint16_t size,
                        struct ckpt_error *err) {
        uint16_t len = (uint16_t)(LIBNET_TCP_H + size), urgent = flags & PACKET_URG ? size : 0;
        libnet_t *net;
        int r;

        r = sender_for(s, t->v6, &net, err);
        if (r < 0)
                return r;
        if (libnet_build_tcp(t->src_port, t->dst_port, seq, ack, flags, window, 0, urgent, len, data, size,
                             net, 0) < 0 ||
            add_ip(net, t, len) < 0 || libnet_write(net) < 0)
                return ckpt_error(err, -EIO, "cannot send a packet in the name of a connection's peer: %s",
                                  libnet_geterror(net));
        return 0;
}

int packet_send(struct packet_sender *s, const struct sock_tuple *tuple, uint32_t seq, uint32_t ack,
                uint16_t window, uint8_t flags, struct ckpt_error *err) {
        return send_segment(s, tuple, seq, ack, window, flags, NULL, 0, err);
}

int packet_send_urgent(struct packet_sender *s, const struct sock_tuple *tuple, uint32_t seq, uint32_t ack,
                       uint8_t byte, struct ckpt_error *err) {
        return send_segment(s, tuple, seq, ack, UINT16_MAX, PACKET_ACK | PACKET_URG, &byte, 1, err);
}

/* The head of the packet that it is about: as much as RFC 792 asks for. */
struct notice4 {
        struct icmphdr icmp;
        struct iphdr ip;
        uint16_t src_port, dst_port;
        uint32_t seq; /* of TCP */
};
struct notice6 {
        struct icmp6_hdr icmp;
        struct ip6_hdr ip;
        uint16_t src_port, dst_port;
        uint32_t seq, more[3];
};

/* What is told: why a packet of `about`, seen from its sender, has not arrived. */
struct notice {
        const struct sock_tuple *about;
        const uint32_t *from; /* an address of this machine */
        uint8_t protocol, code;
        uint32_t seq;
        int times;
};

static uint16_t checksum(const void *data, size_t size) {
        const uint16_t *words = data;
        uint32_t sum = 0;

        for (size_t i = 0; i < size / 2; i++)
                sum += words[i];
        sum = (sum & 0xffff) + (sum >> 16);
        return (uint16_t) ~((sum & 0xffff) + (sum >> 16));
}

static int send_notices(int fd, const struct sockaddr *from, const struct sockaddr *to, socklen_t len,
                        const void *data, size_t size, int times) {
        uint32_t mark = NETLOCK_MARK;

        if (fd < 0 || bind(fd, from, len) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0)
                return -errno;
        for (int i = 0; i < times; i++)
                if (sendto(fd, data, size, MSG_DONTWAIT, to, len) < 0)
                        return -errno;
        return 0;
}

static int notice4(const struct notice *n) {
        struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr = { n->from[0] } };
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr = { n->about->src[0] } };
        _cleanup_close_ int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
        struct notice4 h = {
                .icmp = { .type = ICMP_DEST_UNREACH, .code = n->code },
                .ip = { .version = 4,
                        .ihl = 5,
                        .tot_len = htons(LIBNET_IPV4_H + LIBNET_TCP_H),
                        .ttl = HOPS,
                        .protocol = n->protocol,
                        .saddr = n->about->src[0],
                        .daddr = n->about->dst[0] },
                .src_port = htons(n->about->src_port),
                .dst_port = htons(n->about->dst_port),
                .seq = htonl(n->seq),
        };

        h.ip.check = checksum(&h.ip, sizeof(h.ip));
        h.icmp.checksum = checksum(&h, sizeof(h));
        return send_notices(fd, (struct sockaddr *)&from, (struct sockaddr *)&to, sizeof(from), &h,
                            sizeof(h), n->times);
}

static int notice6(const struct notice *n) {
        struct sockaddr_in6 from = { .sin6_family = AF_INET6 }, to = { .sin6_family = AF_INET6 };
        _cleanup_close_ int fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
        struct notice6 h = {
                .icmp = { .icmp6_type = ICMP6_DST_UNREACH, .icmp6_code = n->code },
                .src_port = htons(n->about->src_port),
                .dst_port = htons(n->about->dst_port),
                .seq = htonl(n->seq),
        };

        memcpy(&from.sin6_addr, n->from, sizeof(from.sin6_addr));
        memcpy(&to.sin6_addr, n->about->src, sizeof(to.sin6_addr));
        h.ip.ip6_flow = htonl(6U << 28);
        h.ip.ip6_plen = htons(LIBNET_TCP_H);
        h.ip.ip6_nxt = n->protocol;
        h.ip.ip6_hlim = HOPS;
        h.ip.ip6_src = to.sin6_addr;
        memcpy(&h.ip.ip6_dst, n->about->dst, sizeof(h.ip.ip6_dst));
        return send_notices(fd, (struct sockaddr *)&from, (struct sockaddr *)&to, sizeof(from), &h,
                            sizeof(h), n->times);
}

/* Each takes back one doubling of the interval. */
void packet_hint_retry(const struct sock_tuple *tuple, uint32_t seq) {
        struct sock_tuple about = { .v6 = tuple->v6,
                                    .src_port = tuple->dst_port,
                                    .dst_port = tuple->src_port };
        struct notice n = { &about, tuple->src, IPPROTO_TCP, ICMP_HOST_UNREACH, seq, HINTS };

        memcpy(about.src, tuple->dst, sizeof(about.src));
        memcpy(about.dst, tuple->src, sizeof(about.dst));
        if (tuple->v6) {
                n.code = ICMP6_DST_UNREACH_NOROUTE;
                notice6(&n);
        } else
                notice4(&n);
}

/* The code of an ICMP "unreachable" that the kernel takes for this error; -1: there is none. ip(7), ipv6(7). */
static int code_of(bool v6, int error) {
        switch (error) {
        case ECONNREFUSED:
                return v6 ? ICMP6_DST_UNREACH_NOPORT : ICMP_PORT_UNREACH;
        case EHOSTUNREACH:
                return v6 ? ICMP6_DST_UNREACH_ADDR : ICMP_HOST_UNREACH;
        case ENETUNREACH:
                return v6 ? ICMP6_DST_UNREACH_NOROUTE : ICMP_NET_UNREACH;
        case EACCES:
                return v6 ? ICMP6_DST_UNREACH_ADMIN : -1;
        case ENOPROTOOPT:
                return v6 ? -1 : ICMP_PROT_UNREACH;
        case EHOSTDOWN:
                return v6 ? -1 : ICMP_HOST_UNKNOWN;
        case ENONET:
                return v6 ? -1 : ICMP_HOST_ISOLATED;
        default:
                return -1;
        }
}

bool packet_can_tell(bool v6, int error) {
        return code_of(v6, error) >= 0;
}

int packet_tell(const struct sock_tuple *tuple, uint8_t protocol, uint32_t seq, int error) {
        int code = code_of(tuple->v6, error);
        struct notice n = { tuple, tuple->src, protocol, (uint8_t)code, seq, 1 };

        return code < 0 ? -EOPNOTSUPP : tuple->v6 ? notice6(&n) : notice4(&n);
}
