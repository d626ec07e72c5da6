/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns nocheck timeout=60 dump=--tcp-established restore=--tcp-established */
/* Classic filters (SO_ATTACH_FILTER) of TCP listeners and connections and of UDP, open and locked; and what they do. */
#include <linux/filter.h>
#include <poll.h>

#include "e2e_net.h"

/* Behind the transport header: no 'x' as the first byte of UDP's data. */
static struct sock_filter no_x[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'x', 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
};
/* Everything, in a way of its own. */
static struct sock_filter all[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_STMT(BPF_ALU | BPF_OR | BPF_K, 0x10000),
        BPF_STMT(BPF_RET | BPF_A, 0),
};
/* No SYN: nobody can connect any more. */
static struct sock_filter no_syn[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
};

struct sockets {
        int listener, client, server, udp, from, none;
};

static void attach(int fd, struct sock_filter *code, size_t n) {
        const struct sock_fprog prog = { (unsigned short)n, code };

        SYS(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
}

static void lock(int fd) {
        int on = 1;

        SYS(setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof(on)));
}

static void check_filter(int fd, const struct sock_filter *code, size_t n, bool locked) {
        struct sock_filter seen[16];
        socklen_t count = ELEMENTS(seen), len = sizeof(int);
        int value;

        SYS(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, seen, &count));
        CHECK(count == n && memcmp(seen, code, n * sizeof(*code)) == 0, "%u instructions, not %zu", count,
              n);
        SYS(getsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &value, &len));
        CHECK_EQ(value, locked);
}

static void set_up(struct sockets *s) {
        union address a;
        socklen_t len;

        loopback_up();
        s->listener = bound(AF_INET, SOCK_STREAM);
        SYS(listen(s->listener, 5));
        s->client = connected(s->listener);
        s->server = SYS(accept(s->listener, NULL, NULL));
        attach(s->listener, no_syn, ELEMENTS(no_syn));
        attach(s->server, all, ELEMENTS(all));
        lock(s->server);
        /* Data in the queues: a new filter must not see it. */
        CHECK(send(s->client, "to the server", 13, 0) == 13 && send(s->server, "to the client", 13, 0) == 13,
              "send");
        s->udp = bound(AF_INET, SOCK_DGRAM);
        attach(s->udp, no_x, ELEMENTS(no_x));
        lock(s->udp);
        s->from = SYS(socket(AF_INET, SOCK_DGRAM, 0));
        len = own_address(s->udp, &a);
        SYS(connect(s->from, &a.any, len));
        s->none = SYS(socket(AF_INET, SOCK_DGRAM, 0));
}

static void check_data(const struct sockets *s) {
        char buf[64] = "";

        CHECK(recv(s->server, buf, sizeof(buf), 0) == 13 && memcmp(buf, "to the server", 13) == 0,
              "got \"%s\"", buf);
        CHECK(recv(s->client, buf, sizeof(buf), 0) == 13 && memcmp(buf, "to the client", 13) == 0,
              "got \"%s\"", buf);
        CHECK(send(s->client, "on", 2, 0) == 2 && recv(s->server, buf, 2, MSG_WAITALL) == 2,
              "it does not go on: %m");
        CHECK(send(s->from, "xyz", 3, 0) == 3 && send(s->from, "abc", 3, 0) == 3, "send: %m");
        CHECK(recv(s->udp, buf, sizeof(buf), 0) == 3 && buf[0] == 'a', "got \"%s\"", buf);
}

/* The SYN is dropped: connecting takes longer than it would ever on this machine. */
static void check_listener(int listener) {
        struct sockaddr_in a;
        socklen_t len = sizeof(a);
        int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), value = 0;
        struct pollfd p = { .fd = fd, .events = POLLOUT };

        SYS(getsockname(listener, (struct sockaddr *)&a, &len));
        CHECK(connect(fd, (struct sockaddr *)&a, len) < 0 && errno == EINPROGRESS, "connect: %m");
        CHECK(poll(&p, 1, 300) == 0, "somebody answers");
        close(fd);
        SYS(setsockopt(listener, SOL_SOCKET, SO_DETACH_FILTER, &value, sizeof(value)));
        fd = SYS(socket(AF_INET, SOCK_STREAM, 0));
        SYS(connect(fd, (struct sockaddr *)&a, len));
}

int main(int argc, char **argv) {
        static struct sockets s;

        test_init(argc, argv);
        set_up(&s);
        test_ready();
        test_wait();
        /* break: attach(s.listener, all, ELEMENTS(all)); */
        /* break: lock(s.listener); */
        check_filter(s.listener, no_syn, ELEMENTS(no_syn), false);
        check_filter(s.server, all, ELEMENTS(all), true);
        check_filter(s.udp, no_x, ELEMENTS(no_x), true);
        check_filter(s.client, all, 0, false);
        check_filter(s.none, all, 0, false);
        check_data(&s);
        check_listener(s.listener);
        test_pass();
}
