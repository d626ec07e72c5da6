/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/* Reads the events of a directory that it watches, and says how many there were at the end; see retry.py. */
#include <errno.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "testlib.h"

int main(int argc, char **argv) {
        char buf[4096] __attribute__((aligned(8)));
        size_t events = 0;
        int fd;

        test_init(argc, argv);
        SYS(mkdir("watched", 0700));
        fd = SYS(inotify_init1(IN_CLOEXEC));
        SYS(inotify_add_watch(fd, "watched", IN_CREATE));
        test_ready();
        test_allow_stop();
        while (!test_stop_requested()) {
                ssize_t n = read(fd, buf, sizeof(buf));

                CHECK(n > 0 || errno == EINTR, "read: %m");
                for (ssize_t at = 0; at < n; events++)
                        at += (ssize_t)(sizeof(struct inotify_event) +
                                        ((struct inotify_event *)(buf + at))->len);
        }
        CHECK_EQ(events, 1);
        test_pass();
}
