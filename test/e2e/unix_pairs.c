/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/*
 * Pairs of every type, within a process, over fork(2) and dup(2): data in both directions, with the boundaries of
 * messages, shut-down halves, options, credentials, and ends whose peer has closed.
 */
#include "e2e.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { BIG = 150000, MANY = 40 };

static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };

struct pairs {
        int plain[3][2]; /* with three messages each way */
        int empty[3][2];
        int big[3][2];
        int rd[3][2], wr[3][2], both[3][2];
        int closed[3]; /* peer closed, unread data left */
        int reset[3];  /* peer closed without having read */
        int idle[3];   /* peer closed, nothing left */
        int forked[2];
        int copy;
        int many[MANY][2];
        int buffers[2];
};

static struct gate ready, go;
static pid_t kid;

static void put(int fd, const char *text) {
        CHECK(send(fd, text, strlen(text), 0) == (ssize_t)strlen(text), "send %s: %m", text);
}

static void get(int fd, const char *want) {
        char buf[200] = "";
        ssize_t n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);

        CHECK(n == (ssize_t)strlen(want) && memcmp(buf, want, (size_t)n) == 0,
              "got %zd bytes \"%s\", not \"%s\": %m", n, buf, want);
}

static void get_none(int fd) {
        char c;

        CHECK(recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "there is something: %m");
}

static void get_end(int fd) {
        char c;
        ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

        CHECK(n == 0, "%zd, not the end: %m", n);
}

static void talk(int a, int b) {
        put(a, "there");
        get(b, "there");
        put(b, "and back");
        get(a, "and back");
}

static void set_up_type(struct pairs *p, int i) {
        static char big[BIG];
        int s[2];

        SYS(socketpair(AF_UNIX, types[i], 0, p->plain[i]));
        for (int end = 0; end < 2; end++) {
                put(p->plain[i][end], "one");
                put(p->plain[i][end], end ? "two, the other way" : "two");
                put(p->plain[i][end], "three");
        }
        SYS(socketpair(AF_UNIX, types[i], 0, p->empty[i]));
        SYS(socketpair(AF_UNIX, types[i], 0, p->big[i]));
        test_fill(big, BIG, (uint64_t)i + 1);
        CHECK(send(p->big[i][0], big, BIG, MSG_DONTWAIT) == BIG, "big: %m");
        SYS(socketpair(AF_UNIX, types[i], 0, p->rd[i]));
        SYS(socketpair(AF_UNIX, types[i], 0, p->wr[i]));
        SYS(socketpair(AF_UNIX, types[i], 0, p->both[i]));
        put(p->wr[i][0], "before");
        put(p->both[i][1], "before");
        SYS(shutdown(p->rd[i][0], SHUT_RD));
        SYS(shutdown(p->wr[i][0], SHUT_WR));
        SYS(shutdown(p->both[i][0], SHUT_RDWR));
        SYS(socketpair(AF_UNIX, types[i], 0, s));
        p->closed[i] = s[0];
        put(s[1], "last words");
        close(s[1]);
        SYS(socketpair(AF_UNIX, types[i], 0, s));
        p->reset[i] = s[0];
        if (types[i] == SOCK_STREAM)
                put(s[1], "words");
        put(s[0], "unheard");
        close(s[1]);
        SYS(socketpair(AF_UNIX, types[i], 0, s));
        p->idle[i] = s[0];
        close(s[1]);
}

static int get_option(int fd, int name) {
        int value = 0;
        socklen_t len = sizeof(value);

        SYS(getsockopt(fd, SOL_SOCKET, name, &value, &len));
        return value;
}

static void set_option(int fd, int name, int value) {
        SYS(setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value)));
}

static void check_cred(int fd, pid_t pid) {
        struct ucred c = { 0 };
        socklen_t len = sizeof(c);

        SYS(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len));
        CHECK(c.pid == pid && c.uid == geteuid() && c.gid == getegid(), "pid %d uid %u gid %u, not %d %u %u",
              c.pid, c.uid, c.gid, pid, geteuid(), getegid());
}

static void check_type(struct pairs *p, int i) {
        bool stream = types[i] == SOCK_STREAM, packets = !stream;
        static char big[BIG + 1];
        char c;

        for (int end = 0; end < 2; end++) {
                const char *two = end ? "two, the other way" : "two";
                char all[64];

                snprintf(all, sizeof(all), "one%sthree", two);
                if (packets) {
                        get(p->plain[i][!end], "one");
                        get(p->plain[i][!end], two);
                        get(p->plain[i][!end], "three");
                } else
                        get(p->plain[i][!end], all);
                get_none(p->plain[i][!end]);
        }
        talk(p->plain[i][0], p->plain[i][1]);
        get_none(p->empty[i][0]);
        get_none(p->empty[i][1]);
        talk(p->empty[i][0], p->empty[i][1]);
        check_cred(p->empty[i][0], getpid());
        check_cred(p->empty[i][1], getpid());
        CHECK(recv(p->big[i][1], big, sizeof(big), stream ? MSG_WAITALL | MSG_DONTWAIT : 0) == BIG,
              "big: %m");
        test_verify(big, BIG, (uint64_t)i + 1, "the big message");
        CHECK(send(p->wr[i][0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "it could be written: %m");
        get(p->wr[i][1], "before");
        if (types[i] != SOCK_DGRAM) {
                CHECK(send(p->rd[i][1], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "peer could write: %m");
                get_end(p->rd[i][0]);
                get_end(p->wr[i][1]);
                get(p->both[i][0], "before");
                get_end(p->both[i][0]);
                get_end(p->both[i][1]);
        }
        put(p->rd[i][0], "still");
        get(p->rd[i][1], "still");
        /* an error comes before data */
        if (types[i] == SOCK_DGRAM) {
                get(p->closed[i], "last words");
                CHECK(send(p->idle[i], "x", 1, MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED, "send: %m");
                return;
        }
        CHECK_EQ(get_option(p->reset[i], SO_ERROR), ECONNRESET);
        if (stream)
                get(p->reset[i], "words");
        get_end(p->reset[i]);
        CHECK_EQ(get_option(p->closed[i], SO_ERROR), 0);
        get(p->closed[i], "last words");
        get_end(p->closed[i]);
        CHECK(recv(p->idle[i], &c, 1, MSG_DONTWAIT) == 0, "idle: %m");
        CHECK(send(p->idle[i], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "send: %m");
}

static int child(struct pairs *p) {
        close(p->forked[0]);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        get(p->forked[1], "to the child");
        put(p->forked[1], "to the parent");
        check_cred(p->forked[1], getppid());
        return 3;
}

int main(int argc, char **argv) {
        static struct pairs p;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        for (int i = 0; i < 3; i++)
                set_up_type(&p, i);
        SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p.forked));
        put(p.forked[0], "to the child");
        kid = xfork();
        if (kid == 0)
                _exit(child(&p));
        gate_pass(&ready, 1);
        close(p.forked[1]);
        p.copy = SYS(dup(p.forked[0]));
        for (int i = 0; i < MANY; i++) {
                SYS(socketpair(AF_UNIX, types[i % 3], 0, p.many[i]));
                put(p.many[i][i % 2], "many");
        }
        SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, p.buffers));
        set_option(p.buffers[0], SO_SNDBUF, 20000);
        set_option(p.buffers[0], SO_RCVBUF, 30000);
        set_option(p.buffers[0], SO_PASSCRED, 1);
        set_option(p.buffers[1], SO_RCVLOWAT, 7);
        SYS(fchown(p.buffers[1], 1234, 567));
        test_ready();
        test_wait();
        for (int i = 0; i < 3; i++)
                check_type(&p, i);
        gate_open(&go, 1);
        xwait(kid, 3);
        get(p.copy, "to the parent");
        get_end(p.forked[0]);
        CHECK(fcntl(p.copy, F_GETFL) & O_NONBLOCK, "not O_NONBLOCK");
        for (int i = 0; i < MANY; i++) {
                get(p.many[i][!(i % 2)], "many");
                talk(p.many[i][0], p.many[i][1]);
        }
        CHECK_EQ(get_option(p.buffers[0], SO_SNDBUF), 40000);
        CHECK_EQ(get_option(p.buffers[0], SO_RCVBUF), 60000);
        CHECK_EQ(get_option(p.buffers[0], SO_PASSCRED), 1);
        CHECK_EQ(get_option(p.buffers[1], SO_PASSCRED), 0);
        CHECK_EQ(get_option(p.buffers[1], SO_RCVLOWAT), 7);
        {
                struct stat st;

                SYS(fstat(p.buffers[1], &st));
                CHECK_EQ(st.st_uid, 1234);
                CHECK_EQ(st.st_gid, 567);
        }
        test_pass();
}
