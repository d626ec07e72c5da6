/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/*
 * Descriptors and credentials in the queues of unix sockets: of files that somebody has open as well and of those that
 * nobody has, sockets that hold each other, sockets in sockets, a listener with a client; at which byte of a stream they
 * come; who has sent what to a socket with SO_PASSCRED.
 */
#include "e2e.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct gate ready, go;

struct message {
        char data[64];
        ssize_t len;
        int fds[8];
        size_t nr_fds;
        bool has_cred;
        struct ucred cred;
};

static void send_all(int fd, const char *text, const int *fds, size_t n, const struct ucred *cred) {
        char control[256] __attribute__((aligned(16))) = { 0 };
        struct iovec iov = { (void *)text, strlen(text) };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        struct cmsghdr *c = (struct cmsghdr *)control;

        if (n > 0) {
                *c = (struct cmsghdr){ CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
                memcpy(CMSG_DATA(c), fds, n * sizeof(int));
                msg.msg_controllen += CMSG_SPACE(n * sizeof(int));
                c = (struct cmsghdr *)(control + msg.msg_controllen);
        }
        if (cred) {
                *c = (struct cmsghdr){ CMSG_LEN(sizeof(*cred)), SOL_SOCKET, SCM_CREDENTIALS };
                memcpy(CMSG_DATA(c), cred, sizeof(*cred));
                msg.msg_controllen += CMSG_SPACE(sizeof(*cred));
        }
        msg.msg_control = msg.msg_controllen > 0 ? control : NULL;
        CHECK(sendmsg(fd, &msg, 0) == (ssize_t)strlen(text), "sendmsg: %m");
}

static void send_fd(int over, const char *text, int fd) {
        send_all(over, text, &fd, 1, NULL);
}

static struct message receive(int fd, size_t size) {
        char control[512] __attribute__((aligned(16)));
        struct message m = { 0 };
        struct iovec iov = { m.data, size };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };

        m.len = recvmsg(fd, &msg, MSG_DONTWAIT);
        CHECK(m.len >= 0, "recvmsg of fd %d: %m", fd);
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
                if (c->cmsg_type == SCM_RIGHTS) {
                        m.nr_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                        CHECK(m.nr_fds <= 8, "%zu descriptors", m.nr_fds);
                        memcpy(m.fds, CMSG_DATA(c), m.nr_fds * sizeof(int));
                } else if (c->cmsg_type == SCM_CREDENTIALS) {
                        m.has_cred = true;
                        memcpy(&m.cred, CMSG_DATA(c), sizeof(m.cred));
                }
        }
        return m;
}

static struct message expect(int fd, const char *text, size_t nr_fds) {
        struct message m = receive(fd, sizeof(((struct message *)0)->data));

        CHECK(m.len == (ssize_t)strlen(text) && memcmp(m.data, text, (size_t)m.len) == 0 &&
                      m.nr_fds == nr_fds,
              "got %zd bytes \"%.*s\" with %zu descriptors, not \"%s\" with %zu", m.len, (int)m.len, m.data,
              m.nr_fds, text, nr_fds);
        return m;
}

static int expect_fd(int fd, const char *text) {
        return expect(fd, text, 1).fds[0];
}

static bool same_file(int x, int y) {
        return syscall(SYS_kcmp, getpid(), getpid(), 0 /* KCMP_FILE */, x, y) == 0;
}

static int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
enum { LONG = 100000 };
static char long_text[LONG + 1];
static int long_stream[2];
static int s[3][2], file, pipe_read, cycle, nested, kept, stream[2], passes[3][2], connected;
static pid_t kid;

static void set_up_files(void) {
        char path[64];
        int only, p[2], ev;

        file = make_file(path, "file", "0123456789", 10);
        SYS(lseek(file, 3, SEEK_SET));
        only = make_file(path, "only", "abcdefghij", 10);
        SYS(lseek(only, 5, SEEK_SET));
        SYS(unlink(path));
        SYS(pipe(p));
        CHECK(write(p[1], "piped", 5) == 5, "write: %m");
        pipe_read = p[0];
        ev = SYS(eventfd(7, EFD_NONBLOCK));
        for (int i = 0; i < 3; i++) {
                int all[] = { file, only, p[1], ev };

                SYS(socketpair(AF_UNIX, types[i], 0, s[i]));
                send_all(s[i][0], "no descriptor", NULL, 0, NULL);
                send_fd(s[i][0], "the file", file);
                send_all(s[i][0], "four", all, 4, NULL);
                send_all(s[i][0], "more", NULL, 0, NULL);
        }
        close(only);
        close(p[1]);
        close(ev);
}

static void set_up_sockets(void) {
        int x[2], y[2], z[2], l, c;
        struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "in-queue.sock" };

        /* It has its own other end in its queue. */
        SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, x));
        send_fd(x[1], "own", x[1]);
        close(x[1]);
        cycle = x[0];
        /* One in the queue of one in the queue; two that hold each other. */
        SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, x));
        SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, y));
        SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, z));
        send_fd(y[1], "into y0", z[0]);
        send_fd(z[1], "into z0", y[0]);
        send_fd(z[1], "and", z[1]);
        send_fd(x[1], "into x0", y[0]);
        close(y[0]);
        close(y[1]);
        close(z[0]);
        close(z[1]);
        nested = x[0];
        kept = x[1];
        l = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
        SYS(bind(l, (struct sockaddr *)&a, sizeof(a)));
        SYS(listen(l, 3));
        c = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
        SYS(connect(c, (struct sockaddr *)&a, sizeof(a)));
        connected = c;
        send_fd(kept, "listener", l);
        close(l);
}

static void set_up_stream(void) {
        SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
        send_all(stream[0], "aaa", NULL, 0, NULL);
        send_all(stream[0], "bb", NULL, 0, NULL);
        send_fd(stream[0], "ccc", file);
        send_all(stream[0], "d", NULL, 0, NULL);
        send_fd(stream[0], "eeee", pipe_read);
        send_fd(stream[0], "f", file);
        send_all(stream[0], "gg", NULL, 0, NULL);
        SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, long_stream));
        memset(long_text, 'l', LONG);
        send_all(long_stream[0], long_text, NULL, 0, NULL);
        send_fd(long_stream[0], "here", file);
}

static int child(void) {
        for (int i = 0; i < 3; i++)
                send_all(passes[i][0], "child", NULL, 0, NULL);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        return 3;
}

static void set_up_creds(void) {
        int one = 1;

        for (int i = 0; i < 3; i++) {
                SYS(socketpair(AF_UNIX, types[i], 0, passes[i]));
                SYS(setsockopt(passes[i][1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)));
                send_all(passes[i][0], "parent", NULL, 0, NULL);
        }
        kid = xfork();
        if (kid == 0)
                _exit(child());
        gate_pass(&ready, 1);
        for (int i = 0; i < 3; i++) {
                struct ucred c = { getpid(), 1234, 2345 };

                send_all(passes[i][0], "with", &file, 1, &c);
                send_all(passes[i][0], "again", NULL, 0, NULL);
        }
}

static void check_files(void) {
        int first = -1;
        char buf[16];
        uint64_t n;

        for (int i = 0; i < 3; i++) {
                bool is_stream = types[i] == SOCK_STREAM;
                struct message m;
                int fd;

                if (!is_stream)
                        expect(s[i][1], "no descriptor", 0);
                fd = expect_fd(s[i][1], is_stream ? "no descriptorthe file" : "the file");
                CHECK(same_file(fd, file), "another file");
                CHECK_EQ(lseek(fd, 0, SEEK_CUR), 3);
                m = expect(s[i][1], "four", 4);
                CHECK(same_file(m.fds[0], file), "another file");
                if (first >= 0)
                        CHECK(same_file(first, m.fds[1]), "another file");
                first = m.fds[1];
                CHECK(pread(first, buf, 10, 0) == 10 && memcmp(buf, "abcdefghij", 10) == 0,
                      "what was deleted");
                CHECK_EQ(lseek(first, 0, SEEK_CUR), 5);
                CHECK(write(m.fds[2], "x", 1) == 1, "into the pipe: %m");
                if (i == 2)
                        CHECK(read(m.fds[3], &n, sizeof(n)) == sizeof(n) && n == 7, "eventfd: %m");
                close(m.fds[2]);
                expect(s[i][1], "more", 0);
        }
        CHECK(read(pipe_read, buf, sizeof(buf)) == 8 && memcmp(buf, "pipedxxx", 8) == 0, "the pipe: %m");
        CHECK(read(pipe_read, buf, sizeof(buf)) == 0, "the pipe has another writer");
}

static void check_sockets(void) {
        int own, y0, z0, z1, l, c;

        own = expect_fd(cycle, "own");
        send_all(own, "to the other", NULL, 0, NULL);
        expect(cycle, "to the other", 0);
        y0 = expect_fd(nested, "into x0");
        z0 = expect_fd(y0, "into y0");
        CHECK(same_file(expect_fd(z0, "into z0"), y0), "another y0");
        z1 = expect_fd(z0, "and");
        send_all(z1, "at last", NULL, 0, NULL);
        expect(z0, "at last", 0);
        l = expect_fd(nested, "listener");
        c = SYS(accept(l, NULL, NULL));
        send_all(c, "accepted", NULL, 0, NULL);
        expect(connected, "accepted", 0);
        send_all(kept, "still", NULL, 0, NULL);
        expect(nested, "still", 0);
}

/* Byte by byte: the descriptors come with the first one of theirs. */
static void check_stream(void) {
        static const char text[] = "aaabbcccdeeeefgg", with[] = "5, 9, 13";

        for (size_t i = 0; i < sizeof(text) - 1; i++) {
                struct message m = receive(stream[1], 1);
                bool has = i == 5 || i == 9 || i == 13;

                CHECK(m.len == 1 && m.data[0] == text[i] && m.nr_fds == has, "byte %zu: '%c' with %zu (%s)",
                      i, m.data[0], m.nr_fds, with);
                if (has)
                        CHECK(same_file(m.fds[0], i == 9 ? pipe_read : file), "byte %zu: another file", i);
        }
        for (size_t got = 0; got < LONG;) {
                ssize_t n = recv(long_stream[1], long_text, LONG - got, MSG_DONTWAIT);

                CHECK(n > 0, "recv: %m");
                got += (size_t)n;
        }
        CHECK(same_file(expect_fd(long_stream[1], "here"), file), "another file");
}

static void check_from(int fd, const char *text, pid_t pid, uid_t uid, gid_t gid, size_t nr_fds) {
        struct message m = expect(fd, text, nr_fds);

        CHECK(m.has_cred && m.cred.pid == pid && m.cred.uid == uid && m.cred.gid == gid,
              "%s: from pid %d, %u:%u, not %d, %u:%u", text, m.cred.pid, m.cred.uid, m.cred.gid, pid, uid,
              gid);
}

static void check_creds(void) {
        for (int i = 0; i < 3; i++) {
                check_from(passes[i][1], "parent", getpid(), 0, 0, 0);
                check_from(passes[i][1], "child", kid, 0, 0, 0);
                check_from(passes[i][1], "with", getpid(), 1234, 2345, 1);
                check_from(passes[i][1], "again", getpid(), 0, 0, 0);
        }
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        set_up_files();
        set_up_sockets();
        set_up_stream();
        set_up_creds();
        test_ready();
        test_wait();
        check_stream();
        check_files();
        check_sockets();
        check_creds();
        gate_open(&go, 1);
        xwait(kid, 3);
        test_pass();
}
