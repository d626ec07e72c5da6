/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Asking for many members at once. kcmp(2) goes through all members for each, so a thousand of them are a million
 * steps. To register a file again under the number it has is refused with EEXIST, and found in a few steps: so
 * a process with a table of its own, in which it has the files under their numbers, tries. Should the kernel take
 * one, because the member is another file after all, it is removed again at once; it was registered for nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "fd/epoll.h"

struct job {
        int epfd, pidfd, above; /* above: all numbers that are asked for */
        const struct epoll_question *questions;
        size_t n;
        bool *answers;
};

static bool is_registered(int epfd, int number) {
        struct epoll_event nothing = { 0 };

        if (epoll_ctl(epfd, EPOLL_CTL_ADD, number, &nothing) < 0)
                return errno == EEXIST;
        epoll_ctl(epfd, EPOLL_CTL_DEL, number, &nothing);
        return false;
}

/* In the child, which has ckpt's memory: nothing but system calls. */
static void run(const struct job *job) {
        struct rlimit limit;
        int epfd, pidfd;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(RLIMIT_NOFILE, &limit);
        }
        epfd = fcntl(job->epfd, F_DUPFD, job->above);
        pidfd = fcntl(job->pidfd, F_DUPFD, job->above);
        if (epfd < 0 || pidfd < 0)
                return;
        syscall(SYS_close_range, 0, job->above - 1, 0);
        for (size_t i = 0; i < job->n; i++) {
                int number = job->questions[i].fd;
                int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

                if (fd >= 0 && (fd == number || dup2(fd, number) == number))
                        job->answers[i] = is_registered(epfd, number);
                if (fd >= 0 && fd != number)
                        close(fd);
                close(number);
        }
}

int epoll_ask_all(int epfd, int pidfd, const struct epoll_question *questions, size_t n, bool *ret) {
        struct job job = { .epfd = epfd, .pidfd = pidfd, .questions = questions, .n = n, .answers = ret };
        pid_t pid;

        for (size_t i = 0; i < n; i++)
                if (questions[i].fd >= job.above)
                        job.above = questions[i].fd + 1;
        if (job.above == 0)
                return 0;
        pid = vfork(); // NOLINT(clang-analyzer-security.insecureAPI.vfork)
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                run(&job); // NOLINT(clang-analyzer-unix.Vfork)
                _exit(0);
        }
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return 0;
}
