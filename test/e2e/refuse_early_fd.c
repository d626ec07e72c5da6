/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns expect=refused clients wait to be accepted, and one has sent descriptors of a file that no process .* has open */
/*
 * A client of a unix socket that has sent a descriptor before it was accepted, and closed it then: nobody can get at what it
 * refers to. Refused before anything is stopped.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include "e2e.h"

static void say_with_fd(int client, int fd) {
        char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(16))) = "";
        struct iovec iov = { (char *)"x", 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };

        *(struct cmsghdr *)control = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
        SYS(sendmsg(client, &msg, 0));
}

static int hear_fd(int from) {
        char c, control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(16))) = "";
        struct iovec iov = { &c, 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        int fd;

        CHECK(recvmsg(from, &msg, 0) == 1 && CMSG_FIRSTHDR(&msg), "it is gone: %m");
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
        return fd;
}

int main(int argc, char **argv) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        socklen_t len = sizeof(a);
        int fd, client, ends[2];
        char text[4] = "";

        test_init(argc, argv);
        fd = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
        SYS(bind(fd, (struct sockaddr *)&a, sizeof(sa_family_t)));
        SYS(listen(fd, 1));
        SYS(getsockname(fd, (struct sockaddr *)&a, &len));
        client = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
        SYS(connect(client, (struct sockaddr *)&a, len));
        SYS(pipe(ends));
        CHECK(write(ends[1], "yes", 3) == 3, "%m");
        say_with_fd(client, ends[0]);
        SYS(close(ends[0]));
        test_ready();
        test_wait();
        CHECK(read(hear_fd(SYS(accept(fd, NULL, NULL))), text, 3) == 3 && strcmp(text, "yes") == 0,
              "not the pipe that was sent");
        test_pass();
}
