/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: expect=refused is a directory of whose changes the program is told by signals */
/* fcntl(F_NOTIFY): a signal for each new name in a directory. */
#include "e2e.h"

static volatile sig_atomic_t told;

static void on_signal(int sig E2E_UNUSED) {
        told = 1;
}

int main(int argc, char **argv) {
        int fd;

        test_init(argc, argv);
        CHECK(signal(SIGUSR1, on_signal) != SIG_ERR, "signal: %m");
        CHECK(mkdir("watched", 0700) == 0, "mkdir: %m");
        fd = SYS(open("watched", O_RDONLY | O_DIRECTORY));
        SYS(fcntl(fd, F_SETSIG, SIGUSR1));
        if (fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT) < 0)
                test_skip("this kernel has no F_NOTIFY");
        test_ready();
        test_wait();
        CHECK(mkdir("watched/new", 0700) == 0, "mkdir: %m");
        /* A signal to itself is there when the call returns. */
        CHECK(told, "no signal came");
        test_pass();
}
