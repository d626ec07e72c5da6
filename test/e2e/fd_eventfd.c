/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* eventfd: counters up to the largest, semaphores, flags of the file and of the descriptor, sharing with a child; a
 * full one blocks, an empty one too. */
#include "e2e.h"

#include <poll.h>
#include <sys/eventfd.h>

#define LARGEST (UINT64_MAX - 1)

static int make(int flags, uint64_t count) {
        int fd = SYS(eventfd(0, flags));

        if (count)
                CHECK(write(fd, &count, 8) == 8, "write: %m");
        return fd;
}

static void check_count(int fd, uint64_t want, const char *what) {
        uint64_t v = 0;

        CHECK(read(fd, &v, 8) == 8 && v == want, "%s: %" PRIu64 ", not %" PRIu64, what, v, want);
}

static void check_again(int fd, const char *what) {
        uint64_t v = 0;

        CHECK(read(fd, &v, 8) < 0 && errno == EAGAIN, "%s: still readable: %" PRIu64, what, v);
}

int main(int argc, char **argv) {
        int empty, seven, semaphore, full, largest_semaphore, big, shared, copy;
        struct gate ready, go, done;
        uint64_t v = 1;
        pid_t kid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&done);
        empty = make(EFD_NONBLOCK | EFD_CLOEXEC, 0);
        seven = make(0, 7);
        semaphore = make(EFD_SEMAPHORE | EFD_NONBLOCK, 3);
        full = make(EFD_NONBLOCK, LARGEST);
        largest_semaphore = make(EFD_SEMAPHORE | EFD_NONBLOCK, LARGEST);
        big = make(0, 0x123456789abcdef0);
        shared = make(EFD_NONBLOCK, 0);
        copy = SYS(dup(seven));
        kid = xfork();
        if (kid == 0) {
                struct pollfd p = { shared, POLLIN, 0 };

                gate_open(&ready, 1);
                gate_pass(&go, 1);
                CHECK(poll(&p, 1, 30000) == 1, "the child was not woken");
                check_count(shared, 41, "shared, in the child");
                gate_open(&done, 1);
                _exit(7);
        }
        gate_pass(&ready, 1);
        test_ready();
        test_wait();
        /* break: read(seven, &v, 8); write(seven, &v, 8); v = 1; write(seven, &v, 8); */
        /* break: fcntl(empty, F_SETFL, 0); alarm(1); */
        /* break: fcntl(empty, F_SETFD, 0); */
        /* break: dup2(make(EFD_NONBLOCK, 3), semaphore); */
        /* break: read(full, &v, 8); v = 1; */
        /* break: dup2(make(EFD_NONBLOCK, 0), shared); */
        CHECK(fcntl(empty, F_GETFL) == (O_RDWR | O_NONBLOCK) && fcntl(empty, F_GETFD) == FD_CLOEXEC,
              "flags of empty");
        CHECK(fcntl(seven, F_GETFL) == O_RDWR && fcntl(seven, F_GETFD) == 0, "flags of seven");
        check_again(empty, "empty");
        check_count(copy, 7, "seven");
        for (int i = 0; i < 3; i++)
                check_count(semaphore, 1, "semaphore");
        check_again(semaphore, "semaphore");
        CHECK(write(full, &v, 8) < 0 && errno == EAGAIN, "the full one takes more");
        check_count(full, LARGEST, "full");
        CHECK(write(largest_semaphore, &v, 8) < 0 && errno == EAGAIN, "the full semaphore takes more");
        check_count(largest_semaphore, 1, "full semaphore");
        CHECK(write(largest_semaphore, &v, 8) == 8, "it takes no more");
        check_count(big, 0x123456789abcdef0, "big");
        gate_open(&go, 1);
        v = 41;
        CHECK(write(shared, &v, 8) == 8, "write: %m");
        gate_pass(&done, 1);
        check_again(shared, "shared");
        xwait(kid, 7);
        v = 5;
        CHECK(write(semaphore, &v, 8) == 8 && write(empty, &v, 8) == 8, "write: %m");
        check_count(semaphore, 1, "semaphore, written again");
        check_count(empty, 5, "empty, written again");
        test_pass();
}
