/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* A full descriptor table: nothing is free up to the limit, which is soft and hard. */
#include "e2e.h"

#include <sys/resource.h>

#define LIMIT 64

int main(int argc, char **argv) {
        struct rlimit rl = { LIMIT, LIMIT };
        struct ready_helper helper;
        int fd;

        test_init(argc, argv);
        ready_start(&helper);
        CHECK(setrlimit(RLIMIT_NOFILE, &rl) == 0, "setrlimit: %m");
        /* Keeps the number that ready_go() gives back. */
        while ((fd = open("/dev/zero", O_RDONLY)) >= 0)
                ;
        CHECK(errno == EMFILE, "open: %m");
        gate_open(&helper.g, 1);
        xwait(helper.pid, 0);
        test_wait();
        /* break: close(40); */
        /* break: dup2(1, 63); */
        CHECK(open("/dev/null", O_RDONLY) < 0 && errno == EMFILE, "one is free");
        for (fd = 0; fd < LIMIT; fd++) {
                char c = 1;

                CHECK(fcntl(fd, F_GETFD) == 0, "fd %d: %m", fd);
                if (fd > 4)
                        CHECK(read(fd, &c, 1) == 1 && c == 0, "fd %d: %m", fd);
        }
        close(33);
        CHECK(open("/dev/null", O_RDONLY) == 33, "open: %m");
        CHECK(getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur == LIMIT && rl.rlim_max == LIMIT,
              "the limit");
        test_pass();
}
