/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/datagram.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "log.h"
#include "macro.h"
#include "sock/uapi.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

enum {
        PACKET_MAX = 0xffff,
        CONTROL_MAX = 1024,
        HOPS = 64,
        LOOPBACK_MTU = 65536,
        ARRIVAL_MS = 3000,
        NEXT_ARRIVAL_MS = 50, /* when one has not arrived: the network does not let them through */
        OVERHEAD = 4096,      /* what a packet costs the kernel beyond its bytes, generously */
        TOTAL_MAX = 32 << 20,
};

/* ---- reading: system calls only ---- */

static int get_int(const struct cmsghdr *c) {
        int value = 0;

        memcpy(&value, CMSG_DATA(c), MIN(c->cmsg_len - CMSG_LEN(0), sizeof(value)));
        return value;
}

static void note4(const struct cmsghdr *c, struct datagram *d) {
        struct in_pktinfo info;

        if (c->cmsg_type == IP_PKTINFO && c->cmsg_len >= CMSG_LEN(sizeof(info))) {
                memcpy(&info, CMSG_DATA(c), sizeof(info));
                d->to[0] = info.ipi_addr.s_addr;
                d->has_to = 1;
        } else if (c->cmsg_type == IP_TTL)
                d->ttl = get_int(c);
        else if (c->cmsg_type == IP_TOS)
                d->tos = get_int(c);
}

static void note6(const struct cmsghdr *c, struct datagram *d) {
        struct in6_pktinfo info;

        if ((c->cmsg_type == IPV6_PKTINFO || c->cmsg_type == IPV6_2292PKTINFO) &&
            c->cmsg_len >= CMSG_LEN(sizeof(info))) {
                memcpy(&info, CMSG_DATA(c), sizeof(info));
                memcpy(d->to, &info.ipi6_addr, sizeof(d->to));
                d->has_to = 4;
        } else if (c->cmsg_type == IPV6_HOPLIMIT || c->cmsg_type == IPV6_2292HOPLIMIT)
                d->ttl = get_int(c);
        else if (c->cmsg_type == IPV6_TCLASS)
                d->tos = get_int(c);
}

static void note_control(struct msghdr *m, struct datagram *d) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
                if (c->cmsg_level == IPPROTO_IP)
                        note4(c, d);
                else if (c->cmsg_level == IPPROTO_IPV6)
                        note6(c, d);
                else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
                        d->segment = (uint32_t)get_int(c);
}

/* 1: there was one. */
static int read_next(int fd, struct datagrams *ret, struct datagram ***end, struct tcp_room *room) {
        struct datagram *d = (struct datagram *)room->at;
        union {
                struct cmsghdr align;
                char bytes[CONTROL_MAX];
        } control;
        struct iovec iov = { .iov_base = d + 1, .iov_len = PACKET_MAX };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        size_t used;
        ssize_t n;

        if (room->left < sizeof(*d) + PACKET_MAX + sizeof(*d))
                return -ENOBUFS;
        memset(d, 0, sizeof(*d));
        d->ttl = d->tos = -1;
        m.msg_name = &d->from;
        m.msg_namelen = sizeof(d->from);
        n = recvmsg(fd, &m, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0)
                return errno == EAGAIN ? 0 : errno == EINTR ? 1 : -errno;
        note_control(&m, d);
        d->len = (uint32_t)n;
        used = (sizeof(*d) + (size_t)n + sizeof(void *) - 1) & ~(sizeof(void *) - 1);
        room->at += used;
        room->left -= used;
        **end = d;
        *end = &d->next;
        ret->n++;
        return 1;
}

static int set_peek_off(int fd, int off) {
        return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)) < 0 ? -errno : 0;
}

/* With SO_PEEK_OFF each look begins behind what was seen before. */
int datagrams_read(int fd, struct datagrams *ret, struct tcp_room *room) {
        struct datagram **end = &ret->first;
        socklen_t len = sizeof(ret->peek_off);
        int r, done;

        *ret = (struct datagrams){ .peek_off = -1 };
        if (getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &ret->peek_off, &len) < 0)
                return -errno;
        r = set_peek_off(fd, 0);
        if (r < 0)
                return r;
        do
                r = read_next(fd, ret, &end, room);
        while (r > 0);
        done = set_peek_off(fd, ret->peek_off);
        return r < 0 ? r : done;
}

void datagrams_end(int fd, const struct datagrams *d) {
        set_peek_off(fd, d->peek_off);
}

/* ---- dump ---- */

static bool is_mapped(const uint32_t *a) {
        return a[0] == 0 && a[1] == 0 && a[2] == htonl(0xffff);
}

static bool is_any(const uint32_t *a, size_t n) {
        return a[n - 1] == 0 && (n == 1 || (a[0] == 0 && a[1] == 0 && (a[2] == 0 || is_mapped(a))));
}

/* An address that one machine has. */
static bool is_unicast(const uint32_t *a, size_t n) {
        uint32_t v4;

        if (n == 4 && !is_mapped(a))
                return !IN6_IS_ADDR_MULTICAST((const struct in6_addr *)a) &&
                       !IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)a);
        v4 = ntohl(a[n - 1]);
        return !IN_MULTICAST(v4) && v4 != INADDR_BROADCAST;
}

static void copy_from(const struct datagram *d, struct arena *arena, Img__SkDatagram *msg) {
        struct sockaddr_in in;

        if (d->from.sin6_family == AF_INET6) {
                msg->n_src_addr = 4;
                msg->src_addr = arena_copy(arena, &d->from.sin6_addr, 16);
                msg->src_port = ntohs(d->from.sin6_port);
        } else {
                memcpy(&in, &d->from, sizeof(in));
                msg->n_src_addr = 1;
                msg->src_addr = arena_copy(arena, &in.sin_addr, 4);
                msg->src_port = ntohs(in.sin_port);
        }
}

/* One of those that it is made of. */
static Img__SkDatagram *make(const struct datagram *d, size_t at, size_t len, struct arena *arena) {
        Img__SkDatagram *msg = arena_message(arena, Img__SkDatagram, img__sk_datagram__init);

        copy_from(d, arena, msg);
        msg->n_dst_addr = d->has_to;
        msg->dst_addr = arena_copy(arena, d->to, d->has_to * 4);
        msg->has_ttl = d->ttl > 0;
        msg->ttl = (uint32_t)d->ttl;
        msg->has_tos = d->tos >= 0;
        msg->tos = (uint32_t)d->tos;
        msg->data.len = len;
        msg->data.data = arena_copy(arena, (const uint8_t *)(d + 1) + at, len);
        return msg;
}

static bool can_be_put_back(const Img__InetSk *isk, const Img__SkDatagram *msg) {
        bool v6 = msg->n_src_addr == 4 && !is_mapped(msg->src_addr);

        return is_unicast(msg->src_addr, msg->n_src_addr) && is_unicast(isk->src_addr, isk->n_src_addr) &&
               (msg->n_dst_addr == 0 || is_unicast(msg->dst_addr, msg->n_dst_addr)) && msg->src_port != 0 &&
               msg->data.len + (v6 ? sizeof(struct ip6_hdr) : 0) + sizeof(struct udphdr) <=
                       (v6 ? LOOPBACK_MTU : PACKET_MAX - sizeof(struct iphdr));
}

void datagrams_dump(const struct datagrams *d, struct arena *arena, Img__InetSk *isk, const char *name) {
        size_t max = 0, total = 0, lost = 0;

        for (const struct datagram *one = d->first; one; one = one->next)
                max += one->segment > 0 ? one->len / one->segment + 1 : 1;
        isk->datagrams = arena_new_array(arena, Img__SkDatagram *, max);
        for (const struct datagram *one = d->first; one; one = one->next) {
                size_t step = one->segment > 0 ? one->segment : MAX(one->len, 1U), at = 0;

                do {
                        size_t len = MIN(step, one->len - at);
                        Img__SkDatagram *msg = make(one, at, len, arena);

                        total += len;
                        if (total <= TOTAL_MAX && can_be_put_back(isk, msg))
                                isk->datagrams[isk->n_datagrams++] = msg;
                        else
                                lost++;
                        at += step;
                } while (at < one->len);
        }
        if (lost > 0)
                log_warn("%s: %zu datagrams that were not read yet are lost: they came to or from addresses "
                         "of many machines or of one link, or are too large",
                         name, lost);
}

/* ---- restore ---- */

const char *datagrams_check(const Img__InetSk *isk) {
        size_t words = isk->family == AF_INET6 ? 4 : 1;

        if (isk->n_datagrams > 0 &&
            (isk->type != SOCK_DGRAM || (isk->proto != IPPROTO_UDP && isk->proto != IPPROTO_UDPLITE)))
                return "has datagrams, which sockets of its kind have not";
        for (size_t i = 0; i < isk->n_datagrams; i++) {
                const Img__SkDatagram *d = isk->datagrams[i];

                if (d->n_src_addr != words || d->src_port == 0 || d->src_port > 0xffff ||
                    (d->n_dst_addr != 0 && d->n_dst_addr != 1 && d->n_dst_addr != words) ||
                    (d->has_ttl && d->ttl > 0xff) || (d->has_tos && d->tos > 0xff) ||
                    !can_be_put_back(isk, d))
                        return "has a datagram that makes no sense";
        }
        return NULL;
}

size_t datagrams_room(const Img__InetSk *isk) {
        size_t room = 0;

        for (size_t i = 0; i < isk->n_datagrams; i++)
                room += 2 * isk->datagrams[i]->data.len + OVERHEAD;
        return room;
}

union packet {
        struct {
                struct iphdr ip;
                struct udphdr udp;
        } v4;
        struct {
                struct ip6_hdr ip;
                struct udphdr udp;
        } v6;
        uint8_t bytes[LOOPBACK_MTU + 64];
};

static uint32_t add(uint32_t sum, const void *data, size_t size) {
        const uint8_t *bytes = data;

        for (size_t i = 0; i + 1 < size; i += 2)
                sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
        if (size % 2)
                sum += (uint32_t)bytes[size - 1] << 8;
        return (sum & 0xffff) + (sum >> 16);
}

/* RFC 768, 3828, 2460: over a header that is only thought, and all of the datagram. */
static uint16_t checksum(const void *src, const void *dst, size_t address, uint8_t proto, const void *udp,
                         size_t len) {
        uint32_t sum = add(0, src, address);

        sum = add(sum, dst, address);
        sum = add(sum + proto + (uint32_t)len, udp, len);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        return htons(sum == 0xffff ? 0xffff : (uint16_t)~sum);
}

static void fill_udp(struct udphdr *udp, const Img__InetSk *isk, const Img__SkDatagram *d, const void *src,
                     const void *dst, size_t address) {
        size_t len = sizeof(*udp) + d->data.len;

        *udp = (struct udphdr){ .source = htons((uint16_t)d->src_port),
                                .dest = htons((uint16_t)isk->src_port),
                                .len = isk->proto == IPPROTO_UDP ? htons((uint16_t)len) : 0 };
        if (d->data.len > 0)
                memcpy(udp + 1, d->data.data, d->data.len);
        udp->check = checksum(src, dst, address, (uint8_t)isk->proto, udp, len);
}

static size_t build4(union packet *p, const Img__InetSk *isk, const Img__SkDatagram *d, uint32_t dst) {
        p->v4.ip = (struct iphdr){ .version = 4,
                                   .ihl = 5,
                                   .tos = d->has_tos ? (uint8_t)d->tos : 0,
                                   .ttl = d->has_ttl ? (uint8_t)d->ttl : HOPS,
                                   .protocol = (uint8_t)isk->proto,
                                   .saddr = d->src_addr[d->n_src_addr - 1],
                                   .daddr = dst };
        fill_udp(&p->v4.udp, isk, d, &p->v4.ip.saddr, &p->v4.ip.daddr, 4);
        return sizeof(p->v4) + d->data.len;
}

static size_t build6(union packet *p, const Img__InetSk *isk, const Img__SkDatagram *d,
                     const uint32_t *dst) {
        p->v6.ip = (struct ip6_hdr){ 0 };
        p->v6.ip.ip6_flow = htonl(6U << 28 | (d->has_tos ? d->tos << 20 : 0));
        p->v6.ip.ip6_plen = htons((uint16_t)(sizeof(p->v6.udp) + d->data.len));
        p->v6.ip.ip6_nxt = (uint8_t)isk->proto;
        p->v6.ip.ip6_hlim = d->has_ttl ? (uint8_t)d->ttl : HOPS;
        memcpy(&p->v6.ip.ip6_src, d->src_addr, 16);
        memcpy(&p->v6.ip.ip6_dst, dst, 16);
        fill_udp(&p->v6.udp, isk, d, &p->v6.ip.ip6_src, &p->v6.ip.ip6_dst, 16);
        return sizeof(p->v6) + d->data.len;
}

/* Only to this machine: what has no such address must not go out. */
static bool is_ours(int family, const uint32_t *a) {
        _cleanup_close_ int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
        struct sockaddr_in in = { .sin_family = AF_INET };

        memcpy(&in6.sin6_addr, a, family == AF_INET6 ? 16 : 0);
        in.sin_addr.s_addr = a[0];
        return fd >= 0 && (family == AF_INET6 ? bind(fd, (struct sockaddr *)&in6, sizeof(in6))
                                              : bind(fd, (struct sockaddr *)&in, sizeof(in))) == 0;
}

/* Where the socket is bound; if that is anywhere, where the datagram came to, or the loopback device. */
static bool destination(const Img__InetSk *isk, const Img__SkDatagram *d, bool v6, uint32_t *ret) {
        const struct in6_addr loopback = IN6ADDR_LOOPBACK_INIT;
        int family = v6 ? AF_INET6 : AF_INET;
        size_t n = v6 ? 4 : 1;

        if (!is_any(isk->src_addr, isk->n_src_addr)) {
                memcpy(ret, isk->src_addr + (isk->n_src_addr - n), n * 4);
                return is_ours(family, ret);
        }
        if (d->n_dst_addr >= n) {
                memcpy(ret, d->dst_addr + (d->n_dst_addr - n), n * 4);
                if (!is_any(ret, n) && is_ours(family, ret))
                        return true;
        }
        if (v6)
                memcpy(ret, &loopback, sizeof(loopback));
        else
                ret[0] = htonl(INADDR_LOOPBACK);
        return true;
}

struct senders {
        int v4, v6;
        union packet *packet; /* owned */
};

static void senders_done(struct senders *s) {
        safe_close(s->v4);
        safe_close(s->v6);
        free(s->packet);
}

static int open_sender(int family, int *fd) {
        if (*fd < 0)
                *fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
        return *fd < 0 ? -errno : 0;
}

static int send_one(struct senders *s, const Img__InetSk *isk, const Img__SkDatagram *d) {
        bool v6 = d->n_src_addr == 4 && !is_mapped(d->src_addr);
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
        struct sockaddr_in in = { .sin_family = AF_INET };
        uint32_t dst[4];
        size_t len;
        int r;

        if (!destination(isk, d, v6, dst))
                return -EADDRNOTAVAIL;
        r = open_sender(v6 ? AF_INET6 : AF_INET, v6 ? &s->v6 : &s->v4);
        if (r < 0)
                return r;
        len = v6 ? build6(s->packet, isk, d, dst) : build4(s->packet, isk, d, dst[0]);
        memcpy(&in6.sin6_addr, dst, v6 ? 16 : 0);
        in.sin_addr.s_addr = dst[0];
        if ((v6 ? sendto(s->v6, s->packet, len, 0, (struct sockaddr *)&in6, sizeof(in6))
                : sendto(s->v4, s->packet, len, 0, (struct sockaddr *)&in, sizeof(in))) < 0)
                return -errno;
        return 0;
}

/* What is in the receive queue, as the kernel counts it: every datagram adds to it. */
static uint32_t queued(int fd) {
        uint32_t info[SK_MEMINFO_VARS] = { 0 };
        socklen_t len = sizeof(info);

        return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) < 0 ? 0 : info[SK_MEMINFO_RMEM_ALLOC];
}

/* The packet is received by an interrupt of software, nearly always before its sending returns. */
static bool arrives(int fd, uint32_t before, int patience_ms) {
        const struct timespec pause = { .tv_nsec = 1000000 };

        for (int i = 0; i < patience_ms; i++) {
                if (queued(fd) != before)
                        return true;
                nanosleep(&pause, NULL);
        }
        return false;
}

/* The others of a SO_REUSEPORT group would get some of them: a program that chooses this one, for the time being. */
static void steer(int fd, int index, bool on) {
        struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, (uint32_t)index) };
        const struct sock_fprog prog = { ELEMENTSOF(code), code };

        if (setsockopt(fd, SOL_SOCKET, on ? SO_ATTACH_REUSEPORT_CBPF : SO_DETACH_REUSEPORT_BPF, &prog,
                       sizeof(prog)) < 0)
                log_debug("a group of SO_REUSEPORT cannot be steered");
}

/* Packets of the loopback device do not come to a socket of another one. */
static int bind_to_device(int fd, const char *device, const char *what, struct ckpt_error *err) {
        if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)) < 0)
                return ckpt_error_errno(err, -errno, "%s: cannot bind it to the network device %s", what,
                                        device);
        return 0;
}

int datagrams_restore(int fd, const Img__InetSk *isk, int index, const char *what, struct ckpt_error *err) {
        _cleanup_(senders_done) struct senders s = { -EBADF, -EBADF, NULL };
        bool shared = isk->opts->has_so_reuseport && isk->opts->so_reuseport;
        const char *device = isk->opts->so_bound_dev;
        size_t lost = 0;
        int r = 0;

        if (isk->n_datagrams == 0)
                return 0;
        s.packet = malloc(sizeof(*s.packet));
        ckpt_assert(s.packet);
        if (device && *device)
                r = bind_to_device(fd, "lo", what, err);
        if (r < 0)
                return r;
        if (shared)
                steer(fd, index, true);
        for (size_t i = 0; i < isk->n_datagrams; i++) {
                uint32_t before = queued(fd);

                if (send_one(&s, isk, isk->datagrams[i]) < 0 ||
                    !arrives(fd, before, lost == 0 ? ARRIVAL_MS : NEXT_ARRIVAL_MS))
                        lost++;
        }
        if (shared)
                steer(fd, index, false);
        if (lost > 0)
                log_warn(
                        "%s: %zu datagrams that were not read yet are lost: this machine's network does not let "
                        "them through to it",
                        what, lost);
        return device && *device ? bind_to_device(fd, device, what, err) : 0;
}
