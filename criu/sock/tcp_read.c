/* SPDX-License-Identifier: GPL-2.0-only */
/* The state of TCP connections, read from sockets that programs will go on with. */
#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "lib/fault.h"
#include "macro.h"
#include "sock/tcp.h"
#include "sock/tcp_option.h"
#include "sock/urgent.h"

enum { TRIES = 16 };

/*
 * Programs get errors from a socket in repair mode, and ckpt may be killed at any moment, which lets them go on. So what
 * can be asked without is asked without (the queue that was chosen stays chosen; nothing but TCP_QUEUE_SEQ shows it), and where data is copied, which takes
 * long and has the socket locked, the end of the repair is the very next thing.
 */
static int begin_repair(int fd, uint32_t queue) {
        const int on = TCP_REPAIR_ON;
        int r = setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) < 0 ? -errno : 0;

        if (r == 0)
                r = fault_point(FAULT_DUMP_SOCKET_EACH);
        return r < 0 ? r : tcp_set_number(fd, TCP_REPAIR_QUEUE, queue);
}

/* It has set and cleared SO_REUSEADDR. */
static int end_repair(int fd, bool reuse) {
        const int off = TCP_REPAIR_OFF_NO_WP, value = 1;
        int r = setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)) < 0 ? -errno : 0;

        if (reuse && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof(value)) < 0 && r == 0)
                r = -errno;
        return r;
}

static int read_info(int fd, struct tcp_info *ret) {
        socklen_t len = sizeof(*ret);

        return getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret, &len) < 0 ? -errno : 0;
}

static int read_options(int fd, const struct tcp_info *info, Img__TcpStream *msg) {
        int r = 0;

        msg->opt_mask = info->tcpi_options;
        if (msg->opt_mask & TCP_OPT_WSCALE) {
                msg->snd_wscale = info->tcpi_snd_wscale;
                msg->rcv_wscale = info->tcpi_rcv_wscale;
        }
        msg->has_rcv_wscale = (msg->opt_mask & TCP_OPT_WSCALE) != 0;
        if (msg->opt_mask & TCP_OPT_TIMESTAMPS) {
                r = tcp_get_number(fd, TCP_TIMESTAMP, &msg->timestamp);
                msg->has_timestamp = true;
        }
        return r;
}

int tcp_read_options(int fd, Img__TcpStream *msg) {
        struct tcp_info info;
        int r = read_info(fd, &info);

        return r < 0 ? r : read_options(fd, &info, msg);
}

struct sent {
        struct tcp_info info;
        uint32_t seq;
        int state, total, unsent; /* bytes, the FIN included */
};

/* The send queue is chosen. */
static int look_at_sent(int fd, struct sent *ret) {
        int r;

        r = read_info(fd, &ret->info);
        if (r < 0)
                return r;
        ret->state = ret->info.tcpi_state;
        r = tcp_get_number(fd, TCP_QUEUE_SEQ, &ret->seq);
        if (r < 0)
                return r;
        if (ioctl(fd, SIOCOUTQ, &ret->total) < 0 || ioctl(fd, SIOCOUTQNSD, &ret->unsent) < 0)
                return -errno;
        if (ret->state == TCP_SYN_SENT || ret->state == TCP_CLOSE)
                ret->total = ret->unsent = 0;
        return 0;
}

/* The first segment may be acknowledged in part and still be there as a whole, so take the end of what comes. */
static int peek_sent(int fd, uint32_t len, const struct tcp_room *room, uint8_t **ret) {
        ssize_t n;

        if (len == 0)
                return 0;
        if (room->left < (size_t)len + TCP_SEGMENT_MAX)
                return -ENOBUFS;
        n = recv(fd, room->at, (size_t)len + TCP_SEGMENT_MAX, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0)
                return -errno;
        if ((size_t)n < len)
                return -EAGAIN;
        *ret = room->at + ((size_t)n - len);
        return 0;
}

static void use_room(struct tcp_room *room, const uint8_t *end) {
        size_t used = (size_t)(end - room->at);

        room->at += used;
        room->left -= used;
}

static uint32_t fin_in_queue(const struct sent *s) {
        return tcp_fin_sent((unsigned int)s->state) && !tcp_fin_acked((unsigned int)s->state);
}

static void take_window(const struct tcp_repair_window *window, Img__TcpStream *msg) {
        msg->has_snd_wl1 = msg->has_snd_wnd = msg->has_max_window = true;
        msg->snd_wl1 = window->snd_wl1;
        msg->snd_wnd = window->snd_wnd;
        msg->max_window = window->max_window;
}

static void take_receive_window(const struct tcp_repair_window *window, Img__TcpStream *msg) {
        msg->has_rcv_wnd = msg->has_rcv_wup = true;
        msg->rcv_wnd = window->rcv_wnd;
        msg->rcv_wup = window->rcv_wup;
}

static int sent_in_repair(int fd, struct tcp_queues *q, const struct tcp_room *room, struct sent *s) {
        struct tcp_repair_window window = { 0 };
        int r;

        r = tcp_get_number(fd, TCP_MAXSEG, &q->msg.mss_clamp);
        if (r == 0)
                r = tcp_get_window(fd, &window);
        if (r == 0)
                r = look_at_sent(fd, s);
        if (r < 0)
                return r;
        if ((uint32_t)s->total < fin_in_queue(s) || s->unsent > s->total)
                return -EAGAIN;
        take_window(&window, &q->msg);
        q->out = NULL;
        return peek_sent(fd, (uint32_t)s->total - fin_in_queue(s), room, &q->out);
}

static int try_sent(int fd, bool reuse, struct tcp_queues *q, struct tcp_room *room) {
        struct sent before = { 0 }, after = { 0 };
        uint32_t fin;
        int r, ended;

        r = begin_repair(fd, TCP_SEND_QUEUE);
        if (r == 0)
                r = sent_in_repair(fd, q, room, &before);
        ended = end_repair(fd, reuse);
        if (r == 0)
                r = ended < 0 ? ended : look_at_sent(fd, &after);
        if (r < 0)
                return r;
        if (after.seq != before.seq || after.total != before.total || after.state != before.state)
                return -EAGAIN;
        fin = fin_in_queue(&before);
        q->state = (uint8_t)before.state;
        q->msg.outq_seq = before.seq;
        q->msg.outq_len = (uint32_t)before.total - fin;
        q->msg.has_unsq_len = true;
        /* The FIN is the last that is unsent. */
        q->msg.unsq_len = (uint32_t)before.unsent > fin ? (uint32_t)before.unsent - fin : 0;
        if (q->out)
                use_room(room, q->out + q->msg.outq_len);
        return q->state == TCP_CLOSE ? 0 : read_options(fd, &after.info, &q->msg);
}

int tcp_read_sent(int fd, const struct tcp_kept *kept, struct tcp_queues *q, struct tcp_room *room) {
        int r = -EAGAIN;

        img__tcp_stream__init(&q->msg);
        for (int i = 0; r == -EAGAIN && i < TRIES; i++)
                r = try_sent(fd, kept->reuse, q, room);
        return r;
}

static void take_received(uint32_t seq, size_t n, const struct urgent *urgent, struct tcp_queues *q,
                          struct tcp_room *room) {
        q->in = room->at;
        use_room(room, room->at + n);
        q->msg.inq_seq = seq;
        q->msg.inq_len = (uint32_t)n;
        q->msg.has_urgent_at = urgent->marked;
        q->msg.urgent_at = urgent->at;
        q->msg.has_urgent_read = q->msg.urgent_read = urgent->read;
}

/* The receive queue is chosen. */
static int try_received(int fd, struct tcp_queues *q, struct tcp_room *room) {
        uint32_t seq = 0, after = 0;
        int size = 0, state, r;
        struct urgent urgent;
        ssize_t n;

        state = tcp_state(fd);
        if (state < 0)
                return state;
        r = tcp_get_number(fd, TCP_QUEUE_SEQ, &seq);
        if (r == 0 && state != TCP_SYN_SENT && ioctl(fd, SIOCINQ, &size) < 0)
                r = -errno;
        if (r < 0)
                return r;
        n = urgent_peek(fd, size, room, &urgent);
        if (n < 0)
                return (int)n;
        r = tcp_get_number(fd, TCP_QUEUE_SEQ, &after);
        if (r < 0)
                return r;
        if (after != seq || tcp_state(fd) != state)
                return -EAGAIN;
        q->state = (uint8_t)state;
        take_received(seq, (size_t)n, &urgent, q, room);
        return 0;
}

/* Also leaves the receive queue chosen. */
static int read_receive_window(int fd, bool reuse, Img__TcpStream *msg) {
        struct tcp_repair_window window = { 0 };
        int r, ended;

        r = begin_repair(fd, TCP_RECV_QUEUE);
        if (r == 0)
                r = tcp_get_window(fd, &window);
        ended = end_repair(fd, reuse);
        if (r < 0 || ended < 0)
                return r < 0 ? r : ended;
        take_receive_window(&window, msg);
        return 0;
}

/* With it, MSG_PEEK would begin elsewhere and move it. */
static int set_peek_off(int fd, const struct tcp_kept *kept, int value) {
        if (kept->peek_off < 0)
                return 0;
        return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, sizeof(value)) < 0 ? -errno : 0;
}

/*
 * What the sending half has seen stays true: a FIN whose acknowledgement came in between is sent again, and is
 * acknowledged again.
 */
int tcp_read_received(int fd, const struct tcp_kept *kept, struct tcp_queues *q, struct tcp_room *room) {
        int before = q->state, r, done;

        r = set_peek_off(fd, kept, -1);
        if (r < 0)
                return r;
        r = read_receive_window(fd, kept->reuse, &q->msg);
        if (r == 0)
                r = -EAGAIN;
        for (int i = 0; r == -EAGAIN && i < TRIES; i++)
                r = try_received(fd, q, room);
        done = set_peek_off(fd, kept, kept->peek_off);
        if (r == 0 && before == TCP_FIN_WAIT1 && q->state == TCP_FIN_WAIT2)
                q->state = TCP_FIN_WAIT1;
        if (r == 0 && before == TCP_SYN_SENT && q->state != TCP_SYN_SENT && q->state != TCP_CLOSE)
                r = -EAGAIN; /* connected in between */
        return r < 0 ? r : done;
}

/* ---- a quiet connection ---- */

struct quiet {
        uint32_t received; /* the sequence number of the receive queue */
        struct tcp_repair_window window;
};

/* The receive queue is chosen. Where the send queue was empty, it still is: tcp_was_quiet(). */
static int quiet_in_repair(int fd, const struct tcp_told *told, struct tcp_queues *q,
                           const struct tcp_room *room, struct quiet *ret) {
        int r, total = 0, unsent = 0;

        r = tcp_get_number(fd, TCP_QUEUE_SEQ, &ret->received);
        if (r == 0)
                r = tcp_get_number(fd, TCP_MAXSEG, &q->msg.mss_clamp);
        if (r == 0)
                r = tcp_get_window(fd, &ret->window);
        if (r == 0)
                r = tcp_set_number(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
        if (r == 0)
                r = tcp_get_number(fd, TCP_QUEUE_SEQ, &q->msg.outq_seq);
        if (r < 0 || told->wqueue == 0)
                return r;
        if (ioctl(fd, SIOCOUTQ, &total) < 0 || ioctl(fd, SIOCOUTQNSD, &unsent) < 0)
                return -errno;
        if (total < 0 || unsent < 0 || unsent > total)
                return -EAGAIN;
        q->msg.outq_len = (uint32_t)total;
        q->msg.unsq_len = (uint32_t)unsent;
        return peek_sent(fd, q->msg.outq_len, room, &q->out);
}

int tcp_read_quiet(int fd, const struct tcp_kept *kept, const struct tcp_told *told, struct tcp_queues *q,
                   struct tcp_room *room) {
        struct urgent urgent;
        struct quiet quiet;
        int r, ended, size = 0;
        ssize_t n = 0;

        if (!told->known)
                return -EAGAIN;
        *q = (struct tcp_queues){ .msg = IMG__TCP_STREAM__INIT, .state = TCP_ESTABLISHED };
        r = begin_repair(fd, TCP_RECV_QUEUE);
        if (r == 0)
                r = quiet_in_repair(fd, told, q, room, &quiet);
        ended = end_repair(fd, kept->reuse);
        if (r == 0)
                r = ended;
        if (r == 0)
                r = set_peek_off(fd, kept, -1);
        if (r < 0)
                return r;
        q->msg.has_unsq_len = true;
        take_window(&quiet.window, &q->msg);
        take_receive_window(&quiet.window, &q->msg);
        if (q->out)
                use_room(room, q->out + q->msg.outq_len);
        if (ioctl(fd, SIOCINQ, &size) < 0)
                n = -errno;
        if (n == 0)
                n = urgent_peek(fd, size, room, &urgent);
        r = set_peek_off(fd, kept, kept->peek_off);
        if (n < 0 || r < 0)
                return n < 0 ? (int)n : r;
        take_received(quiet.received, (size_t)n, &urgent, q, room);
        return 0;
}

int tcp_was_quiet(int fd, const struct tcp_told *told, struct tcp_queues *q) {
        struct tcp_info_long info = { 0 };
        socklen_t len = sizeof(info);

        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
                return -errno;
        if (len < sizeof(info) || info.head.tcpi_state != TCP_ESTABLISHED ||
            info.segs_in != told->segments_in || info.segs_out != told->segments_out ||
            (q->msg.outq_len == 0 && (info.head.tcpi_unacked != 0 || info.notsent_bytes != 0)))
                return -EAGAIN;
        return read_options(fd, &info.head, &q->msg);
}

void tcp_match_peer(struct tcp_queues *q, const struct tcp_queues *peer) {
        uint32_t end = q->msg.outq_seq - tcp_fin_sent(q->state);
        uint32_t has = peer->msg.inq_seq - tcp_fin_received(peer->state);
        int32_t missing = tcp_distance(end, has);

        if (q->state == TCP_CLOSE || peer->state == TCP_CLOSE)
                return;
        if (missing >= 0 && (uint32_t)missing < q->msg.unsq_len)
                q->msg.unsq_len = (uint32_t)missing;
}
