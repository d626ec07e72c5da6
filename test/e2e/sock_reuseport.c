/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=60 */
/*
 * Groups of SO_REUSEPORT with classic programs: TCP listeners, and UDP sockets with unread datagrams; bound in another
 * order than that of their descriptors, since the program names them by that. One is locked, one has no address yet.
 */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "e2e.h"

enum { N = 4 };

/* The first byte of the payload says which: '0' is the socket that was bound first. */
static struct sock_filter by_digit[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
        BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, '0'),
        BPF_STMT(BPF_RET | BPF_A, 0),
};
static struct sock_filter third[] = { BPF_STMT(BPF_RET | BPF_K, 2) };

/* In which turn the i-th is bound. */
static const int turn[N] = { 2, 0, 3, 1 };

struct group {
        int fd[N]; /* by turn */
        struct sockaddr_in addr;
};

static void attach(int fd, struct sock_filter *code, size_t n) {
        const struct sock_fprog prog = { (unsigned short)n, code };

        SYS(setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)));
}

static void make_group(int type, struct group *g) {
        socklen_t len = sizeof(g->addr);
        int fd[N], on = 1;

        g->addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        for (int i = 0; i < N; i++) {
                fd[i] = SYS(socket(AF_INET, type, 0));
                SYS(setsockopt(fd[i], SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
                g->fd[turn[i]] = fd[i];
        }
        for (int i = 0; i < N; i++) {
                SYS(bind(g->fd[i], (struct sockaddr *)&g->addr, sizeof(g->addr)));
                SYS(getsockname(g->fd[i], (struct sockaddr *)&g->addr, &len));
                if (type == SOCK_STREAM)
                        SYS(listen(g->fd[i], 5));
        }
}

static void say(int from, const struct group *g, const char *what) {
        SYS(sendto(from, what, strlen(what), 0, (const struct sockaddr *)&g->addr, sizeof(g->addr)));
}

static void hear(int fd, const char *what) {
        char buf[16] = "";

        wait_readable(fd);
        CHECK(recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT) == (ssize_t)strlen(what) &&
                      strcmp(buf, what) == 0,
              "\"%s\" came as \"%s\": %m", what, buf);
}

static void check_distribution(int from, const struct group *g) {
        for (int i = 0; i < N; i++) {
                const char text[] = { (char)('0' + i), '!', 0 };

                say(from, g, text);
                hear(g->fd[i], text);
        }
}

int main(int argc, char **argv) {
        struct ifreq req = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK };
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct group tcp, udp;
        socklen_t len = sizeof(a);
        int from, alone, other, on = 1;

        test_init(argc, argv);
        from = SYS(socket(AF_INET, SOCK_DGRAM, 0));
        SYS(ioctl(from, SIOCSIFFLAGS, &req));
        make_group(SOCK_STREAM, &tcp);
        attach(tcp.fd[1], third, ELEMENTS(third));
        make_group(SOCK_DGRAM, &udp);
        attach(udp.fd[3], by_digit, ELEMENTS(by_digit));
        for (int i = 0; i < N; i++)
                SYS(setsockopt(udp.fd[i], SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof(on)));
        say(from, &udp, "1 unread");
        say(from, &udp, "3 unread");
        alone = SYS(socket(AF_INET, SOCK_DGRAM, 0));
        SYS(setsockopt(alone, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
        attach(alone, by_digit, ELEMENTS(by_digit));
        test_ready();
        test_wait();

        hear(udp.fd[1], "1 unread");
        hear(udp.fd[3], "3 unread");
        check_distribution(from, &udp);
        for (int i = 0; i < 20; i++) {
                int fd = SYS(socket(AF_INET, SOCK_STREAM, 0));

                SYS(connect(fd, (struct sockaddr *)&tcp.addr, sizeof(tcp.addr)));
                for (int k = 0; k < N; k++)
                        SYS(fcntl(tcp.fd[k], F_SETFL, O_NONBLOCK));
                CHECK_EQ(close(SYS(accept(tcp.fd[2], NULL, NULL))), 0);
                close(fd);
        }
        /* Who joins later becomes the second of a group whose program goes on. */
        SYS(bind(alone, (struct sockaddr *)&a, sizeof(a)));
        SYS(getsockname(alone, (struct sockaddr *)&a, &len));
        other = SYS(socket(AF_INET, SOCK_DGRAM, 0));
        SYS(setsockopt(other, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
        SYS(bind(other, (struct sockaddr *)&a, sizeof(a)));
        udp.addr = a;
        for (int i = 0; i < 20; i++) {
                say(from, &udp, "0");
                hear(alone, "0");
                say(from, &udp, "1");
                hear(other, "1");
        }
        test_pass();
}
