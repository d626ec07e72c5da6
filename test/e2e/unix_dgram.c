/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/*
 * Datagram sockets: many senders to one, by name and connected; who has sent each waiting message, also when that one has
 * closed its socket since; two that are connected to each other by name; empty messages; a program that peeks itself
 * (SO_PEEK_OFF); autobind.
 */
#include "e2e.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un server_name;

static socklen_t path_name(struct sockaddr_un *a, const char *path) {
        memset(a, 0, sizeof(*a));
        a->sun_family = AF_UNIX;
        snprintf(a->sun_path, sizeof(a->sun_path), "%s", path);
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
}

static int make(const char *path) {
        int fd = SYS(socket(AF_UNIX, SOCK_DGRAM, 0));
        struct sockaddr_un a;

        if (path)
                SYS(bind(fd, (struct sockaddr *)&a, path_name(&a, path)));
        return fd;
}

static void connect_to(int fd, const char *path) {
        struct sockaddr_un a;

        SYS(connect(fd, (struct sockaddr *)&a, path_name(&a, path)));
}

static void put(int fd, const char *text) {
        CHECK(send(fd, text, strlen(text), 0) == (ssize_t)strlen(text), "send %s: %m", text);
}

static void put_to(int fd, const char *path, const char *text) {
        struct sockaddr_un a;

        CHECK(sendto(fd, text, strlen(text), 0, (struct sockaddr *)&a, path_name(&a, path)) ==
                      (ssize_t)strlen(text),
              "send %s: %m", text);
}

/* `from`: NULL: nobody; '@': any abstract name. */
static void get(int fd, const char *want, const char *from) {
        struct sockaddr_un a = { 0 };
        socklen_t len = sizeof(a);
        char buf[200] = "";
        ssize_t n = recvfrom(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT, (struct sockaddr *)&a, &len);
        const char *path = len > sizeof(sa_family_t) ? a.sun_path : "";

        CHECK(n == (ssize_t)strlen(want) && memcmp(buf, want, (size_t)n) == 0,
              "got %zd bytes \"%s\", not \"%s\": %m", n, buf, want);
        CHECK(from && *from == '@' ? len > 2 && a.sun_path[0] == 0 : strcmp(path, from ? from : "") == 0,
              "\"%s\" is from \"%s\" (%u), not from \"%s\"", want, path, len, from ? from : "nobody");
}

static void get_none(int fd) {
        char c;

        CHECK(recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "there is something: %m");
}

int main(int argc, char **argv) {
        int server, named, other, unnamed, connected[3], a, b, back, one = 1, zero = 0, peeker[2], passing,
                                                                     lost, moved[2];
        socklen_t len = sizeof(int);
        char buf[16];
        int off;

        test_init(argc, argv);
        server = make("server.sock");
        path_name(&server_name, "server.sock");
        named = make("named.sock");
        other = make("other.sock");
        unnamed = make(NULL);
        put_to(named, "server.sock", "from named");
        put_to(unnamed, "server.sock", "from nobody");
        put_to(other, "server.sock", "");
        put_to(other, "server.sock", "from other");
        close(other);
        SYS(unlink("other.sock"));
        for (int i = 0; i < 3; i++) {
                connected[i] = make(i == 0 ? "connected.sock" : NULL);
                connect_to(connected[i], "server.sock");
                put(connected[i], "connected");
        }
        /* each other's */
        a = make("a.sock");
        b = make("b.sock");
        connect_to(a, "b.sock");
        connect_to(b, "a.sock");
        for (int i = 0; i < 20; i++)
                put(a, "a to b");
        put(b, "b to a");
        /* one sends to whom another is connected to */
        back = make("back.sock");
        connect_to(back, "named.sock");
        SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, peeker));
        for (int i = 0; i < 4; i++)
                put(peeker[1], i % 2 ? "odd" : "even");
        SYS(setsockopt(peeker[0], SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero)));
        CHECK(recv(peeker[0], buf, sizeof(buf), MSG_PEEK) == 4, "peek: %m");
        passing = SYS(socket(AF_UNIX, SOCK_DGRAM, 0));
        SYS(setsockopt(passing, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)));
        connect_to(passing, "server.sock"); /* it gets a name */
        put(passing, "from autobind");
        /* whom it was connected to has gone, with messages unread here */
        lost = make("lost.sock");
        other = make("gone.sock");
        put_to(other, "lost.sock", "from gone");
        connect_to(lost, "gone.sock");
        close(other);
        /* a pair, one end of which has turned to somebody else */
        SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, moved));
        connect_to(moved[1], "server.sock");
        test_ready();
        test_wait();
        get(server, "from named", "named.sock");
        get(server, "from nobody", NULL);
        get(server, "", "other.sock");
        get(server, "from other", "other.sock");
        for (int i = 0; i < 3; i++)
                get(server, "connected", i == 0 ? "connected.sock" : NULL);
        get(server, "from autobind", "@");
        get_none(server);
        CHECK(access("other.sock", F_OK) < 0, "other.sock is there");
        for (int i = 0; i < 3; i++) {
                put(connected[i], "again");
                get(server, "again", i == 0 ? "connected.sock" : NULL);
        }
        put(passing, "again");
        get(server, "again", "@");
        put_to(server, "named.sock", "answer");
        get(named, "answer", "server.sock");
        for (int i = 0; i < 20; i++)
                get(b, "a to b", "a.sock");
        get(a, "b to a", "b.sock");
        put(b, "more");
        get(a, "more", "b.sock");
        {
                struct sockaddr_un to;
                socklen_t size = path_name(&to, "a.sock");

                CHECK(sendto(named, "x", 1, 0, (struct sockaddr *)&to, size) < 0 && errno == EPERM,
                      "a stranger could send to a connected one: %m");
        }
        put(back, "to named");
        get(named, "to named", "back.sock");
        SYS(getsockopt(peeker[0], SOL_SOCKET, SO_PEEK_OFF, &off, &len));
        CHECK_EQ(off, 4);
        CHECK(recv(peeker[0], buf, sizeof(buf), MSG_PEEK) == 3 && memcmp(buf, "odd", 3) == 0, "peek: %m");
        for (int i = 0; i < 4; i++)
                get(peeker[0], i % 2 ? "odd" : "even", NULL);
        get(lost, "from gone", "gone.sock");
        CHECK(send(lost, "x", 1, MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED, "lost: %m");
        put(moved[1], "moved");
        get(server, "moved", NULL);
        test_pass();
}
