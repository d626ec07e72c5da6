/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns */
/*
 * Empty packets in unix sockets, between others, with names, credentials and descriptors. Some have been looked at (MSG_PEEK with
 * SO_PEEK_OFF), as by an earlier dump: the kernel passes those over when it is asked again, but they are there.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include "e2e.h"

enum { NONE = -1 };

struct queue {
        int from, to, kept[2], lost[2];
        struct sockaddr_un name;
        socklen_t len;
};

static void say(int fd, const char *text, int with) {
        char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(16))) = "";
        struct iovec iov = { (char *)text, strlen(text) };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (with != NONE) {
                *(struct cmsghdr *)control =
                        (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
                msg.msg_control = control;
                msg.msg_controllen = sizeof(control);
                memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &with, sizeof(with));
        }
        CHECK(sendmsg(fd, &msg, 0) == (ssize_t)strlen(text), "%s: %m", text);
}

/* Returns the descriptor that came with it, or NONE. */
static int hear(const struct queue *q, const char *text) {
        char buf[16] = "", control[256] __attribute__((aligned(16)));
        struct iovec iov = { buf, sizeof(buf) };
        struct sockaddr_un name = { 0 };
        struct msghdr msg = { .msg_name = &name,
                              .msg_namelen = sizeof(name),
                              .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = sizeof(control) };
        struct ucred cred = { 0 };
        int fd = NONE;

        CHECK(recvmsg(q->to, &msg, MSG_DONTWAIT) == (ssize_t)strlen(text) && strcmp(buf, text) == 0,
              "\"%s\" instead of \"%s\": %m", buf, text);
        CHECK(msg.msg_namelen == q->len && memcmp(&name, &q->name, q->len) == 0, "\"%s\": another sender",
              text);
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
                memcpy(c->cmsg_type == SCM_RIGHTS ? (void *)&fd : &cred, CMSG_DATA(c),
                       c->cmsg_type == SCM_RIGHTS ? sizeof(fd) : sizeof(cred));
        CHECK(cred.pid == getpid() && cred.uid == getuid(), "\"%s\": from pid %d", text, cred.pid);
        return fd;
}

static void look_at(int fd) {
        int off = 0, none = -1;
        char buf[16];

        SYS(setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)));
        for (int i = 0; i < 20; i++)
                if (recv(fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT) < 0)
                        break;
        SYS(setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof(none)));
}

static void set_up(struct queue *q, int type) {
        const struct sockaddr_un any = { .sun_family = AF_UNIX };
        const int on = 1;
        int s[2];

        SYS(socketpair(AF_UNIX, type, 0, s));
        q->from = s[0];
        q->to = s[1];
        SYS(pipe(q->kept));
        SYS(pipe(q->lost));
        CHECK(write(q->lost[1], "deep", 4) == 4, "%m");
        SYS(setsockopt(q->to, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
        if (type == SOCK_DGRAM) {
                SYS(bind(q->from, (const struct sockaddr *)&any, sizeof(sa_family_t)));
                q->len = sizeof(q->name);
                SYS(getsockname(q->from, (struct sockaddr *)&q->name, &q->len));
        }
        say(q->from, "one", NONE);
        say(q->from, "", NONE);
        say(q->from, "", q->kept[1]);
        say(q->from, "two", NONE);
        look_at(q->to);
        say(q->from, "", NONE);
        say(q->from, "", q->lost[0]);
        say(q->from, "three", NONE);
        say(q->from, "", NONE);
        say(q->from, "", q->lost[0]);
        SYS(close(q->lost[0]));
}

static void check(const struct queue *q) {
        char buf[8] = "";
        int fd;

        CHECK(hear(q, "one") == NONE && hear(q, "") == NONE, "a descriptor from nowhere");
        fd = hear(q, "");
        CHECK(fd >= 0 && write(fd, "x", 1) == 1 && read(q->kept[0], buf, 1) == 1 && *buf == 'x',
              "the pipe: %m");
        CHECK(hear(q, "two") == NONE && hear(q, "") == NONE, "a descriptor from nowhere");
        fd = hear(q, "");
        CHECK(fd >= 0 && read(fd, buf, 8) == 4 && memcmp(buf, "deep", 4) == 0, "the other pipe: %m");
        CHECK(hear(q, "three") == NONE && hear(q, "") == NONE, "a descriptor from nowhere");
        CHECK(hear(q, "") >= 0, "no pipe at the end");
        CHECK(recv(q->to, buf, 8, MSG_DONTWAIT) < 0 && errno == EAGAIN, "there is more");
}

int main(int argc, char **argv) {
        struct queue datagrams = { 0 }, packets = { 0 };

        test_init(argc, argv);
        set_up(&datagrams, SOCK_DGRAM);
        set_up(&packets, SOCK_SEQPACKET);
        test_ready();
        test_wait();
        check(&datagrams);
        check(&packets);
        test_pass();
}
