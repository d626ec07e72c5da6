/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/tcp.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "cleanup.h"
#include "macro.h"
#include "sock/tcp_option.h"
#include "sock/urgent.h"

enum {
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

static int set_seq(int fd, int queue, uint32_t seq) {
        int r = tcp_set_number(fd, TCP_REPAIR_QUEUE, (uint32_t)queue);

        return r < 0 ? r : tcp_set_number(fd, TCP_QUEUE_SEQ, seq);
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
        r = tcp_set_number(fd, TCP_TIMESTAMP, usec ? msg->timestamp | 1 : msg->timestamp & ~1U);
        if (r == 0)
                r = tcp_get_number(fd, TCP_TIMESTAMP, &now);
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

        if (mss >= MAXSEG_MIN && tcp_set_number(fd, TCP_MAXSEG, mss) < 0)
                return -errno;
        if (connect(fd, peer, len) < 0)
                return -errno;
        return tcp_set_number(fd, TCP_MAXSEG, 0);
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
        int32_t fin = tcp_distance(window.rcv_wup, rcv_nxt);

        if (!msg->has_snd_wl1 || !msg->has_rcv_wup)
                return 0;
        /* The FIN that was acknowledged is yet to come. */
        if (fin == 1) {
                window.rcv_wup--;
                window.rcv_wnd++;
        }
        /* What came last, beyond a window that was closed for lack of memory: not taken, and sent again. */
        if (tcp_distance(window.snd_wl1, rcv_nxt + window.rcv_wnd) > 0)
                window.snd_wl1 = rcv_nxt + window.rcv_wnd;
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

        r = tcp_set_number(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
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

        r = tcp_set_number(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
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
        int r = tcp_set_number(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);

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

int tcp_rebuild_closed(int fd, const struct sock_tuple *tuple, uint32_t rcv_nxt, enum tcp_end end,
                       struct packet_sender *sender, const char *what, struct ckpt_error *err) {
        struct sock_tuple peer = from_peer(tuple);
        int r = 0, error;
        socklen_t len = sizeof(error);

        if (end == TCP_END_FIN_RESET)
                r = packet_send(sender, &peer, rcv_nxt++, 0, UINT16_MAX, PACKET_FIN | PACKET_ACK, err);
        if (r == 0)
                r = packet_send(sender, &peer, rcv_nxt, 0, 0, PACKET_RST, err);
        if (r == 0)
                r = await_state(fd, TCP_CLOSE, what, err);
        if (r == 0 && end == TCP_END_QUIET && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
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
        int32_t left = tcp_distance(msg->rcv_wup + msg->rcv_wnd, msg->inq_seq);
        uint16_t window = scaled((uint32_t)MAX(left, 0), msg->rcv_wscale, msg->opt_mask & TCP_OPT_WSCALE);

        if (state == TCP_SYN_SENT || !msg->has_rcv_wnd)
                return 0;
        return packet_send(sender, tuple, msg->outq_seq - fin_waits(msg, state) - msg->unsq_len,
                           msg->inq_seq, window, PACKET_ACK, err);
}
