/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"

enum { ANSWER_SIZE = 64 << 10, TRIES = 8 };

#define DIAG_ATTR_MD5SIG 20 /* 4.13; INET_DIAG_MD5SIG */

static const struct {
        int family, protocol;
} queries[] = {
        { AF_INET, IPPROTO_TCP },  { AF_INET, IPPROTO_UDP },  { AF_INET, IPPROTO_UDPLITE },
        { AF_INET6, IPPROTO_TCP }, { AF_INET6, IPPROTO_UDP }, { AF_INET6, IPPROTO_UDPLITE },
};

int sock_diag_parse(const void *payload, size_t len, uint8_t protocol, struct sock_diag *ret) {
        struct inet_diag_msg msg;
        struct sock_diag s;
        const char *at = payload, *end = at + len;

        if (len < sizeof(msg))
                return -EBADMSG;
        memcpy(&msg, payload, sizeof(msg));
        s = (struct sock_diag){
                .ino = msg.idiag_inode,
                .family = msg.idiag_family,
                .protocol = protocol,
                .state = msg.idiag_state,
                .src_port = ntohs(msg.id.idiag_sport),
                .dst_port = ntohs(msg.id.idiag_dport),
                .ifindex = msg.id.idiag_if,
                .rqueue = msg.idiag_rqueue,
                .wqueue = msg.idiag_wqueue,
                .cookie = { msg.id.idiag_cookie[0], msg.id.idiag_cookie[1] },
        };
        memcpy(s.src, msg.id.idiag_src, sizeof(s.src));
        memcpy(s.dst, msg.id.idiag_dst, sizeof(s.dst));
        at += NLMSG_ALIGN(sizeof(msg));
        while (end - at >= (ptrdiff_t)sizeof(struct rtattr)) {
                struct rtattr attr;

                memcpy(&attr, at, sizeof(attr));
                if (attr.rta_len < sizeof(attr) || attr.rta_len > (size_t)(end - at))
                        return -EBADMSG;
                if (attr.rta_type == INET_DIAG_SHUTDOWN && attr.rta_len > sizeof(attr)) {
                        s.has_shutdown = true;
                        s.shutdown = ((const uint8_t *)at)[sizeof(attr)];
                } else if (attr.rta_type == DIAG_ATTR_MD5SIG && attr.rta_len > sizeof(attr))
                        s.md5 = true;
                if (RTA_ALIGN(attr.rta_len) >= (size_t)(end - at))
                        break;
                at += RTA_ALIGN(attr.rta_len);
        }
        *ret = s;
        return 0;
}

/* One datagram of the answer. 1: the last one; -EINTR: the tables changed meanwhile. */
static int take_answer(struct sock_diag_vec *vec, uint8_t protocol, const char *buf, size_t size) {
        bool interrupted = false;

        for (const struct nlmsghdr *h = (const struct nlmsghdr *)buf; NLMSG_OK(h, size);
             h = NLMSG_NEXT(h, size)) {
                struct sock_diag s;
                int r;

                interrupted |= (h->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
                if (h->nlmsg_type == NLMSG_DONE)
                        return interrupted ? -EINTR : 1;
                if (h->nlmsg_type == NLMSG_ERROR) {
                        const struct nlmsgerr *e = NLMSG_DATA(h);

                        return h->nlmsg_len >= NLMSG_LENGTH(sizeof(*e)) && e->error < 0 ? e->error
                                                                                        : -EBADMSG;
                }
                if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY)
                        continue;
                r = sock_diag_parse(NLMSG_DATA(h), h->nlmsg_len - NLMSG_HDRLEN, protocol, &s);
                if (r == 0)
                        r = sock_diag_vec_push(vec, s);
                if (r < 0)
                        return r;
        }
        return interrupted ? -EINTR : 0;
}

static int query_once(int family, int protocol, uint32_t states, struct sock_diag_vec *vec) {
        struct {
                struct nlmsghdr head;
                struct inet_diag_req_v2 req;
        } msg = {
                .head = { .nlmsg_len = sizeof(msg),
                          .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
                .req = { .sdiag_family = (uint8_t)family,
                         .sdiag_protocol = (uint8_t)protocol,
                         .idiag_ext = 1 << (INET_DIAG_SHUTDOWN - 1),
                         .idiag_states = states },
        };
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
        _cleanup_free_ char *buf = malloc(ANSWER_SIZE);
        int r = 0;

        if (fd < 0)
                return -errno;
        if (!buf)
                return -ENOMEM;
        if (send(fd, &msg, sizeof(msg), 0) < 0)
                return -errno;
        while (r == 0) {
                ssize_t n = recv(fd, buf, ANSWER_SIZE, 0);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                r = take_answer(vec, (uint8_t)protocol, buf, (size_t)n);
        }
        return r < 0 ? r : 0;
}

static size_t bucket_of(const struct sock_diag_table *t, uint64_t ino) {
        return (size_t)((ino * 0x9e3779b97f4a7c15U) >> 32) & (t->nr_buckets - 1);
}

static void insert(struct sock_diag_table *t, size_t index) {
        size_t b = bucket_of(t, t->all.v[index].ino);

        while (t->buckets[b])
                b = (b + 1) & (t->nr_buckets - 1);
        t->buckets[b] = (uint32_t)index + 1;
}

static int index_all(struct sock_diag_table *t) {
        size_t n = 64;

        while (n < t->all.n * 2)
                n *= 2;
        free(t->buckets);
        t->buckets = calloc(n, sizeof(*t->buckets));
        t->nr_buckets = t->buckets ? n : 0;
        if (!t->buckets)
                return -ENOMEM;
        for (size_t i = 0; i < t->all.n; i++)
                if (t->all.v[i].ino != 0)
                        insert(t, i);
        return 0;
}

static int query_retried(int family, int protocol, uint32_t states, struct sock_diag_vec *vec) {
        size_t before = vec->n;
        int r = -EINTR;

        for (int i = 0; r == -EINTR && i < TRIES; i++) {
                vec->n = before;
                r = query_once(family, protocol, states, vec);
        }
        return r == -ENOENT ? -EOPNOTSUPP : r;
}

int sock_diag_query(struct sock_diag_table *t, int family, int protocol, struct ckpt_error *err) {
        size_t row = 0;
        int r;

        while (row < ELEMENTSOF(queries) &&
               (queries[row].family != family || queries[row].protocol != protocol))
                row++;
        if (row == ELEMENTSOF(queries))
                return -EOPNOTSUPP;
        if (t->asked & 1U << row)
                return 0;
        r = query_retried(family, protocol, ~(1U << TCP_TIME_WAIT), &t->all);
        if (r == -EOPNOTSUPP)
                return r;
        if (r == 0)
                r = index_all(t);
        if (r < 0)
                return ckpt_error_errno(err, r,
                                        "cannot list the sockets of the network namespace (sock_diag)");
        t->asked |= 1U << row;
        return 0;
}

int sock_diag_dying(struct sock_diag_vec *ret, struct ckpt_error *err) {
        const uint32_t states = 1U << TCP_TIME_WAIT | 1U << TCP_FIN_WAIT1 | 1U << TCP_FIN_WAIT2 |
                                1U << TCP_CLOSING | 1U << TCP_LAST_ACK;
        size_t n = ret->n;
        int r;

        r = query_retried(AF_INET, IPPROTO_TCP, states, ret);
        if (r == 0)
                r = query_retried(AF_INET6, IPPROTO_TCP, states, ret);
        if (r < 0 && r != -EOPNOTSUPP)
                return ckpt_error_errno(err, r,
                                        "cannot list the sockets of the network namespace (sock_diag)");
        for (size_t i = n; i < ret->n; i++)
                if (ret->v[i].ino == 0)
                        ret->v[n++] = ret->v[i];
        ret->n = n;
        return 0;
}

int sock_diag_destroy(const struct sock_diag *s) {
        struct {
                struct nlmsghdr head;
                struct inet_diag_req_v2 req;
        } msg = {
                .head = { .nlmsg_len = sizeof(msg),
                          .nlmsg_type = SOCK_DESTROY,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
                .req = { .sdiag_family = s->family,
                         .sdiag_protocol = s->protocol,
                         .idiag_states = ~0U,
                         .id = { .idiag_sport = htons(s->src_port),
                                 .idiag_dport = htons(s->dst_port),
                                 .idiag_if = s->ifindex,
                                 .idiag_cookie = { s->cookie[0], s->cookie[1] } } },
        };
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
        struct {
                struct nlmsghdr head;
                struct nlmsgerr err;
        } answer;

        memcpy(msg.req.id.idiag_src, s->src, sizeof(s->src));
        memcpy(msg.req.id.idiag_dst, s->dst, sizeof(s->dst));
        if (fd < 0 || send(fd, &msg, sizeof(msg), 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0)
                return -errno;
        return answer.head.nlmsg_type == NLMSG_ERROR ? answer.err.error : -EBADMSG;
}

const struct sock_diag *sock_diag_find(const struct sock_diag_table *t, uint64_t ino) {
        if (t->nr_buckets == 0 || ino == 0)
                return NULL;
        for (size_t b = bucket_of(t, ino); t->buckets[b]; b = (b + 1) & (t->nr_buckets - 1))
                if (t->all.v[t->buckets[b] - 1].ino == ino)
                        return &t->all.v[t->buckets[b] - 1];
        return NULL;
}

void sock_diag_done(struct sock_diag_table *t) {
        sock_diag_vec_done(&t->all);
        free(t->buckets);
        *t = (struct sock_diag_table){ 0 };
}
