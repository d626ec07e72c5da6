/* SPDX-License-Identifier: GPL-2.0-only */
#include "sock/urgent.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "macro.h"
#include "sock/uapi.h"

enum { ARRIVAL_MS = 2000, WINDOW = 65535 };

static int set_peek_off(int fd, int off) {
        return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)) < 0 ? -errno : 0;
}

bool urgent_is_readable(void) {
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        return fd >= 0 && set_peek_off(fd, 0) == 0;
}

/* ---- dump ---- */

static bool at_mark(int fd) {
        int at = 0;

        return ioctl(fd, SIOCATMARK, &at) == 0 && at;
}

static bool has_urgent(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLPRI };

        return poll(&p, 1, 0) > 0 && p.revents & POLLPRI;
}

static bool has_error(int fd) {
        struct pollfd p = { .fd = fd };

        return poll(&p, 1, 0) > 0 && p.revents & POLLERR;
}

static bool is_inline(int fd) {
        int on = 0;
        socklen_t len = sizeof(on);

        return getsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, &len) == 0 && on;
}

static ssize_t peek(int fd, uint8_t *at, size_t size) {
        ssize_t n = recv(fd, at, size, MSG_PEEK | MSG_DONTWAIT);

        return n < 0 && errno == EAGAIN ? 0 : n < 0 ? -errno : n;
}

/*
 * Behind `n` bytes, where reading stopped or the queue ends. Not in line, reading goes on behind the urgent byte, which has
 * to be fetched.
 */
static ssize_t peek_behind(int fd, size_t n, bool in_line, const struct tcp_room *room, struct urgent *ret) {
        bool unread = has_urgent(fd), marked = unread || (n == 0 && at_mark(fd));
        uint8_t *place = room->at + n + !in_line;
        ssize_t more;

        if (room->left < n + 2)
                return -ENOBUFS;
        more = peek(fd, place, room->left - n - 1);
        if (more < 0)
                return more;
        marked |= more > 0;
        if (!marked)
                return (ssize_t)n;
        *ret = (struct urgent){ .marked = true, .read = !in_line && !unread, .at = (uint32_t)n };
        if (in_line)
                return (ssize_t)n + more;
        room->at[n] = 0;
        if (unread && recv(fd, room->at + n, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT) != 1)
                return -EAGAIN;
        return (ssize_t)n + 1 + more;
}

/* In line, SIOCINQ counts what is behind the mark as well, and reading that begins at the mark does not stop. */
ssize_t urgent_peek(int fd, int size, const struct tcp_room *room, struct urgent *ret) {
        bool begins = at_mark(fd), in_line;
        ssize_t n = 0;
        int r;

        *ret = (struct urgent){ 0 };
        if (size == 0 && !begins)
                return 0;
        in_line = is_inline(fd);
        ret->marked = begins && in_line;
        if (room->left < (size_t)size)
                return -ENOBUFS;
        if (size > 0)
                n = peek(fd, room->at, (size_t)size);
        if (n < size && (n < 0 || !in_line))
                return n < 0 ? n : -EAGAIN;
        if (ret->marked)
                return n < size ? -EAGAIN : n;
        /* Whoever reads where nothing is takes the error that waits for the program: reset by the peer. */
        if (has_error(fd))
                return has_urgent(fd) ? -EOPNOTSUPP : n < size ? -EAGAIN : n;
        r = set_peek_off(fd, (int)n);
        /* Before 6.9: look has seen to it that nothing urgent is unread. */
        if (r == -EOPNOTSUPP)
                return n < size ? -EAGAIN : n;
        if (r < 0)
                return r;
        n = peek_behind(fd, (size_t)n, in_line, room, ret);
        r = set_peek_off(fd, -1);
        return r < 0 ? r : n >= 0 && n < size ? -EAGAIN : n;
}

/* ---- restore ---- */

/* What was filled in before has not counted against the window. All of it is set again when the queue is complete. */
static int open_window(int fd, uint32_t seq) {
        struct tcp_repair_window window = { 0 };
        socklen_t len = sizeof(window);

        if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, &len) < 0)
                return -errno;
        window.snd_wl1 = window.rcv_wup = seq;
        window.max_window = MAX(window.max_window, window.snd_wnd);
        window.rcv_wnd = WINDOW;
        return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof(window)) < 0 ? -errno : 0;
}

int urgent_receive(int fd, uint8_t byte, bool read, uint32_t seq, uint32_t acked,
                   const struct sock_tuple *tuple, struct packet_sender *sender, const char *what,
                   struct ckpt_error *err) {
        struct sock_tuple peer = { .v6 = tuple->v6,
                                   .src_port = tuple->dst_port,
                                   .dst_port = tuple->src_port };
        const struct timespec pause = { .tv_nsec = 1000000 };
        uint8_t taken;
        int r;

        memcpy(peer.src, tuple->dst, sizeof(peer.src));
        memcpy(peer.dst, tuple->src, sizeof(peer.dst));
        r = open_window(fd, seq);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot set its windows", what);
        r = packet_send_urgent(sender, &peer, seq, acked, byte, err);
        if (r < 0)
                return r;
        for (int i = 0; !has_urgent(fd); i++) {
                if (i == ARRIVAL_MS)
                        return ckpt_error(err, -EIO, "%s: its urgent data cannot be put back", what);
                nanosleep(&pause, NULL);
        }
        if (read && recv(fd, &taken, 1, MSG_OOB | MSG_DONTWAIT) != 1)
                return ckpt_error_errno(err, -errno, "%s: cannot read its urgent data again", what);
        return 0;
}
