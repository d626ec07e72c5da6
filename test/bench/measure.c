/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * measure RESULT LOG COMMAND [ARG...]: run a command, its output going to LOG, and write one line into RESULT:
 * microseconds of wall time from before its start to its end, microseconds of CPU time of it and its children that
 * it waited for, and its exit status (128 + signal when killed). A small program, so that starting the
 * command costs what a shell's start of it would, and not what forking an interpreter costs.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long long now_us(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static long long timeval_us(struct timeval t) {
        return t.tv_sec * 1000000LL + t.tv_usec;
}

int main(int argc, char **argv) {
        posix_spawn_file_actions_t actions;
        struct rusage usage;
        long long start, end;
        int status, error;
        FILE *result;
        pid_t pid;

        if (argc < 4) {
                fprintf(stderr, "usage: measure RESULT LOG COMMAND [ARG...]\n");
                return 2;
        }
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, argv[2], O_WRONLY | O_CREAT | O_TRUNC,
                                         0600);
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);

        start = now_us();
        error = posix_spawnp(&pid, argv[3], &actions, NULL, argv + 3, environ);
        if (error != 0) {
                fprintf(stderr, "measure: cannot start %s: %s\n", argv[3], strerror(error));
                return 2;
        }
        while (wait4(pid, &status, 0, &usage) < 0)
                if (errno != EINTR)
                        return 2;
        end = now_us();

        posix_spawn_file_actions_destroy(&actions);
        result = fopen(argv[1], "we");
        if (!result)
                return 2;
        fprintf(result, "%lld %lld %d\n", end - start,
                timeval_us(usage.ru_utime) + timeval_us(usage.ru_stime),
                WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        return fclose(result) == 0 ? 0 : 2;
}
