/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A small multi-process program to checkpoint: a parent and two children. Each child counts in its own memory
 * and writes a line to a file ten times a second. Nothing but memory knows how far it has counted.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int count_forever(const char *name, int fd, int step) {
        struct timespec tick = { .tv_nsec = 100 * 1000 * 1000 };
        int count = 0;

        if (prctl(PR_SET_NAME, name) < 0)
                return 1;
        for (;;) {
                count += step;
                if (dprintf(fd, "%s %d\n", name, count) < 0)
                        return 1;
                nanosleep(&tick, NULL);
        }
}

int main(int argc, char **argv) {
        int fd;

        if (argc != 2) {
                fprintf(stderr, "usage: demo FILE\n");
                return 2;
        }
        fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
        if (fd < 0) {
                perror(argv[1]);
                return 1;
        }
        for (int i = 0; i < 2; i++) {
                pid_t pid = fork();

                if (pid < 0) {
                        perror("fork");
                        return 1;
                }
                if (pid == 0)
                        _exit(count_forever(i == 0 ? "ones" : "tens", fd, i == 0 ? 1 : 10));
        }
        /* When one child ends, so does the other, and the program. */
        if (wait(NULL) < 0)
                perror("wait");
        signal(SIGTERM, SIG_IGN);
        kill(0, SIGTERM);
        return 1;
}
