/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Are MPTCP sockets read as they are? Tried on a connection of ckpt's, in a network of its own, with data in all queues, whose
 * other end is a TCP socket that can be asked.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "lib/thread.h"
#include "macro.h"
#include "sock/mptcp.h"
#include "sock/tcp_option.h"

enum {
        SMALL = 8192, /* of buffers, in bytes */
        BACK = 3000,  /* bytes that the TCP socket sends */
        SENT_MAX = 4 << 20,
        CHUNK = 10007,
        ROOM = SENT_MAX + (1 << 20),
        WAIT_MS = 2000,
        TRIES = 20,
        CONNECTIONS = 8,
};

struct trial {
        const struct mptcp_reader *reader;
        int client, listener, server;
        uint32_t sent; /* by the client */
        uint8_t *data; /* what it sends, SENT_MAX bytes */
        uint8_t *room; /* ROOM bytes */
        bool ok;
};

static bool set_up_loopback(void) {
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq req = { .ifr_name = "lo", .ifr_flags = IFF_UP };

        return fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &req) == 0;
}

static bool set_number(int fd, int name, int value) {
        return setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value)) == 0;
}

static bool connect_pair(struct trial *t) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        const struct timeval patience = { .tv_sec = WAIT_MS / 1000 };
        socklen_t len = sizeof(a);

        t->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
        t->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
        if (t->client < 0 || t->listener < 0 || !set_number(t->listener, SO_RCVBUF, SMALL) ||
            !set_number(t->client, SO_SNDBUF, SMALL) ||
            bind(t->listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(t->listener, 1) < 0 ||
            getsockname(t->listener, (struct sockaddr *)&a, &len) < 0)
                return false;
        setsockopt(t->client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        setsockopt(t->listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        if (connect(t->client, (struct sockaddr *)&a, sizeof(a)) < 0)
                return false;
        t->server = accept4(t->listener, (struct sockaddr *)&a, &len, SOCK_CLOEXEC);
        return t->server >= 0 && mptcp_fell_back(t->client) && !mptcp_fell_back(t->server);
}

/* Something waits to be read on one side, and on the other more than either socket takes. */
static bool fill_queues(struct trial *t) {
        const struct timespec pause = { .tv_nsec = 1000000 };
        uint8_t seen[BACK];
        ssize_t n = 0;

        for (size_t i = 0; i < SENT_MAX; i++)
                t->data[i] = (uint8_t)(i * 2654435761U >> 13);
        if (send(t->server, t->data, BACK, MSG_NOSIGNAL) != BACK)
                return false;
        for (int i = 0; n != BACK && i < WAIT_MS; i++) {
                n = recv(t->client, seen, BACK, MSG_PEEK | MSG_DONTWAIT);
                if (n != BACK)
                        nanosleep(&pause, NULL);
        }
        /* In pieces that begin and end anywhere. */
        while (n > 0 && t->sent + CHUNK <= SENT_MAX) {
                n = send(t->client, t->data + t->sent, CHUNK, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n > 0)
                        t->sent += (uint32_t)n;
        }
        return n < 0 && errno == EAGAIN && t->sent > 0;
}

/* Of the TCP socket, which is in repair mode: seen so, and as it says itself. */
static int compare_server(const struct trial *t, uint32_t *ret_sent, uint32_t *ret_received) {
        struct tcp_repair_window window;
        uint64_t sk, v[MPTCP_MEMBER_MAX] = { 0 };
        uint32_t sent = 0, received = 0, mss = 0;
        int r;

        r = tcp_set_number(t->server, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
        if (r == 0)
                r = tcp_get_number(t->server, TCP_QUEUE_SEQ, &received);
        if (r == 0)
                r = tcp_set_number(t->server, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
        if (r == 0)
                r = tcp_get_number(t->server, TCP_QUEUE_SEQ, &sent);
        if (r == 0)
                r = tcp_get_number(t->server, TCP_MAXSEG, &mss);
        if (r == 0)
                r = tcp_get_window(t->server, &window);
        if (r == 0)
                r = peek_sock(t->reader->peek, t->server, &sk);
        if (r == 0)
                r = mptcp_read_tcp(t->reader, sk, v);
        if (r < 0)
                return r;
        *ret_sent = sent;
        *ret_received = received;
        return v[MPTCP_RCV_NXT] == received && v[MPTCP_WRITE_SEQ] == sent && v[MPTCP_MSS_CLAMP] == mss &&
                               v[MPTCP_SND_WL1] == window.snd_wl1 && v[MPTCP_SND_WND] == window.snd_wnd &&
                               v[MPTCP_MAX_WINDOW] == window.max_window &&
                               v[MPTCP_RCV_WND] == window.rcv_wnd && v[MPTCP_RCV_WUP] == window.rcv_wup &&
                               v[MPTCP_STATE] == TCP_ESTABLISHED
                       ? 0
                       : -EAGAIN;
}

static int ask_server(const struct trial *t, uint32_t *ret_sent, uint32_t *ret_received) {
        int r = tcp_repair(t->server, TCP_REPAIR_ON), ended;

        if (r < 0)
                return r;
        r = -EAGAIN;
        /* The client tries from time to time whether there is room. */
        for (int i = 0; r == -EAGAIN && i < TRIES; i++)
                r = compare_server(t, ret_sent, ret_received);
        ended = tcp_repair(t->server, TCP_REPAIR_OFF_NO_WP);
        return r < 0 ? r : ended;
}

static bool is_between(uint32_t low, uint32_t n, uint32_t high) {
        return tcp_distance(n, low) >= 0 && tcp_distance(high, n) >= 0;
}

/* What the TCP socket has received is no more than was sent and no less than was acknowledged. */
static bool compare(const struct trial *t, const struct tcp_queues *q) {
        const Img__TcpStream *m = &q->msg;
        uint32_t sent = 0, received = 0;
        struct tcp_info info;
        socklen_t len = sizeof(info);

        return ask_server(t, &sent, &received) == 0 && q->state == TCP_ESTABLISHED && m->inq_seq == sent &&
               m->inq_len == BACK && memcmp(q->in, t->data, BACK) == 0 && m->outq_len > m->unsq_len &&
               m->unsq_len > 0 && m->outq_len <= t->sent &&
               memcmp(q->out, t->data + (t->sent - m->outq_len), m->outq_len) == 0 &&
               is_between(m->outq_seq - m->outq_len, received, m->outq_seq - m->unsq_len) &&
               getsockopt(t->server, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
               info.tcpi_options == m->opt_mask && info.tcpi_rcv_wscale == m->snd_wscale &&
               info.tcpi_snd_wscale == m->rcv_wscale;
}

static void *try_it(void *arg) {
        struct trial *t = arg;
        struct tcp_room room = { .at = t->room, .left = ROOM };
        struct tcp_queues q = { .msg = IMG__TCP_STREAM__INIT };

        /* Not a packet, port or firewall rule of the machine is touched. */
        t->ok = unshare(CLONE_NEWNET) == 0 && set_up_loopback() && connect_pair(t) && fill_queues(t) &&
                mptcp_read_sent(t->reader, t->client, &q, &room) == 0 &&
                mptcp_read_received(t->reader, t->client, &q, &room) == 0 && compare(t, &q);
        return NULL;
}

bool mptcp_try(const struct mptcp_reader *r) {
        _cleanup_free_ uint8_t *data = malloc(SENT_MAX), *room = malloc(ROOM);
        struct trial t = { r, -EBADF, -EBADF, -EBADF, 0, data, room, false };
        pthread_t thread;

        if (!data || !room || thread_start(&thread, try_it, &t) < 0)
                return false;
        pthread_join(thread, NULL);
        /* What it has not sent would keep the network there. */
        if (t.client >= 0)
                (void)mptcp_end(t.client);
        safe_close(t.client);
        safe_close(t.listener);
        safe_close(t.server);
        return t.ok;
}

/*
 * On a busy machine the queues may not become what they should be, or what is compared changes meanwhile: then with another
 * connection. What is read from a wrong place is wrong each time.
 */
bool mptcp_prove(struct peek *peek, void *arg) {
        struct mptcp_reader *r = arg;
        bool ok = false;

        r->peek = peek;
        if (mptcp_reader_open(r) < 0)
                return false;
        for (int i = 0; !ok && i < CONNECTIONS; i++)
                ok = mptcp_try(r);
        return ok;
}
