/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/*
 * One end of several TCP connections, for scripts: tcp_end COUNTS N ADDRESS PORT [connect|mptcp]. Sends and checks a
 * pattern on all of them at once, and never stops sending until SIGTERM; then it closes its half, reads to the end and
 * exits. COUNTS holds two 64-bit numbers for each connection, sent and received; it has its size from the start.
 * With `mptcp` it connects MPTCP sockets; with neither it listens, also for new connections, which are answered with one byte.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "e2e.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

enum { MAX = 600, CHUNK = 60000 };

struct count {
        uint64_t sent, received;
};

static volatile sig_atomic_t stop;
static struct count count[MAX];
static struct pollfd p[MAX + 1];
static bool closed[MAX];
static unsigned char buf[CHUNK];

static void on_term(int sig E2E_UNUSED) {
        stop = 1;
}

static void die(const char *what, int i) {
        fprintf(stderr, "FAIL connection %d: %s: %s (sent %" PRIu64 ", received %" PRIu64 ")\n", i, what,
                strerror(errno), i >= 0 ? count[i].sent : 0, i >= 0 ? count[i].received : 0);
        exit(1);
}

static socklen_t address(const char *text, const char *port, struct sockaddr_storage *ret) {
        struct sockaddr_in *in = (struct sockaddr_in *)ret;
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

        memset(ret, 0, sizeof(*ret));
        if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
                in6->sin6_family = AF_INET6;
                in6->sin6_port = htons((uint16_t)atoi(port));
                return sizeof(*in6);
        }
        if (inet_pton(AF_INET, text, &in->sin_addr) != 1)
                die("bad address", -1);
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)atoi(port));
        return sizeof(*in);
}

static unsigned char byte_at(uint64_t seed, uint64_t at) {
        return (unsigned char)(pattern(seed, at >> 3) >> (at & 7) * 8);
}

static void step(int i, short events, uint64_t mine, uint64_t theirs) {
        static uint64_t turn = 1;
        ssize_t n;

        turn = turn * 6364136223846793005ULL + 1442695040888963407ULL;
        if (events & POLLOUT && !stop) {
                size_t want = 1 + (turn >> 33) % CHUNK;

                for (size_t k = 0; k < want; k++)
                        buf[k] = byte_at(mine, count[i].sent + k);
                n = send(p[i].fd, buf, want, MSG_NOSIGNAL);
                if (n < 0 && errno != EAGAIN)
                        die("send", i);
                if (n > 0)
                        count[i].sent += (uint64_t)n;
        }
        if (!(events & (POLLIN | POLLHUP | POLLERR)))
                return;
        n = recv(p[i].fd, buf, 1 + (turn >> 40) % CHUNK, 0);
        if (n < 0 && errno != EAGAIN)
                die("recv", i);
        for (ssize_t k = 0; k < n; k++)
                if (buf[k] != byte_at(theirs, count[i].received + (uint64_t)k))
                        die("wrong byte", i);
        if (n > 0)
                count[i].received += (uint64_t)n;
        if (n == 0) {
                p[i].events = 0;
                p[i].fd = -p[i].fd;
                closed[i] = true;
        }
}

static int run(int counts, int n, int listener, uint64_t mine, uint64_t theirs) {
        bool shut = false;
        int left = n;

        for (int i = 0; i < n; i++)
                p[i].events = POLLIN | POLLOUT;
        p[n] = (struct pollfd){ .fd = listener, .events = POLLIN };
        while (left > 0) {
                poll(p, (nfds_t)n + 1, 20);
                if (stop && !shut) {
                        for (int i = 0; i < n; i++) {
                                p[i].events &= ~POLLOUT;
                                if (shutdown(abs(p[i].fd), SHUT_WR) < 0)
                                        die("shutdown", i);
                        }
                        shut = true;
                }
                for (int i = 0; i < n; i++) {
                        if (p[i].fd >= 0 && p[i].revents)
                                step(i, p[i].revents, mine, theirs);
                        left -= closed[i];
                        if (closed[i] && !stop) {
                                errno = 0;
                                die("end of file too early", i);
                        }
                        closed[i] = false;
                }
                if (p[n].revents & POLLIN) {
                        int fd = accept(listener, NULL, NULL);

                        if (fd >= 0 && write(fd, "!", 1) == 1)
                                close(fd);
                }
                if (pwrite(counts, count, (size_t)n * sizeof(*count), 0) < 0)
                        die("write the counts", -1);
        }
        return 0;
}

int main(int argc, char **argv) {
        struct sockaddr_storage addr;
        int n, listener = -1, counts, one = 1;
        bool connecting = argc > 5;
        int protocol = connecting && strcmp(argv[5], "mptcp") == 0 ? IPPROTO_MPTCP : 0;
        socklen_t len;

        if (argc < 5)
                return 2;
        signal(SIGTERM, on_term);
        n = atoi(argv[2]);
        len = address(argv[3], argv[4], &addr);
        counts = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644);
        if (n < 1 || n > MAX || counts < 0)
                die("arguments", -1);
        if (!connecting) {
                listener = socket(addr.ss_family, SOCK_STREAM, 0);
                if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
                    bind(listener, (struct sockaddr *)&addr, len) < 0 || listen(listener, 128) < 0)
                        die("listen", -1);
                if (pwrite(counts, count, (size_t)n * sizeof(*count), 0) < 0)
                        die("write the counts", -1);
        }
        for (int i = 0; i < n; i++) {
                p[i].fd = connecting ? socket(addr.ss_family, SOCK_STREAM, protocol)
                                     : accept(listener, NULL, NULL);
                if (p[i].fd < 0 || (connecting && connect(p[i].fd, (struct sockaddr *)&addr, len) < 0) ||
                    fcntl(p[i].fd, F_SETFL, O_NONBLOCK) < 0)
                        die("connect", i);
        }
        return run(counts, n, listener, connecting, !connecting);
}
