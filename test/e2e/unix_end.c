/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper timeout=60 */
/* One end of something with unix sockets whose other end may be anywhere: unix_end KIND ADDRESS. Afterwards it says "ping"
 * or waits for that. Driven by unix_outside.py. */
#include "e2e.h"

#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un a = { .sun_family = AF_UNIX };
static socklen_t alen;

static void expect(int fd, const char *want) {
        char buf[64] = "";
        ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

        CHECK(n == (ssize_t)strlen(want) && strcmp(buf, want) == 0, "got %zd bytes \"%s\", not \"%s\": %m",
              n, buf, want);
}

static void say(int fd, const char *text) {
        CHECK(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text), "send %s: %m", text);
}

/* With a descriptor. */
static void say_with(int fd, const char *text, int given) {
        char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(16))) = "";
        struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &given, sizeof(given));
        CHECK(sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)iov.iov_len, "send %s: %m", text);
}

static int make(int type, bool listens, bool connects) {
        int fd = SYS(socket(AF_UNIX, type, 0));

        if (connects)
                SYS(connect(fd, (struct sockaddr *)&a, alen));
        else
                SYS(bind(fd, (struct sockaddr *)&a, alen));
        if (listens)
                SYS(listen(fd, 5));
        return fd;
}

int main(int argc, char **argv) {
        const char *kind;
        int fd, other = -1;

        test_init(argc, argv);
        CHECK(argc == 3, "unix_end KIND ADDRESS");
        kind = argv[1];
        snprintf(a.sun_path, sizeof(a.sun_path), "%s", argv[2]);
        alen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(a.sun_path) +
                           (argv[2][0] != '@'));
        if (argv[2][0] == '@')
                a.sun_path[0] = 0;
        if (strcmp(kind, "inherited") == 0)
                fd = atoi(argv[2]);
        else if (strcmp(kind, "client") == 0 || strcmp(kind, "marked") == 0)
                fd = make(SOCK_STREAM, false, true);
        else if (strcmp(kind, "datagram-client") == 0)
                fd = make(SOCK_DGRAM, false, true);
        else if (strcmp(kind, "datagram-server") == 0)
                fd = make(SOCK_DGRAM, false, false);
        else
                fd = make(SOCK_STREAM, true, false);
        if (strcmp(kind, "marked") == 0) {
                struct pollfd p = { .fd = fd, .events = POLLPRI };
                char c;

                SYS(poll(&p, 1, -1));
                CHECK(recv(fd, &c, 1, MSG_OOB) == 1 && c == 'u', "receive urgent: %m");
        } else if (strcmp(kind, "unaccepted") == 0) {
                other = make(SOCK_STREAM, false, true);
                say(other, "early");
        } else if (strcmp(kind, "unaccepted-rights") == 0) {
                other = make(SOCK_STREAM, false, true);
                say_with(other, "early", fd);
        } else if (strcmp(kind, "unaccepted-urgent") == 0) {
                other = make(SOCK_STREAM, false, true);
                CHECK(send(other, "early", 5, MSG_OOB) == 5, "send urgent: %m");
        } else if (strcmp(kind, "closed") == 0) {
                close(make(SOCK_STREAM, false, true));
        } else if (strcmp(kind, "urgent") == 0) {
                other = make(SOCK_STREAM, false, true);
                fd = SYS(accept(fd, NULL, NULL));
                CHECK(send(other, "u", 1, MSG_OOB) == 1, "send urgent: %m");
        }
        test_ready();
        test_wait();
        if (strcmp(kind, "server") == 0) {
                fd = SYS(accept(fd, NULL, NULL));
                expect(fd, "ping");
                say(fd, "pong");
        } else if (strcmp(kind, "datagram-server") == 0) {
                expect(fd, "ping");
        } else if (strcmp(kind, "unaccepted-urgent") == 0) {
                expect(SYS(accept(fd, NULL, NULL)), "earl");
        } else if (strncmp(kind, "unaccepted", 10) == 0) {
                fd = SYS(accept(fd, NULL, NULL));
                expect(fd, "early");
        } else if (strcmp(kind, "closed") == 0) {
                expect(SYS(accept(fd, NULL, NULL)), "");
        } else if (strcmp(kind, "urgent") == 0) {
                char c;

                CHECK(recv(fd, &c, 1, MSG_OOB) == 1 && c == 'u', "receive urgent: %m");
        } else {
                say(fd, "ping");
                if (strcmp(kind, "datagram-client") != 0)
                        expect(fd, "pong");
        }
        test_pass();
}
