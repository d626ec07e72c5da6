/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The state of one TCP connection, read from a socket and given to another one through TCP_REPAIR. These
 * functions know sockets and messages, nothing of trees.
 *
 * Sequence numbers on the wire are as TCP_QUEUE_SEQ gives them: they count a FIN that was sent or received, the
 * lengths of the queues do not.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "error.h"
#include "images/tcp.pb-c.h"
#include "sock/lock.h"
#include "sock/packet.h"

/* tcpi_state; negative errno. */
int tcp_state(int fd);

/* "ESTABLISHED"; "?" for what is no state. */
const char *tcp_state_name(unsigned int state);

/* By state: was our FIN sent (given to the kernel to send), was it acknowledged, has the peer's arrived? */
bool tcp_fin_sent(unsigned int state);
bool tcp_fin_acked(unsigned int state);
bool tcp_fin_received(unsigned int state);

/* A connection between two programs: any state but LISTEN and CLOSE. */
bool tcp_is_connection(unsigned int state);

/* TCP_REPAIR_ON, TCP_REPAIR_OFF (the socket then sends a window probe if it is ESTABLISHED), TCP_REPAIR_OFF_NO_WP. */
int tcp_repair(int fd, int how);

/* ---- dump ---- */

struct tcp_queues {
        Img__TcpStream msg;
        uint8_t *in, *out; /* inq_len, outq_len bytes, in somebody else's memory */
        uint8_t state;
};

/* Options of the socket that reading it changes and puts back. */
struct tcp_kept {
        bool reuse;   /* SO_REUSEADDR */
        int peek_off; /* SO_PEEK_OFF, -1: none */
};

/* What sock_diag(7) has told of a connection: diag.h. That the send queue is empty can be relied on, together with the rest. */
struct tcp_told {
        bool known;
        uint32_t segments_in, segments_out, rqueue, wqueue;
};

/* Memory to read queues into; what is used is taken off its beginning. */
struct tcp_room {
        uint8_t *at;
        size_t left;
};

/* More than one segment of a send queue: it may be acknowledged in part, and is read as a whole. */
enum { TCP_SEGMENT_MAX = 128 << 10 };

/*
 * Read what is to be sent: outq_*, unsq_len, snd_*, max_window, mss_clamp, options, timestamp; and, later, what was
 * received: inq_*, rcv_*. Both put it into repair mode for moments, and out of it whatever happens. Where two ends of a
 * connection are read and packets still pass between them, the sending half of each must be read before the
 * receiving half of the other: what was acknowledged meanwhile is then in both, never in none.
 * -EAGAIN: it changes faster than it can be read; -ENOBUFS: `room` is too small (the length of the queue, and
 * TCP_SEGMENT_MAX for one that is sent). System calls only.
 */
int tcp_read_sent(int fd, const struct tcp_kept *kept, struct tcp_queues *q, struct tcp_room *room);
int tcp_read_received(int fd, const struct tcp_kept *kept, struct tcp_queues *q, struct tcp_room *room);

/*
 * Read an ESTABLISHED connection over which nothing has passed since sock_diag(7) told of it, with fewer questions: all of
 * it, then, when all that depend on each other are read, ask whether that was so. -EAGAIN: it was not, or cannot be told;
 * what was read is to be forgotten. A connection on which no segment has come or gone and in whose queues nothing has
 * been put is the same throughout, so it does not matter in which order its ends are read. System calls only.
 */
int tcp_read_quiet(int fd, const struct tcp_kept *kept, const struct tcp_told *told, struct tcp_queues *q,
                   struct tcp_room *room);
int tcp_was_quiet(int fd, const struct tcp_told *told, struct tcp_queues *q);

/* What was negotiated: opt_mask, window scales, and the timestamp of this moment. */
int tcp_read_options(int fd, Img__TcpStream *msg);

/* The peer may have received more than was sent when we looked: move the mark between sent and unsent. */
void tcp_match_peer(struct tcp_queues *q, const struct tcp_queues *peer);

/* ---- restore ---- */

/* Does an image make sense? NULL, or what is wrong with it. */
const char *tcp_stream_check(const Img__TcpStream *msg, unsigned int state);

/* Connect a bound socket in repair mode: no packet is sent. `state` is the one to come to in the end. */
int tcp_rebuild_connect(int fd, const Img__TcpStream *msg, unsigned int state, const struct sockaddr *peer,
                        socklen_t len, const char *what, struct ckpt_error *err);

/* Fill the receive queue, then set the windows. `tuple` is the connection seen from the socket, for urgent data. */
int tcp_rebuild_received(int fd, const Img__TcpStream *msg, unsigned int state, const uint8_t *in,
                         const struct sock_tuple *tuple, struct packet_sender *sender, const char *what,
                         struct ckpt_error *err);

/* Fill the send queue with what has been sent already, FIN included. */
int tcp_rebuild_sent(int fd, const Img__TcpStream *msg, unsigned int state, const uint8_t *out,
                     const char *what, struct ckpt_error *err);

/* The peer's part in closing. `tuple` is the connection seen from the socket. It stays in repair mode. */
int tcp_rebuild_closing(int fd, const Img__TcpStream *msg, unsigned int state,
                        const struct sock_tuple *tuple, struct packet_sender *sender, const char *what,
                        struct ckpt_error *err);

enum tcp_end {
        TCP_END_QUIET,     /* without an error */
        TCP_END_RESET,     /* ECONNRESET */
        TCP_END_FIN_RESET, /* the peer had closed before: EPIPE */
};

/* Close a connected socket as a RST of the peer's does. Data in it stays. */
int tcp_rebuild_closed(int fd, const struct sock_tuple *tuple, uint32_t rcv_nxt, enum tcp_end end,
                       struct packet_sender *sender, const char *what, struct ckpt_error *err);

/* Out of repair mode, with the first word to the peer; then what had not been sent. The network is unlocked. */
int tcp_rebuild_finish(int fd, const Img__TcpStream *msg, unsigned int state, const uint8_t *out,
                       const char *what, struct ckpt_error *err);

/*
 * An ACK in the connection's name with its present window: a peer that probes an old zero window with growing
 * intervals goes on at once. (A window probe of ours is answered, but not listened to.)
 */
int tcp_speak_first(const Img__TcpStream *msg, unsigned int state, const struct sock_tuple *tuple,
                    struct packet_sender *sender, struct ckpt_error *err);
