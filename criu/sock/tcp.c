/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/tcp.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "cleanup.h"
#include "macro.h"
#include "sock/uapi.h"
#include "sock/urgent.h"

enum {
        TRIES = 16,
        STATE_WAIT_MS = 2000,
        MAXSEG_MIN = 88, /* what TCP_MAXSEG takes */
        MAXSEG_MAX = 32767,
};

static const char *const state_names[] = {
        [TCP_ESTABLISHED] = "ESTABLISHED",
        [TCP_SYN_SENT] = "SYN_SENT",
        [TCP_SYN_RECV] = "SYN_RECV",
        [TCP_FIN_WAIT1] = "FIN_WAIT1",
        [TCP_FIN_WAIT2] = "FIN_WAIT2",
        [TCP_TIME_WAIT] = "TIME_WAIT",
        [TCP_CLOSE] = "CLOSE",
        [TCP_CLOSE_WAIT] = "CLOSE_WAIT",
        [TCP_LAST_ACK] = "LAST_ACK",
        [TCP_LISTEN] = "LISTEN",
        [TCP_CLOSING] = "CLOSING",
};

int tcp_state(int fd) {
        struct tcp_info info = { 0 };
        socklen_t len = sizeof(info);

        return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ? -errno : info.tcpi_state;
}

const char *tcp_state_name(unsigned int state) {
        return state < ELEMENTSOF(state_names) && state_names[state] ? state_names[state] : "?";
}

bool tcp_fin_sent(unsigned int state) {
        return state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING ||
               state == TCP_LAST_ACK;
}

bool tcp_fin_acked(unsigned int state) {
        return state == TCP_FIN_WAIT2;
}

bool tcp_fin_received(unsigned int state) {
        return state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING;
}

bool tcp_is_connection(unsigned int state) {
        return state == TCP_ESTABLISHED || state == TCP_SYN_SENT || tcp_fin_sent(state) ||
               tcp_fin_received(state);
}

int tcp_repair(int fd, int how) {
        uint32_t none = TCP_NO_QUEUE;

        /* It would stay, and be seen in getsockopt(2). */
        if (how != TCP_REPAIR_ON)
                setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &none, sizeof(none));
        return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &how, sizeof(how)) < 0 ? -errno : 0;
}

static int get_int(int fd, int name, uint32_t *ret) {
        socklen_t len = sizeof(*ret);

        return getsockopt(fd, IPPROTO_TCP, name, ret, &len) < 0 ? -errno : 0;
}

static int set_int(int fd, int name, uint32_t value) {
        return setsockopt(fd, IPPROTO_TCP, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_seq(int fd, int queue, uint32_t seq) {
        int r = set_int(fd, TCP_REPAIR_QUEUE, (uint32_t)queue);

        return r < 0 ? r : set_int(fd, TCP_QUEUE_SEQ, seq);
}

static int get_window(int fd, struct tcp_repair_window *ret) {
        socklen_t len = sizeof(*ret);

        return getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, ret, &len) < 0 ? -errno : 0;
}

/* a - b, as numbers on a circle. */
static int32_t distance(uint32_t a, uint32_t b) {
        return (int32_t)(a - b);
}

/* ---- dump ---- */

/*
 * Programs get errors from a socket in repair mode, and ckpt may be killed at any moment, which lets them go on. So what
 * can be asked without is asked without (the queue that was chosen stays chosen; nothing but TCP_QUEUE_SEQ shows it), and where data is copied, which takes
 * long and has the socket locked, the end of the repair is the very next thing.
 */
static int begin_repair(int fd, uint32_t queue) {
        const int on = TCP_REPAIR_ON;
        int r = setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) < 0 ? -errno : 0;

        return r < 0 ? r : set_int(fd, TCP_REPAIR_QUEUE, queue);
}

/* It has set and cleared SO_REUSEADDR. */
static int end_repair(int fd, bool reuse) {
        const int off = TCP_REPAIR_OFF_NO_WP, value = reuse;
        int r = setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)) < 0 ? -errno : 0;

        return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof(value)) < 0 && r == 0 ? -errno : r;
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
                r = get_int(fd, TCP_TIMESTAMP, &msg->timestamp);
                msg->has_timestamp = true;
        }
        return r;
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
        r = get_int(fd, TCP_QUEUE_SEQ, &ret->seq);
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

static int sent_in_repair(int fd, struct tcp_queues *q, const struct tcp_room *room, struct sent *s) {
        struct tcp_repair_window window = { 0 };
        int r;

        r = get_int(fd, TCP_MAXSEG, &q->msg.mss_clamp);
        if (r == 0)
                r = get_window(fd, &window);
        if (r == 0)
                r = look_at_sent(fd, s);
        if (r < 0)
                return r;
        if ((uint32_t)s->total < fin_in_queue(s) || s->unsent > s->total)
                return -EAGAIN;
        q->msg.has_snd_wl1 = q->msg.has_snd_wnd = q->msg.has_max_window = true;
        q->msg.snd_wl1 = window.snd_wl1;
        q->msg.snd_wnd = window.snd_wnd;
        q->msg.max_window = window.max_window;
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

int tcp_read_sent(int fd, bool reuse, struct tcp_queues *q, struct tcp_room *room) {
        int r = -EAGAIN;

        img__tcp_stream__init(&q->msg);
        q->peek_off = -1;
        for (int i = 0; r == -EAGAIN && i < TRIES; i++)
                r = try_sent(fd, reuse, q, room);
        return r;
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
        r = get_int(fd, TCP_QUEUE_SEQ, &seq);
        if (r == 0 && state != TCP_SYN_SENT && ioctl(fd, SIOCINQ, &size) < 0)
                r = -errno;
        if (r < 0)
                return r;
        n = urgent_peek(fd, size, room, &urgent);
        if (n < 0)
                return (int)n;
        r = get_int(fd, TCP_QUEUE_SEQ, &after);
        if (r < 0)
                return r;
        if (after != seq || tcp_state(fd) != state)
                return -EAGAIN;
        q->in = room->at;
        use_room(room, room->at + n);
        q->state = (uint8_t)state;
        q->msg.inq_seq = seq;
        q->msg.inq_len = (uint32_t)n;
        q->msg.has_urgent_at = urgent.marked;
        q->msg.urgent_at = urgent.at;
        q->msg.has_urgent_read = q->msg.urgent_read = urgent.read;
        return 0;
}

/* Also leaves the receive queue chosen. */
static int read_receive_window(int fd, bool reuse, Img__TcpStream *msg) {
        struct tcp_repair_window window = { 0 };
        int r, ended;

        r = begin_repair(fd, TCP_RECV_QUEUE);
        if (r == 0)
                r = get_window(fd, &window);
        ended = end_repair(fd, reuse);
        if (r < 0 || ended < 0)
                return r < 0 ? r : ended;
        msg->has_rcv_wnd = msg->has_rcv_wup = true;
        msg->rcv_wnd = window.rcv_wnd;
        msg->rcv_wup = window.rcv_wup;
        return 0;
}

/*
 * What the sending half has seen stays true: a FIN whose acknowledgement came in between is sent again, and is
 * acknowledged again.
 */
int tcp_read_received(int fd, bool reuse, struct tcp_queues *q, struct tcp_room *room) {
        int before = q->state, none = -1, r, done = 0;
        socklen_t len = sizeof(q->peek_off);

        /* With it, MSG_PEEK would begin elsewhere and move it. */
        if (getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &q->peek_off, &len) < 0)
                q->peek_off = -1;
        if (q->peek_off >= 0 && setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof(none)) < 0)
                return -errno;
        r = read_receive_window(fd, reuse, &q->msg);
        if (r == 0)
                r = -EAGAIN;
        for (int i = 0; r == -EAGAIN && i < TRIES; i++)
                r = try_received(fd, q, room);
        if (q->peek_off >= 0 &&
            setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &q->peek_off, sizeof(q->peek_off)) < 0)
                done = -errno;
        if (r == 0 && before == TCP_FIN_WAIT1 && q->state == TCP_FIN_WAIT2)
                q->state = TCP_FIN_WAIT1;
        if (r == 0 && before == TCP_SYN_SENT && q->state != TCP_SYN_SENT && q->state != TCP_CLOSE)
                r = -EAGAIN; /* connected in between */
        return r < 0 ? r : done;
}

void tcp_match_peer(struct tcp_queues *q, const struct tcp_queues *peer) {
        uint32_t end = q->msg.outq_seq - tcp_fin_sent(q->state);
        uint32_t has = peer->msg.inq_seq - tcp_fin_received(peer->state);
        int32_t missing = distance(end, has);

        if (q->state == TCP_CLOSE || peer->state == TCP_CLOSE)
                return;
        if (missing >= 0 && (uint32_t)missing < q->msg.unsq_len)
                q->msg.unsq_len = (uint32_t)missing;
}

/* ---- restore ---- */

const char *tcp_stream_check(const Img__TcpStream *msg, unsigned int state) {
        if (!tcp_is_connection(state) && state != TCP_CLOSE)
                return "is in an impossible state";
        if (msg->outq_len > INT32_MAX / 2 || msg->inq_len > INT32_MAX / 2)
                return "has a queue of an impossible length";
        if (msg->has_unsq_len && msg->unsq_len > msg->outq_len)
                return "has more unsent bytes than bytes to send";
        if (msg->opt_mask & TCP_OPT_WSCALE &&
            (msg->snd_wscale > TCP_WSCALE_MAX || (msg->has_rcv_wscale && msg->rcv_wscale > TCP_WSCALE_MAX)))
                return "has an impossible window scale";
        if (tcp_fin_acked(state) && msg->outq_len > 0)
                return "has bytes to send after its FIN was acknowledged";
        if (msg->has_urgent_at && msg->urgent_at >= msg->inq_len)
                return "has urgent data beyond its end";
        if (state == TCP_SYN_SENT && (msg->inq_len > 0 || msg->outq_len > 0))
                return "has data before it is connected";
        return NULL;
}

/* Without a negotiated window scale it must be said all the same, with 0: the socket would keep one of its own. */
static int set_options(int fd, const Img__TcpStream *msg) {
        struct tcp_repair_opt opts[4];
        bool scale = msg->opt_mask & TCP_OPT_WSCALE;
        size_t n = 0;

        opts[n++] = (struct tcp_repair_opt){ TCPOPT_MAXSEG, msg->mss_clamp };
        opts[n++] = (struct tcp_repair_opt){ TCPOPT_WINDOW,
                                             scale ? msg->snd_wscale | msg->rcv_wscale << 16 : 0 };
        if (msg->opt_mask & TCP_OPT_SACK)
                opts[n++] = (struct tcp_repair_opt){ TCPOPT_SACK_PERMITTED, 0 };
        if (msg->opt_mask & TCP_OPT_TIMESTAMPS)
                opts[n++] = (struct tcp_repair_opt){ TCPOPT_TIMESTAMP, 0 };
        return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, opts, (socklen_t)(n * sizeof(*opts))) < 0
                       ? -errno
                       : 0;
}

/*
 * From 6.7 on bit 0 says that the clock counts microseconds; before, it was a bit of the value, which must not
 * switch them on.
 */
static int set_timestamp(int fd, const Img__TcpStream *msg, const char *what, struct ckpt_error *err) {
        bool usec = msg->opt_mask & TCP_OPT_USEC_TS;
        uint32_t now = 0;
        int r;

        if (!(msg->opt_mask & TCP_OPT_TIMESTAMPS) || !msg->has_timestamp)
                return 0;
        r = set_int(fd, TCP_TIMESTAMP, usec ? msg->timestamp | 1 : msg->timestamp & ~1U);
        if (r == 0)
                r = get_int(fd, TCP_TIMESTAMP, &now);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot set its timestamp", what);
        if (usec && !(now & 1))
                return ckpt_error(
                        err, -EOPNOTSUPP,
                        "%s uses timestamps in microseconds, which this kernel cannot restore (Linux 6.7 can)",
                        what);
        return 0;
}

/*
 * The kernel computes its segment size at connect(2), from this option, as TCP_REPAIR_OPTIONS comes too late for it.
 * What the option cannot say (loopback devices) is brought in by others that make it compute again.
 */
static int connect_sized(int fd, const Img__TcpStream *msg, const struct sockaddr *peer, socklen_t len) {
        uint32_t mss = MIN(msg->mss_clamp, (uint32_t)MAXSEG_MAX);

        if (mss >= MAXSEG_MIN && set_int(fd, TCP_MAXSEG, mss) < 0)
                return -errno;
        if (connect(fd, peer, len) < 0)
                return -errno;
        return set_int(fd, TCP_MAXSEG, 0);
}

static void compute_size_again(int fd, const Img__TcpStream *msg) {
        uint8_t options[40];
        socklen_t len = sizeof(options);

        /* Nor may a segment be larger than half of the largest window: it would wait for one that never comes. */
        if (msg->mss_clamp <= MAXSEG_MAX && (!msg->has_max_window || msg->mss_clamp <= msg->max_window / 2))
                return;
        if (getsockopt(fd, IPPROTO_IP, IP_OPTIONS, options, &len) == 0)
                setsockopt(fd, IPPROTO_IP, IP_OPTIONS, options, len);
        setsockopt(fd, IPPROTO_IPV6, IPV6_RTHDR, "", 0); /* none, as before */
}

int tcp_rebuild_connect(int fd, const Img__TcpStream *msg, unsigned int state, const struct sockaddr *peer,
                        socklen_t len, const char *what, struct ckpt_error *err) {
        int r;

        r = set_seq(fd, TCP_SEND_QUEUE, msg->outq_seq - tcp_fin_sent(state) - msg->outq_len);
        if (r == 0)
                r = set_seq(fd, TCP_RECV_QUEUE, msg->inq_seq - tcp_fin_received(state) - msg->inq_len);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot set its sequence numbers", what);
        r = connect_sized(fd, msg, peer, len);
        if (r < 0) {
                r = ckpt_error_errno(err, r, "%s: cannot be connected again", what);
                if (r == -EADDRNOTAVAIL)
                        ckpt_error_hint(
                                err,
                                "The same connection exists on this machine: end the program that has it");
                return r;
        }
        r = set_options(fd, msg);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot set what was negotiated", what);
        compute_size_again(fd, msg);
        return set_timestamp(fd, msg, what, err);
}

static int send_all(int fd, const uint8_t *data, size_t size) {
        while (size > 0) {
                ssize_t n = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                data += n;
                size -= (size_t)n;
        }
        return 0;
}

static int set_window(int fd, const Img__TcpStream *msg, uint32_t rcv_nxt) {
        struct tcp_repair_window window = {
                .snd_wl1 = msg->snd_wl1,
                .snd_wnd = msg->snd_wnd,
                .max_window = msg->max_window > msg->snd_wnd ? msg->max_window : msg->snd_wnd,
                .rcv_wnd = msg->rcv_wnd,
                .rcv_wup = msg->rcv_wup,
        };
        int32_t fin = distance(window.rcv_wup, rcv_nxt);

        if (!msg->has_snd_wl1 || !msg->has_rcv_wup)
                return 0;
        /* The FIN that was acknowledged is yet to come. */
        if (fin == 1) {
                window.rcv_wup--;
                window.rcv_wnd++;
        }
        return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof(window)) < 0 ? -errno : 0;
}

/* The urgent byte comes as a packet; what is before and behind it is put in. */
static int fill_received(int fd, const Img__TcpStream *msg, unsigned int state, const uint8_t *in,
                         const struct sock_tuple *tuple, struct packet_sender *sender, const char *what,
                         struct ckpt_error *err) {
        uint32_t first = msg->has_urgent_at ? msg->urgent_at : msg->inq_len, done = first;
        uint32_t seq = msg->inq_seq - tcp_fin_received(state) - msg->inq_len;
        uint32_t acked = msg->outq_seq - tcp_fin_sent(state) - msg->outq_len;
        int r;

        r = set_int(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
        if (r == 0)
                r = send_all(fd, in, first);
        if (r == 0 && msg->has_urgent_at) {
                r = urgent_receive(fd, in[first], msg->has_urgent_read && msg->urgent_read, seq + first,
                                   acked, tuple, sender, what, err);
                if (r < 0)
                        return r;
                done++;
        }
        if (r == 0)
                r = send_all(fd, in + done, msg->inq_len - done);
        return r < 0 ? ckpt_error_errno(err, r, "%s: cannot fill its receive queue", what) : 0;
}

int tcp_rebuild_received(int fd, const Img__TcpStream *msg, unsigned int state, const uint8_t *in,
                         const struct sock_tuple *tuple, struct packet_sender *sender, const char *what,
                         struct ckpt_error *err) {
        int r;

        r = fill_received(fd, msg, state, in, tuple, sender, what, err);
        if (r < 0)
                return r;
        r = set_window(fd, msg, msg->inq_seq - tcp_fin_received(state));
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot set its windows", what);
        compute_size_again(fd, msg);
        return 0;
}

/* Its FIN is behind data that was not sent, so it was not either. */
static bool fin_waits(const Img__TcpStream *msg, unsigned int state) {
        return tcp_fin_sent(state) && msg->unsq_len > 0;
}

int tcp_rebuild_sent(int fd, const Img__TcpStream *msg, unsigned int state __attribute__((unused)),
                     const uint8_t *out, const char *what, struct ckpt_error *err) {
        int r;

        r = set_int(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
        if (r == 0)
                r = send_all(fd, out, msg->outq_len - msg->unsq_len);
        return r < 0 ? ckpt_error_errno(err, r, "%s: cannot fill its send queue", what) : 0;
}

/* The packet goes through the loopback device, perhaps by way of another thread of the kernel. */
static int await_state(int fd, unsigned int state, const char *what, struct ckpt_error *err) {
        const struct timespec pause = { .tv_nsec = 100000 };
        int now = tcp_state(fd);

        for (int i = 0; now >= 0 && (unsigned int)now != state && i < STATE_WAIT_MS * 10; i++) {
                nanosleep(&pause, NULL);
                now = tcp_state(fd);
        }
        if (now < 0 || (unsigned int)now != state)
                return ckpt_error(err, -EIO, "%s: cannot be brought to the state %s again; it is %s", what,
                                  tcp_state_name(state), tcp_state_name(now < 0 ? 0 : (unsigned int)now));
        return 0;
}

static struct sock_tuple from_peer(const struct sock_tuple *t) {
        struct sock_tuple peer = { .v6 = t->v6, .src_port = t->dst_port, .dst_port = t->src_port };

        memcpy(peer.src, t->dst, sizeof(peer.src));
        memcpy(peer.dst, t->src, sizeof(peer.dst));
        return peer;
}

static uint16_t scaled(uint32_t window, uint32_t scale, bool has_scale) {
        return (uint16_t)MIN(has_scale ? window >> scale : window, 0xffffU);
}

/* shutdown(2) with the send queue under repair: the FIN counts as sent. */
static int send_fin(int fd, const char *what, struct ckpt_error *err) {
        int r = set_int(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);

        if (r == 0 && shutdown(fd, SHUT_WR) < 0)
                r = -errno;
        return r < 0 ? ckpt_error_errno(err, r, "%s: cannot close its sending half", what) : 0;
}

int tcp_rebuild_closing(int fd, const Img__TcpStream *msg, unsigned int state,
                        const struct sock_tuple *tuple, struct packet_sender *sender, const char *what,
                        struct ckpt_error *err) {
        uint16_t window = scaled(msg->snd_wnd, msg->snd_wscale, msg->opt_mask & TCP_OPT_WSCALE);
        uint32_t rcv_nxt = msg->inq_seq - tcp_fin_received(state);
        uint32_t acked = msg->outq_seq - tcp_fin_sent(state) - msg->outq_len;
        struct sock_tuple peer = from_peer(tuple);
        int r = 0;

        /* Data that waits comes before our FIN; see tcp_rebuild_finish(). */
        if (state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING)
                r = fin_waits(msg, state) ? 0 : send_fin(fd, what, err);
        if (r == 0 && state == TCP_FIN_WAIT2) {
                r = packet_send(sender, &peer, rcv_nxt, msg->outq_seq, window, PACKET_ACK, err);
                if (r == 0)
                        r = await_state(fd, TCP_FIN_WAIT2, what, err);
        }
        if (r == 0 && tcp_fin_received(state)) {
                r = packet_send(sender, &peer, rcv_nxt, acked, window, PACKET_FIN | PACKET_ACK, err);
                if (r == 0)
                        r = await_state(fd,
                                        state == TCP_CLOSING && !fin_waits(msg, state) ? TCP_CLOSING
                                                                                       : TCP_CLOSE_WAIT,
                                        what, err);
        }
        if (r == 0 && state == TCP_LAST_ACK && !fin_waits(msg, state))
                r = send_fin(fd, what, err);
        return r;
}

int tcp_rebuild_closed(int fd, const struct sock_tuple *tuple, uint32_t rcv_nxt, bool reset,
                       struct packet_sender *sender, const char *what, struct ckpt_error *err) {
        struct sock_tuple peer = from_peer(tuple);
        int r, error;
        socklen_t len = sizeof(error);

        r = packet_send(sender, &peer, rcv_nxt, 0, 0, PACKET_RST, err);
        if (r == 0)
                r = await_state(fd, TCP_CLOSE, what, err);
        if (r == 0 && !reset && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
                r = ckpt_error_errno(err, -errno, "%s: cannot be closed again", what);
        return r;
}

/* A peer that has gone since the dump answers our first word with a RST: that is for the program to learn. */
static bool is_gone(int fd) {
        return tcp_state(fd) == TCP_CLOSE;
}

int tcp_rebuild_finish(int fd, const Img__TcpStream *msg, unsigned int state, const uint8_t *out,
                       const char *what, struct ckpt_error *err) {
        int r = tcp_repair(fd, TCP_REPAIR_OFF);

        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot end its repair", what);
        if (is_gone(fd))
                return 0; /* before a send of ours takes the error away */
        r = send_all(fd, out + (msg->outq_len - msg->unsq_len), msg->unsq_len);
        if (r < 0 && !is_gone(fd))
                return ckpt_error_errno(err, r, "%s: cannot fill its send queue", what);
        if (r == 0 && fin_waits(msg, state) && shutdown(fd, SHUT_WR) < 0 && !is_gone(fd))
                return ckpt_error_errno(err, -ENOTCONN, "%s: cannot close its sending half", what);
        return 0;
}

int tcp_speak_first(const Img__TcpStream *msg, unsigned int state, const struct sock_tuple *tuple,
                    struct packet_sender *sender, struct ckpt_error *err) {
        int32_t left = distance(msg->rcv_wup + msg->rcv_wnd, msg->inq_seq);
        uint16_t window = scaled((uint32_t)MAX(left, 0), msg->rcv_wscale, msg->opt_mask & TCP_OPT_WSCALE);

        if (state == TCP_SYN_SENT || !msg->has_rcv_wnd)
                return 0;
        return packet_send(sender, tuple, msg->outq_seq - fin_waits(msg, state) - msg->unsq_len,
                           msg->inq_seq, window, PACKET_ACK, err);
}
