/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns expect=refused a client .* waits to be accepted that has sent something already */
/* A client of a unix socket that has sent descriptors, or urgent data, before it is accepted: refused before anything is stopped. */
#include <sys/socket.h>
#include <sys/un.h>

#include "e2e.h"

#ifndef URGENT
enum { URGENT = 0 };
#endif

static void say_urgently(int client) {
        if (send(client, "x", 1, MSG_OOB) < 0)
                test_skip("no urgent data in unix sockets here: %s", strerror(errno));
}

static void say_with_fd(int client, int fd) {
        union {
                struct cmsghdr head;
                char space[CMSG_SPACE(sizeof(int))];
        } control = { .head = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
        struct iovec iov = { "x", 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };

        memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
        SYS(sendmsg(client, &msg, 0));
}

int main(int argc, char **argv) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        socklen_t len = sizeof(a);
        int fd, client;
        char text[2] = "";

        test_init(argc, argv);
        fd = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
        SYS(bind(fd, (struct sockaddr *)&a, sizeof(sa_family_t)));
        SYS(listen(fd, 1));
        SYS(getsockname(fd, (struct sockaddr *)&a, &len));
        client = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
        SYS(connect(client, (struct sockaddr *)&a, len));
        if (URGENT)
                say_urgently(client);
        else
                say_with_fd(client, fd);
        test_ready();
        test_wait();
        CHECK(recv(SYS(accept(fd, NULL, NULL)), text, 1, URGENT ? MSG_OOB : 0) == 1 && text[0] == 'x',
              "it is gone: %m");
        test_pass();
}
