/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/*
 * A child, or with the argument "thread" a second thread, waits in a loop, each time in the same system call with the same
 * arguments, and leaves its UTS namespace when there is a byte in the fifo `go`; then it waits on. See retry.py.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "testlib.h"

static int go;

static void *leave(void *arg) {
        static char byte;

        while (syscall(SYS_read, go, &byte, 1, 0L, 0L, 0L) == 1)
                SYS(unshare(CLONE_NEWUTS));
        return arg;
}

int main(int argc, char **argv) {
        pthread_t thread;

        test_init(argc, argv);
        SYS(mkfifo("go", 0600));
        go = SYS(open("go", O_RDWR | O_CLOEXEC)); /* a writer of its own: no end of file */
        if (argc > 1 && strcmp(argv[1], "thread") == 0)
                CHECK_EQ(pthread_create(&thread, NULL, leave, NULL), 0);
        else if (SYS(fork()) == 0)
                leave(NULL);
        test_ready();
        test_wait();
        test_pass();
}
