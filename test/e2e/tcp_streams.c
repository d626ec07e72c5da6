/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns nocheck timeout=90 busy dump=--tcp-established restore=--tcp-established */
/*
 * Byte streams with running checksums in both directions, both ends in the tree, dumped while megabytes are on
 * the way: several connections over IPv4, IPv6 and a mapped address, each end in a process of its own.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "e2e.h"

enum { STREAMS = 3, CHUNK = 40000 };

struct counter {
        uint64_t sent, received;
};

struct shared {
        struct counter end[2 * STREAMS];
        uint32_t stop;
};

static struct shared *shared;

static int listen_on(int family, struct sockaddr_storage *addr, socklen_t *len) {
        int fd = SYS(socket(family, SOCK_STREAM, 0));
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

        if (family == AF_INET)
                SYS(bind(fd, (struct sockaddr *)&in, sizeof(in)));
        else
                SYS(bind(fd, (struct sockaddr *)&in6, sizeof(in6)));
        SYS(listen(fd, 5));
        *len = sizeof(*addr);
        SYS(getsockname(fd, (struct sockaddr *)addr, len));
        return fd;
}

static void make_stream(int kind, int pair[2]) {
        struct sockaddr_storage addr;
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr;
        socklen_t len;
        int listener = listen_on(kind == 0 ? AF_INET : AF_INET6, &addr, &len);

        if (kind == 1)
                in6->sin6_addr = in6addr_loopback;
        else if (kind == 2)
                SYS(inet_pton(AF_INET6, "::ffff:127.0.0.1", &in6->sin6_addr));
        pair[0] = SYS(socket(kind == 0 ? AF_INET : AF_INET6, SOCK_STREAM, 0));
        SYS(connect(pair[0], (struct sockaddr *)&addr, len));
        pair[1] = SYS(accept(listener, NULL, NULL));
        SYS(close(listener));
}

static unsigned char byte_at(uint64_t seed, uint64_t at) {
        return (unsigned char)(pattern(seed, at >> 3) >> (at & 7) * 8);
}

/* Write what fits, read what is there, in uneven pieces; the reader is the slower one, so that queues are full. */
static int end_main(void *arg) {
        int *job = arg, fd = job[0], me = job[1], peer = me ^ 1;
        struct counter *c = &shared->end[me];
        static unsigned char buf[CHUNK];
        bool closing = false, eof = false;
        uint64_t turn = (uint64_t)me;

        test_child_ready();
        SYS(fcntl(fd, F_SETFL, O_NONBLOCK));
        while (!eof) {
                struct pollfd p = { .fd = fd, .events = (short)(POLLIN | (closing ? 0 : POLLOUT)) };
                ssize_t n;

                poll(&p, 1, 20);
                turn = turn * 6364136223846793005ULL + 1442695040888963407ULL;
                if (!closing) {
                        size_t want = 1 + (turn >> 33) % CHUNK;

                        for (size_t i = 0; i < want; i++)
                                buf[i] = byte_at((uint64_t)me, c->sent + i);
                        n = send(fd, buf, want, MSG_NOSIGNAL);
                        CHECK(n > 0 || errno == EAGAIN, "end %d: send after %" PRIu64 ": %m", me, c->sent);
                        if (n > 0)
                                c->sent += (uint64_t)n;
                        if (__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE)) {
                                SYS(shutdown(fd, SHUT_WR));
                                closing = true;
                        }
                }
                n = recv(fd, buf, 1 + (turn >> 40) % (CHUNK / 2), 0);
                CHECK(n >= 0 || errno == EAGAIN, "end %d: recv after %" PRIu64 ": %m", me, c->received);
                for (ssize_t i = 0; i < n; i++)
                        CHECK(buf[i] == byte_at((uint64_t)peer, c->received + (uint64_t)i),
                              "end %d: byte %" PRIu64 " is wrong", me, c->received + (uint64_t)i);
                if (n > 0)
                        c->received += (uint64_t)n;
                eof = n == 0;
        }
        while (!closing)
                CHECK(0, "end %d: end of file too early", me);
        test_wait();
        return 0;
}

int main(int argc, char **argv) {
        static int jobs[2 * STREAMS][2];
        uint64_t before[2 * STREAMS];
        int all[2 * STREAMS];

        test_init(argc, argv);
        shared = test_shared(sizeof(*shared));
        for (int i = 0; i < STREAMS; i++)
                make_stream(i, &all[2 * i]);
        for (int i = 0; i < 2 * STREAMS; i++) {
                jobs[i][0] = all[i];
                jobs[i][1] = i;
                test_fork(end_main, jobs[i]);
        }
        for (int i = 0; i < 2 * STREAMS; i++)
                close(all[i]);
        test_wait_children_ready();
        for (int i = 0; i < 2 * STREAMS; i++)
                WAIT_FOR(__atomic_load_n(&shared->end[i].received, __ATOMIC_RELAXED) > 1 << 20, "end %d", i);
        test_ready();
        test_wait();
        /* Life goes on: each of them has to get on, within seconds. */
        for (int i = 0; i < 2 * STREAMS; i++)
                before[i] = __atomic_load_n(&shared->end[i].received, __ATOMIC_RELAXED);
        for (int i = 0; i < 2 * STREAMS; i++)
                WAIT_FOR(__atomic_load_n(&shared->end[i].received, __ATOMIC_RELAXED) > before[i] + (1 << 20),
                         "end %d gets nothing any more", i);
        __atomic_store_n(&shared->stop, 1, __ATOMIC_RELEASE);
        for (int i = 0; i < 2 * STREAMS; i++)
                WAIT_FOR(__atomic_load_n(&shared->end[i].received, __ATOMIC_RELAXED) ==
                                 __atomic_load_n(&shared->end[i ^ 1].sent, __ATOMIC_RELAXED),
                         "end %d has not got everything", i);
        test_stop_children();
        test_pass();
}
