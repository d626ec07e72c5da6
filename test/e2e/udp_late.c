/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/* A server that reads nothing until it is told to: then it answers everything that has come, in capitals. */
#include <ctype.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "e2e.h"

int main(int argc, char **argv) {
        struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
        socklen_t len = sizeof(a);
        char buf[2048];
        int fd, n = 0, out;
        ssize_t got;

        test_init(argc, argv);
        fd = SYS(socket(AF_INET6, SOCK_DGRAM, 0));
        SYS(bind(fd, (struct sockaddr *)&a, len));
        SYS(getsockname(fd, (struct sockaddr *)&a, &len));
        out = SYS(open("port", O_WRONLY | O_CREAT | O_TRUNC, 0644));
        dprintf(out, "%u\n", ntohs(a.sin6_port));
        close(out);
        test_ready();
        test_wait();
        for (;;) {
                len = sizeof(a);
                got = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&a, &len);
                if (got < 0)
                        break;
                for (ssize_t i = 0; i < got; i++)
                        buf[i] = (char)toupper(buf[i]);
                CHECK(sendto(fd, buf, (size_t)got, 0, (struct sockaddr *)&a, len) == got, "answer: %m");
                n++;
        }
        CHECK_EQ(n, 40);
        test_pass();
}
