/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>

#include "macro.h"
#include "sock/nlmsg.h"
#include "sock/uapi.h"

static const struct {
        int family, protocol;
} queries[] = {
        { AF_INET, IPPROTO_TCP },  { AF_INET, IPPROTO_UDP },  { AF_INET, IPPROTO_UDPLITE },
        { AF_INET6, IPPROTO_TCP }, { AF_INET6, IPPROTO_UDP }, { AF_INET6, IPPROTO_UDPLITE },
};

static void take_number(struct sock_diag *s, enum sock_told what, int number) {
        s->told |= 1U << what;
        s->numbers[what] = number;
}

static void take_bits(const void *data, size_t len, struct sock_diag *ret) {
        struct inet_diag_sockopt bits;

        if (len < sizeof(bits))
                return;
        memcpy(&bits, data, sizeof(bits));
        take_number(ret, SOCK_TOLD_RECVERR, bits.recverr);
        take_number(ret, SOCK_TOLD_FREEBIND, bits.freebind);
        take_number(ret, SOCK_TOLD_TRANSPARENT, bits.transparent);
        take_number(ret, SOCK_TOLD_BIND_NO_PORT, bits.bind_address_no_port);
        take_number(ret, SOCK_TOLD_RECVERR_RFC4884, bits.recverr_rfc4884);
}

static void take_memory(const void *data, size_t len, struct sock_diag *ret) {
        uint32_t info[SK_MEMINFO_SNDBUF + 1];

        if (len < sizeof(info))
                return;
        memcpy(info, data, sizeof(info));
        take_number(ret, SOCK_TOLD_RCVBUF, (int)info[SK_MEMINFO_RCVBUF]);
        take_number(ret, SOCK_TOLD_SNDBUF, (int)info[SK_MEMINFO_SNDBUF]);
}

static void take_congestion(const void *data, size_t len, struct sock_diag *ret) {
        if (len > sizeof(ret->congestion))
                return;
        memcpy(ret->congestion, data, len);
        ret->told |= 1U << SOCK_TOLD_CONGESTION;
}

static void take_info(const void *data, size_t len, struct sock_diag *ret) {
        struct tcp_info_long info;

        ret->has_segments = len >= sizeof(info);
        if (!ret->has_segments)
                return;
        memcpy(&info, data, sizeof(info));
        ret->segments_in = info.segs_in;
        ret->segments_out = info.segs_out;
        ret->pacing = info.max_pacing_rate;
        ret->told |= 1U << SOCK_TOLD_PACING;
}

static void take_option(const struct nl_attr *attr, struct sock_diag *ret) {
        const uint8_t *byte = (const uint8_t *)attr->data;
        uint32_t mark;

        if (attr->type == INET_DIAG_INFO)
                take_info(attr->data, attr->len, ret);
        else if (attr->type == INET_DIAG_TOS && attr->len > 0)
                take_number(ret, SOCK_TOLD_TOS, *byte);
        else if (attr->type == INET_DIAG_TCLASS && attr->len > 0)
                take_number(ret, SOCK_TOLD_TCLASS, *byte);
        else if (attr->type == INET_DIAG_MARK && attr->len >= sizeof(mark)) {
                memcpy(&mark, attr->data, sizeof(mark));
                take_number(ret, SOCK_TOLD_MARK, (int)mark);
        } else if (attr->type == INET_DIAG_SOCKOPT)
                take_bits(attr->data, attr->len, ret);
        else if (attr->type == INET_DIAG_SKMEMINFO)
                take_memory(attr->data, attr->len, ret);
        else if (attr->type == INET_DIAG_CONG)
                take_congestion(attr->data, attr->len, ret);
}

int sock_diag_parse(const void *payload, size_t len, uint8_t protocol, struct sock_diag *ret) {
        struct inet_diag_msg msg;
        struct nl_attrs attrs = nl_attrs(payload, len, sizeof(msg));
        struct nl_attr attr;
        bool ulp = false;
        struct sock_diag s;
        int r;

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
        while ((r = nl_attrs_next(&attrs, &attr)) > 0) {
                if (attr.type == INET_DIAG_SHUTDOWN && attr.len > 0) {
                        s.has_shutdown = true;
                        s.shutdown = *(const uint8_t *)attr.data;
                } else if (attr.type == INET_DIAG_MD5SIG && attr.len > 0)
                        s.md5 = true;
                else if (attr.type == INET_DIAG_ULP_INFO)
                        ulp = true;
                else if (protocol == IPPROTO_TCP)
                        take_option(&attr, &s);
        }
        if (r < 0)
                return r;
        /* Who is told the mark (CAP_NET_ADMIN) is told of an ULP, if there is one; before 5.10, when bits came, perhaps not. */
        if (!ulp && sock_diag_tells(&s, SOCK_TOLD_MARK) && sock_diag_tells(&s, SOCK_TOLD_RECVERR))
                take_number(&s, SOCK_TOLD_NO_ULP, 1);
        *ret = s;
        return 0;
}

struct asked {
        struct sock_diag_vec *vec;
        size_t before; /* that were there when it began */
        uint8_t protocol;
};

static int take_socket(const void *payload, size_t len, void *arg) {
        struct asked *asked = arg;
        struct sock_diag s;
        int r = sock_diag_parse(payload, len, asked->protocol, &s);

        return r < 0 ? r : sock_diag_vec_push(asked->vec, s);
}

static void begin_again(void *arg) {
        struct asked *asked = arg;

        asked->vec->n = asked->before;
}

static int query(int family, int protocol, uint32_t states, struct sock_diag_vec *vec) {
        struct asked asked = { .vec = vec, .before = vec->n, .protocol = (uint8_t)protocol };
        const struct inet_diag_req_v2 req = {
                .sdiag_family = (uint8_t)family,
                .sdiag_protocol = (uint8_t)protocol,
                /* Keys come with INFO only. */
                .idiag_ext = 1 << (INET_DIAG_SHUTDOWN - 1) | 1 << (INET_DIAG_INFO - 1) |
                             1 << (INET_DIAG_TOS - 1) | 1 << (INET_DIAG_TCLASS - 1) |
                             1 << (INET_DIAG_CONG - 1) | 1 << (INET_DIAG_SKMEMINFO - 1),
                .idiag_states = states,
        };
        int r = nl_list_sockets(&req, sizeof(req), take_socket, begin_again, &asked);

        return r == -ENOENT ? -EOPNOTSUPP : r;
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

int sock_diag_index(struct sock_diag_table *t) {
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
        r = query(family, protocol, ~(1U << TCP_TIME_WAIT), &t->all);
        if (r == -EOPNOTSUPP)
                return r;
        if (r == 0)
                r = sock_diag_index(t);
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

        r = query(AF_INET, IPPROTO_TCP, states, ret);
        if (r == 0)
                r = query(AF_INET6, IPPROTO_TCP, states, ret);
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

        memcpy(msg.req.id.idiag_src, s->src, sizeof(s->src));
        memcpy(msg.req.id.idiag_dst, s->dst, sizeof(s->dst));
        return nl_list(NETLINK_SOCK_DIAG, &msg, sizeof(msg), NULL, NULL, NULL);
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
