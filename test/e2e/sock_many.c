/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns nocheck timeout=90 dump=--tcp-established restore=--tcp-established */
/*
 * So many sockets of each kind that ckpt asks and opens them with several threads, mixed in one descriptor table:
 * each has data, options, an owner and a state of its own, none has those of its neighbour.
 */
#include <netinet/tcp.h>
#include <sys/un.h>

#include "e2e_net.h"

enum { MANY = 250 };

struct set {
        int out, in;       /* the two ends of a TCP connection, over IPv4 or IPv6 */
        int unix_pair[2];  /* a stream or datagrams */
        int listener, udp; /* a port of its own each */
        int closed;        /* TCP, never connected */
};

static struct set sets[MANY];

static void put(int fd, const char *what, int i) {
        char text[32];
        int n = snprintf(text, sizeof(text), "%s %d", what, i);

        CHECK(send(fd, text, (size_t)n, 0) == n, "send %s: %m", text);
}

static void get(int fd, const char *what, int i) {
        char want[32], got[64] = "";
        int n = snprintf(want, sizeof(want), "%s %d", what, i);

        wait_readable(fd);
        CHECK(recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT) == n && strcmp(got, want) == 0,
              "set %d: got \"%s\", not \"%s\": %m", i, got, want);
}

static void set_up(struct set *s, int i) {
        struct f_owner_ex owner = { F_OWNER_PID, getpid() };

        s->listener = bound(i % 2 ? AF_INET6 : AF_INET, SOCK_STREAM);
        SYS(listen(s->listener, 1 + i));
        s->out = connected(s->listener);
        s->in = SYS(accept(s->listener, NULL, NULL));
        SYS(socketpair(AF_UNIX, i % 3 ? SOCK_STREAM : SOCK_DGRAM, 0, s->unix_pair));
        s->udp = bound(AF_INET, SOCK_DGRAM);
        s->closed = SYS(socket(AF_INET, SOCK_STREAM, 0));

        put(s->out, "to the server", i);
        put(s->in, "to the client", i);
        put(s->unix_pair[0], "to the other end", i);
        set_option(s->out, IPPROTO_TCP, TCP_KEEPIDLE, 100 + i);
        set_option(s->in, SOL_SOCKET, SO_PRIORITY, i % 7);
        set_option(s->unix_pair[1], SOL_SOCKET, SO_MARK, 1000 + i);
        set_option(s->udp, IPPROTO_IP, IP_TOS, (i % 60) << 2);
        set_option(s->closed, IPPROTO_TCP, TCP_NODELAY, i % 2);
        if (i % 2)
                SYS(fcntl(s->in, F_SETOWN_EX, &owner));
        if (i % 5 == 0)
                SYS(fcntl(s->out, F_SETFL, O_RDWR | O_NONBLOCK));
        if (i % 10 == 3)
                SYS(shutdown(s->out, SHUT_WR));
        if (i % 10 == 7)
                SYS(shutdown(s->in, SHUT_RDWR));
}

static void check_options(const struct set *s, int i) {
        CHECK_EQ(get_option(s->out, IPPROTO_TCP, TCP_KEEPIDLE), 100 + i);
        CHECK_EQ(get_option(s->in, SOL_SOCKET, SO_PRIORITY), i % 7);
        CHECK_EQ(get_option(s->unix_pair[1], SOL_SOCKET, SO_MARK), 1000 + i);
        CHECK_EQ(get_option(s->unix_pair[0], SOL_SOCKET, SO_MARK), 0);
        CHECK_EQ(get_option(s->udp, IPPROTO_IP, IP_TOS), (i % 60) << 2);
        CHECK_EQ(get_option(s->closed, IPPROTO_TCP, TCP_NODELAY), i % 2);
        CHECK_EQ(fcntl(s->in, F_GETOWN), i % 2 ? getpid() : 0);
        CHECK_EQ(fcntl(s->out, F_GETFL), O_RDWR | (i % 5 == 0 ? O_NONBLOCK : 0));
}

static void check_data(const struct set *s, int i) {
        char c;

        if (i % 10 != 7) {
                get(s->in, "to the server", i);
                get(s->out, "to the client", i);
        }
        if (i % 10 == 3) {
                wait_readable(s->in);
                CHECK(recv(s->in, &c, 1, MSG_DONTWAIT) == 0, "set %d: not the end: %m", i);
        } else if (i % 10 != 7) {
                put(s->out, "more", i);
                get(s->in, "more", i);
        }
        get(s->unix_pair[1], "to the other end", i);
        put(s->unix_pair[1], "back", i);
        get(s->unix_pair[0], "back", i);
}

/* The port is the listener's still: whom it accepts talks with whom connects. */
static void check_listener(const struct set *s, int i) {
        int out = connected(s->listener), in = SYS(accept(s->listener, NULL, NULL));

        put(out, "new", i);
        get(in, "new", i);
        close(out);
        close(in);
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        for (int i = 0; i < MANY; i++)
                set_up(&sets[i], i);
        test_ready();
        test_wait();
        /* break: set_option(sets[17].out, IPPROTO_TCP, TCP_KEEPIDLE, 5); */
        for (int i = 0; i < MANY; i++) {
                check_options(&sets[i], i);
                check_data(&sets[i], i);
                check_listener(&sets[i], i);
        }
        test_pass();
}
