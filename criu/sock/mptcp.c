/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/mptcp.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "kernel/bpf.h"
#include "kernel/peek_skb.h"
#include "macro.h"
#include "sock/common.h"
#include "sock/tcp_option.h"

enum {
        TRIES = 100, /* a millisecond each */
        STRUCT_MAX = 8192,
        PACKETS_MAX = 1 << 20,
        PACKET_MAX = 1 << 20, /* bytes */
        TREE_DEPTH = 64,
};

bool mptcp_fell_back(int fd) {
        char info[256];
        socklen_t len = sizeof(info);
        uint32_t timestamp;

        /* Only then the socket inside is asked, which knows the one and not the other. */
        return sock_option(fd, SO_PROTOCOL) == IPPROTO_MPTCP &&
               tcp_get_number(fd, TCP_TIMESTAMP, &timestamp) == 0 &&
               getsockopt(fd, SOL_MPTCP, MPTCP_INFO, info, &len) < 0;
}

int mptcp_end(int fd) {
        const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

        return connect(fd, &nowhere, sizeof(nowhere)) < 0 ? -errno : 0;
}

/* ---- the two sockets ---- */

/* Both at one moment. */
struct view {
        uint64_t tcp, mptcp; /* where they are */
        uint64_t v[MPTCP_MEMBER_MAX];
};

static const enum mptcp_member of_tcp[] = { MPTCP_WRITE_SEQ, MPTCP_SND_UNA,    MPTCP_SND_NXT,
                                            MPTCP_SND_WL1,   MPTCP_SND_WND,    MPTCP_MAX_WINDOW,
                                            MPTCP_RCV_NXT,   MPTCP_COPIED_SEQ, MPTCP_RCV_WND,
                                            MPTCP_RCV_WUP,   MPTCP_ULP_DATA };
static const enum mptcp_member of_mptcp[] = { MPTCP_M_FIRST, MPTCP_M_WRITE_SEQ, MPTCP_M_SND_NXT,
                                              MPTCP_M_ACK_SEQ, MPTCP_M_PENDING };

static uint64_t number_in(const struct mptcp_reader *r, const uint8_t *object, enum mptcp_member m,
                          size_t base) {
        uint64_t number = 0; /* the numbers of this architecture begin with the lowest byte */

        memcpy(&number, object + base + r->places[m].offset, r->places[m].size);
        return number;
}

static int read_object(const struct mptcp_reader *r, uint64_t addr, size_t size,
                       const enum mptcp_member *members, size_t n, uint8_t ret_object[static STRUCT_MAX],
                       uint64_t ret[static MPTCP_MEMBER_MAX]) {
        int rc = peek_bytes(r->peek, addr, ret_object, size);

        for (size_t i = 0; rc == 0 && i < n; i++)
                ret[members[i]] = number_in(r, ret_object, members[i], 0);
        return rc;
}

static uint64_t place_of(const struct mptcp_reader *r, uint64_t addr, enum mptcp_member m) {
        return addr + (uint64_t)r->places[m].offset;
}

static int number_at(const struct mptcp_reader *r, uint64_t addr, enum mptcp_member m, uint64_t *ret) {
        uint64_t number = 0;
        int rc =
                addr == 0 ? -ENODATA : peek_bytes(r->peek, place_of(r, addr, m), &number, r->places[m].size);

        if (rc == 0)
                *ret = number;
        return rc;
}

int mptcp_read_tcp(const struct mptcp_reader *r, uint64_t sk, uint64_t ret[static MPTCP_MEMBER_MAX]) {
        uint8_t object[STRUCT_MAX];
        int rc = read_object(r, sk, r->tcp_size, of_tcp, ELEMENTSOF(of_tcp), object, ret);

        if (rc < 0)
                return rc;
        ret[MPTCP_STATE] = number_in(r, object, MPTCP_STATE, (size_t)r->places[MPTCP_COMMON].offset);
        ret[MPTCP_MSS_CLAMP] = number_in(r, object, MPTCP_MSS_CLAMP, (size_t)r->places[MPTCP_RX_OPT].offset);
        return 0;
}

/* The one inside points back to the one that has it, and to itself. */
static int look(const struct mptcp_reader *r, int fd, struct view *ret) {
        uint64_t context, conn = 0, self = 0, backlog = 0;
        struct view view = { 0 };
        uint8_t object[STRUCT_MAX];
        int rc;

        rc = peek_sock(r->peek, fd, &view.mptcp);
        if (rc == 0)
                rc = read_object(r, view.mptcp, r->mptcp_size, of_mptcp, ELEMENTSOF(of_mptcp), object,
                                 view.v);
        view.tcp = view.v[MPTCP_M_FIRST];
        if (rc == 0)
                rc = mptcp_read_tcp(r, view.tcp, view.v);
        context = view.v[MPTCP_ULP_DATA];
        if (rc == 0)
                rc = number_at(r, context, MPTCP_CONN, &conn);
        if (rc == 0)
                rc = number_at(r, context, MPTCP_TCP_SOCK, &self);
        if (rc == 0 && (conn != view.mptcp || self != view.tcp))
                rc = -ENODATA;
        if (rc == 0 && r->places[MPTCP_M_BACKLOG].offset >= 0)
                rc = number_at(r, view.mptcp, MPTCP_M_BACKLOG, &backlog);
        if (rc == 0 && backlog != 0)
                rc = -ENODATA;
        if (rc == 0)
                *ret = view;
        return rc;
}

/* Is all as it was? Pages and packets of a queue stay the same as long as its ends and its members do. */
static int look_again(const struct mptcp_reader *r, int fd, const struct view *before) {
        struct view after;
        int rc = look(r, fd, &after);

        return rc < 0 ? rc : memcmp(before, &after, sizeof(after)) != 0 ? -EAGAIN : 0;
}

/* ---- queues ---- */

/* Going through one: from `pos` on, and what came into memory. */
struct walk {
        const struct mptcp_reader *r;
        bool copy;
        uint8_t *at;
        size_t left;
        uint32_t pos;  /* sequence number of the next byte */
        uint64_t seen; /* changes with what was met */
};

static void see(struct walk *w, uint64_t what) {
        w->seen = (w->seen ^ what) * UINT64_C(0x100000001b3);
}

/* `skip` bytes of what was copied to w->at are not wanted. */
static void advance(struct walk *w, size_t len, size_t skip) {
        if (w->copy && skip > 0)
                memmove(w->at, w->at + skip, len - skip);
        w->at += len - skip;
        w->left -= len - skip;
        w->pos += (uint32_t)(len - skip);
}

static int take_packet(void *arg, uint64_t skb) {
        struct walk *w = arg;
        const struct peek_skbs skbs = { w->r->peek, &w->r->pages };
        uint64_t len = 0, seq = 0;
        int32_t known;
        int rc;

        rc = number_at(w->r, skb, MPTCP_SKB_LEN, &len);
        if (rc == 0)
                rc = number_at(w->r, place_of(w->r, skb, MPTCP_SKB_CB), MPTCP_CB_SEQ, &seq);
        if (rc < 0 || len > PACKET_MAX)
                return -ENODATA;
        see(w, skb);
        see(w, len);
        see(w, seq);
        if (len == 0)
                return 0;
        known = tcp_distance(w->pos, (uint32_t)seq);
        if (known < 0)
                return -EAGAIN;
        if ((uint64_t)known >= len)
                return 0;
        if (w->left < len)
                return -ENOBUFS;
        if (w->copy)
                rc = peek_skb_read(&skbs, skb, w->at, len);
        if (rc == 0)
                advance(w, len, (size_t)known);
        return rc;
}

/* What was sent is in a tree by sequence numbers. */
static int each_sent(struct walk *w, uint64_t sk) {
        uint64_t path[TREE_DEPTH], node = 0;
        size_t depth = 0;
        int rc = number_at(w->r, place_of(w->r, sk, MPTCP_SENT_TREE), MPTCP_TREE_ROOT, &node);

        for (size_t i = 0; rc == 0 && (node != 0 || depth > 0); i++) {
                enum mptcp_member next = MPTCP_TREE_LEFT;

                if (i == 2 * (size_t)PACKETS_MAX || (node != 0 && depth == TREE_DEPTH))
                        return -ENODATA;
                if (node != 0) {
                        path[depth++] = node;
                } else {
                        node = path[--depth];
                        rc = take_packet(w, node - (uint64_t)w->r->places[MPTCP_SKB_NODE].offset);
                        next = MPTCP_TREE_RIGHT;
                }
                if (rc == 0)
                        rc = number_at(w->r, node, next, &node);
        }
        return rc;
}

struct piece {
        uint64_t len, offset, sent, page;
};

static int read_piece(const struct mptcp_reader *r, uint64_t frag, struct piece *ret) {
        int rc = number_at(r, frag, MPTCP_FRAG_LEN, &ret->len);

        if (rc == 0)
                rc = number_at(r, frag, MPTCP_FRAG_OFFSET, &ret->offset);
        if (rc == 0)
                rc = number_at(r, frag, MPTCP_FRAG_SENT, &ret->sent);
        if (rc == 0)
                rc = number_at(r, frag, MPTCP_FRAG_PAGE, &ret->page);
        return rc == 0 && ret->sent > ret->len ? -ENODATA : rc;
}

static int take_piece(struct walk *w, uint64_t frag) {
        struct piece p = { 0 };
        uint64_t page;
        size_t n;
        int rc = read_piece(w->r, frag, &p);

        if (rc < 0)
                return rc;
        n = (size_t)(p.len - p.sent);
        see(w, frag);
        see(w, p.page);
        see(w, n);
        if (w->left < n)
                return -ENOBUFS;
        if (w->copy)
                rc = peek_page_address(&w->r->pages, p.page, &page);
        if (w->copy && rc == 0)
                rc = peek_bytes(w->r->peek, page + p.offset + p.sent, w->at, n);
        if (rc == 0)
                advance(w, n, 0);
        return rc;
}

/* What the socket inside has not been given yet. */
static int each_pending(struct walk *w, const struct view *v) {
        uint64_t end = place_of(w->r, v->mptcp, MPTCP_M_QUEUE), frag = v->v[MPTCP_M_PENDING], next = 0;
        int rc = 0;

        for (size_t i = 0; rc == 0 && frag != 0; i++) {
                rc = i == PACKETS_MAX ? -ENODATA : take_piece(w, frag);
                if (rc == 0)
                        rc = number_at(w->r, place_of(w->r, frag, MPTCP_FRAG_LIST), MPTCP_LIST_NEXT, &next);
                frag = next == end ? 0 : next - (uint64_t)w->r->places[MPTCP_FRAG_LIST].offset;
        }
        return rc;
}

/* ---- what is to be sent ---- */

static uint32_t seq_of(const struct view *v, enum mptcp_member m) {
        return (uint32_t)v->v[m];
}

static unsigned int state_of(const struct view *v) {
        return (unsigned int)v->v[MPTCP_STATE];
}

static uint32_t fin_in_queue(unsigned int state) {
        return tcp_fin_sent(state) && !tcp_fin_acked(state);
}

/* All of it: `ret_given`, what the socket inside has of it. */
static int walk_sent(struct walk *w, const struct view *v, uint32_t *ret_given) {
        int rc;

        w->pos = seq_of(v, MPTCP_SND_UNA);
        rc = each_sent(w, v->tcp);
        if (rc == 0)
                rc = peek_skb_each(w->r->peek, place_of(w->r, v->tcp, MPTCP_WRITE_QUEUE), PACKETS_MAX,
                                   take_packet, w);
        if (rc == 0 && w->pos != seq_of(v, MPTCP_WRITE_SEQ) - fin_in_queue(state_of(v)))
                rc = -EAGAIN;
        *ret_given = w->pos;
        return rc < 0 ? rc : each_pending(w, v);
}

/* Twice, the second time without copying: it has to be the same. */
static int copy_sent(struct walk *w, const struct view *v, uint32_t *ret_given) {
        struct walk again;
        int rc;

        w->copy = true;
        again = *w;
        again.copy = false;
        rc = walk_sent(w, v, ret_given);
        if (rc == 0)
                rc = walk_sent(&again, v, ret_given);
        return rc == 0 && (again.seen != w->seen || again.pos != w->pos) ? -EAGAIN : rc;
}

static void take_windows(const struct view *v, Img__TcpStream *msg) {
        msg->has_snd_wl1 = msg->has_snd_wnd = msg->has_max_window = true;
        msg->snd_wl1 = seq_of(v, MPTCP_SND_WL1);
        msg->snd_wnd = seq_of(v, MPTCP_SND_WND);
        msg->max_window = seq_of(v, MPTCP_MAX_WINDOW);
        msg->mss_clamp = seq_of(v, MPTCP_MSS_CLAMP);
}

/* The socket inside does not know yet of a FIN behind data that it has not been given. */
static unsigned int with_fin(unsigned int state) {
        return state == TCP_ESTABLISHED ? TCP_FIN_WAIT1 : state == TCP_CLOSE_WAIT ? TCP_LAST_ACK : state;
}

static int take_sent(const struct view *v, const struct walk *w, uint32_t given, struct tcp_queues *q) {
        uint64_t pending = v->v[MPTCP_M_WRITE_SEQ] - v->v[MPTCP_M_SND_NXT];
        uint32_t rest = w->pos - given, fin = fin_in_queue(state_of(v));
        uint32_t unsent = seq_of(v, MPTCP_WRITE_SEQ) - seq_of(v, MPTCP_SND_NXT);
        bool fin_waits = pending == (uint64_t)rest + 1;

        if ((pending != rest && !fin_waits) || (pending > 0 && tcp_fin_sent(state_of(v))) ||
            unsent > seq_of(v, MPTCP_WRITE_SEQ) - seq_of(v, MPTCP_SND_UNA))
                return -EAGAIN;
        q->state = (uint8_t)(fin_waits ? with_fin(state_of(v)) : state_of(v));
        q->msg.outq_seq = seq_of(v, MPTCP_WRITE_SEQ) + (uint32_t)pending;
        q->msg.outq_len = w->pos - seq_of(v, MPTCP_SND_UNA);
        q->msg.has_unsq_len = true;
        q->msg.unsq_len = (unsent > fin ? unsent - fin : 0) + rest;
        take_windows(v, &q->msg);
        return 0;
}

static int try_sent(const struct mptcp_reader *r, int fd, struct tcp_queues *q, struct tcp_room *room) {
        struct walk w = { .r = r, .at = room->at, .left = room->left };
        uint32_t given;
        struct view v;
        int rc = look(r, fd, &v);

        if (rc < 0)
                return rc;
        img__tcp_stream__init(&q->msg);
        q->out = NULL;
        if (state_of(&v) == TCP_CLOSE) {
                q->state = TCP_CLOSE;
                return 0;
        }
        if (!tcp_is_connection(state_of(&v)) || state_of(&v) == TCP_SYN_SENT)
                return -EAGAIN;
        rc = copy_sent(&w, &v, &given);
        if (rc == 0)
                rc = look_again(r, fd, &v);
        if (rc == 0)
                rc = take_sent(&v, &w, given, q);
        if (rc == 0)
                rc = tcp_read_options(fd, &q->msg);
        if (rc == 0) {
                q->out = room->at;
                *room = (struct tcp_room){ w.at, w.left };
        }
        return rc;
}

/* ---- what was received ---- */

static int add_length(void *arg, uint64_t skb) {
        struct walk *w = arg;
        uint64_t len = 0, offset = 0;
        int rc = number_at(w->r, skb, MPTCP_SKB_LEN, &len);

        if (rc == 0)
                rc = number_at(w->r, place_of(w->r, skb, MPTCP_SKB_CB), MPTCP_CB_OFFSET, &offset);
        if (rc < 0 || offset > len || len > PACKET_MAX)
                return -ENODATA;
        see(w, skb);
        see(w, len - offset);
        w->pos += (uint32_t)(len - offset);
        return 0;
}

/* The MPTCP socket's own queue: its length, and what tells whether it is still the same. */
static int measure(const struct mptcp_reader *r, const struct view *v, struct walk *ret) {
        *ret = (struct walk){ .r = r };
        return peek_skb_each(r->peek, place_of(r, v->mptcp, MPTCP_RECEIVE_QUEUE), PACKETS_MAX, add_length,
                             ret);
}

/*
 * Never where nothing is: that would take away an error that waits for the program. Nor more than there is, or SIOCINQ: then data
 * would move here from the socket inside, which may tell its peer that it has room again, and the network lock holds that back.
 */
static int peek_own(int fd, size_t n, struct walk *w) {
        ssize_t got;

        if (n == 0)
                return 0;
        if (n > w->left)
                return -ENOBUFS;
        /* Linux 6.18 has none of MPTCP: it would begin elsewhere. */
        if (sock_option(fd, SO_PEEK_OFF) >= 0)
                return -EOPNOTSUPP;
        got = recv(fd, w->at, n, MSG_PEEK | MSG_DONTWAIT);
        if (got < 0)
                return -errno;
        if ((size_t)got != n)
                return -EAGAIN;
        w->at += n;
        w->left -= n;
        return 0;
}

/* What did not fit into that is still in the queue of the socket inside. */
static int copy_rest(const struct view *v, struct walk *w) {
        uint32_t fin = tcp_fin_received(state_of(v)), end = seq_of(v, MPTCP_RCV_NXT) - fin;
        int rc;

        w->copy = true;
        w->pos = seq_of(v, MPTCP_COPIED_SEQ);
        rc = peek_skb_each(w->r->peek, place_of(w->r, v->tcp, MPTCP_RECEIVE_QUEUE), PACKETS_MAX, take_packet,
                           w);
        /* It counts the FIN as copied once that was met. */
        return rc == 0 && state_of(v) != TCP_CLOSE && w->pos - end > fin ? -EAGAIN : rc;
}

/* Of the connection as it was when its sending half was read, and as it is now. */
static unsigned int merge_states(unsigned int sent, unsigned int now) {
        if (now == TCP_CLOSE || sent == TCP_CLOSE)
                return TCP_CLOSE;
        if (!tcp_fin_sent(sent))
                return tcp_fin_received(now) ? TCP_CLOSE_WAIT : TCP_ESTABLISHED;
        if (!tcp_fin_received(now))
                return tcp_fin_acked(sent) ? TCP_FIN_WAIT2 : TCP_FIN_WAIT1;
        return now == TCP_CLOSING ? TCP_CLOSING : TCP_LAST_ACK;
}

static int try_received(const struct mptcp_reader *r, int fd, struct tcp_queues *q, struct tcp_room *room) {
        struct walk w = { .r = r, .at = room->at, .left = room->left }, own, own_after;
        struct view v;
        int rc = look(r, fd, &v);

        if (rc == 0)
                rc = measure(r, &v, &own);
        if (rc == 0)
                rc = peek_own(fd, own.pos, &w);
        if (rc == 0)
                rc = copy_rest(&v, &w);
        if (rc == 0)
                rc = measure(r, &v, &own_after);
        if (rc == 0 && (own.seen != own_after.seen || own.pos != own_after.pos))
                rc = -EAGAIN;
        if (rc == 0)
                rc = look_again(r, fd, &v);
        if (rc < 0)
                return rc;
        q->state = (uint8_t)merge_states(q->state, state_of(&v));
        q->in = room->at;
        q->msg.inq_seq = seq_of(&v, MPTCP_RCV_NXT);
        q->msg.inq_len = (uint32_t)(w.at - room->at);
        q->msg.has_rcv_wnd = q->msg.has_rcv_wup = true;
        q->msg.rcv_wnd = seq_of(&v, MPTCP_RCV_WND);
        q->msg.rcv_wup = seq_of(&v, MPTCP_RCV_WUP);
        *room = (struct tcp_room){ w.at, w.left };
        return 0;
}

/* ---- the interface ---- */

/* Where things change while they are read, what is seen may make no sense. */
static int try_often(int (*fn)(const struct mptcp_reader *r, int fd, struct tcp_queues *q,
                               struct tcp_room *room),
                     const struct mptcp_reader *r, int fd, struct tcp_queues *q, struct tcp_room *room) {
        const struct timespec pause = { .tv_nsec = 1000000 };
        int rc = fn(r, fd, q, room);

        for (int i = 0; (rc == -EAGAIN || rc == -ENODATA) && i < TRIES; i++) {
                nanosleep(&pause, NULL);
                rc = fn(r, fd, q, room);
        }
        return rc;
}

int mptcp_read_sent(const struct mptcp_reader *r, int fd, struct tcp_queues *q, struct tcp_room *room) {
        return try_often(try_sent, r, fd, q, room);
}

int mptcp_read_received(const struct mptcp_reader *r, int fd, struct tcp_queues *q, struct tcp_room *room) {
        return try_often(try_received, r, fd, q, room);
}

/* Those that are read as numbers, and of which structure. */
static bool fits(const struct mptcp_reader *r, const enum mptcp_member *members, size_t n, size_t size) {
        for (size_t i = 0; i < n; i++) {
                const struct btf_place *p = &r->places[members[i]];

                if ((size_t)p->offset + p->size > size)
                        return false;
        }
        return size > 0 && size <= STRUCT_MAX;
}

/* The only one that a kernel may lack, and those that are no numbers. */
static bool is_known(const struct mptcp_reader *r, enum mptcp_member m) {
        static const enum mptcp_member whole[] = { MPTCP_COMMON,    MPTCP_RECEIVE_QUEUE, MPTCP_WRITE_QUEUE,
                                                   MPTCP_SENT_TREE, MPTCP_RX_OPT,        MPTCP_M_QUEUE,
                                                   MPTCP_FRAG_LIST, MPTCP_SKB_NODE,      MPTCP_SKB_CB };
        const struct btf_place *p = &r->places[m];
        bool is_whole = false;

        for (size_t i = 0; i < ELEMENTSOF(whole); i++)
                is_whole |= whole[i] == m;
        if (m == MPTCP_M_BACKLOG && p->offset < 0)
                return true;
        return p->offset >= 0 && (is_whole || (p->size > 0 && p->size <= sizeof(uint64_t)));
}

int mptcp_reader_open(struct mptcp_reader *r) {
        static const struct btf_wanted wanted[] = {
#define MPTCP_MEMBER(name, type, member) [MPTCP_##name] = { #type, #member },
#include "sock/mptcp.def"
#undef MPTCP_MEMBER
        };
        int rc = bpf_load(r->bpf);

        if (rc == 0)
                rc = bpf_find_offsets(r->bpf, wanted, ELEMENTSOF(wanted), r->places);
        if (rc < 0)
                return rc;
        r->tcp_size = bpf_type_size(r->bpf, "tcp_sock");
        r->mptcp_size = bpf_type_size(r->bpf, "mptcp_sock");
        for (size_t i = 0; i < MPTCP_MEMBER_MAX; i++)
                if (!is_known(r, (enum mptcp_member)i))
                        return -ENODATA;
        if ((size_t)r->places[MPTCP_COMMON].offset + (size_t)r->places[MPTCP_STATE].offset >= r->tcp_size ||
            (size_t)r->places[MPTCP_RX_OPT].offset + (size_t)r->places[MPTCP_MSS_CLAMP].offset +
                            sizeof(uint64_t) >
                    r->tcp_size ||
            !fits(r, of_tcp, ELEMENTSOF(of_tcp), r->tcp_size) ||
            !fits(r, of_mptcp, ELEMENTSOF(of_mptcp), r->mptcp_size))
                return -ENODATA;
        return peek_pages_find(r->peek, &r->pages);
}
