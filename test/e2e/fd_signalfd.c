/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* signalfd: its set, flags, a signal that is pending at the time, one shared by parent and child (each sees its own
 * signals), and one that an epoll instance watches. */
#include "e2e.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

static int make(int flags, int a, int b) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, a);
        sigaddset(&set, b);
        sigprocmask(SIG_BLOCK, &set, NULL);
        return SYS(signalfd(-1, &set, flags));
}

static int next(int fd, uint64_t *ret_value) {
        struct signalfd_siginfo si;

        if (read(fd, &si, sizeof(si)) != sizeof(si))
                return -errno;
        if (ret_value)
                *ret_value = si.ssi_ptr;
        return (int)si.ssi_signo;
}

static uint64_t mask_of(int fd) {
        char path[64], text[512], *at;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        CHECK(read_file(path, text, sizeof(text)) > 0 && (at = strstr(text, "sigmask:")), "no mask");
        return strtoull(at + 8, NULL, 16);
}

int main(int argc, char **argv) {
        int both, rt, ep;
        struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = 0xfeedface12345678 };
        union sigval value = { .sival_ptr = (void *)0x1122334455667788 };
        struct gate ready, go;
        pid_t kid;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        both = make(SFD_NONBLOCK | SFD_CLOEXEC, SIGUSR1, SIGUSR2);
        rt = make(0, SIGRTMIN + 3, SIGRTMAX);
        ep = SYS(epoll_create1(0));
        SYS(epoll_ctl(ep, EPOLL_CTL_ADD, both, &ev));
        CHECK(sigqueue(getpid(), SIGRTMAX, value) == 0, "sigqueue: %m");
        kid = xfork();
        if (kid == 0) {
                struct pollfd p = { both, POLLIN, 0 };

                gate_open(&ready, 1);
                gate_pass(&go, 1);
                CHECK(next(both, NULL) == -EAGAIN, "the child sees a signal of its parent");
                CHECK(kill(getpid(), SIGUSR2) == 0 && poll(&p, 1, 30000) == 1 && next(both, NULL) == SIGUSR2,
                      "child");
                _exit(5);
        }
        gate_pass(&ready, 1);
        test_ready();
        test_wait();
        /* break: close(both); both = make(SFD_NONBLOCK | SFD_CLOEXEC, SIGUSR1, SIGWINCH); */
        /* break: fcntl(both, F_SETFL, 0); alarm(1); */
        /* break: SYS(epoll_ctl(ep, EPOLL_CTL_DEL, both, &ev)); */
        /* break: ev.events = EPOLLIN; ev.data.u64 = 1; SYS(epoll_ctl(ep, EPOLL_CTL_MOD, both, &ev)); */
        /* break: next(rt, NULL); alarm(1); */
        {
                uint64_t got = 0;

                CHECK(mask_of(both) == (1ULL << (SIGUSR1 - 1) | 1ULL << (SIGUSR2 - 1)), "mask %" PRIx64,
                      mask_of(both));
                CHECK(fcntl(both, F_GETFL) == (O_RDWR | O_NONBLOCK) && fcntl(both, F_GETFD) == FD_CLOEXEC,
                      "flags");
                CHECK(next(rt, &got) == SIGRTMAX && got == 0x1122334455667788, "pending signal: %" PRIx64,
                      got);
        }
        CHECK(next(both, NULL) == -EAGAIN, "there is a signal");
        CHECK(epoll_wait(ep, &ev, 1, 0) == 0, "epoll knows of a signal");
        gate_open(&go, 1);
        xwait(kid, 5);
        /* Edge-triggered: only if this process's own signals wake the instance. */
        CHECK(kill(getpid(), SIGUSR1) == 0 && epoll_wait(ep, &ev, 1, 5000) == 1 &&
                      ev.data.u64 == 0xfeedface12345678,
              "epoll was not woken by the signal");
        CHECK(next(both, NULL) == SIGUSR1, "SIGUSR1 is not there");
        test_pass();
}
