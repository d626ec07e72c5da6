/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=120 */
/* Thousands of members in one epoll instance, each with data of its own. */
#include "e2e.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

enum { N = 5000 };

static int fds[N];

static uint64_t data_of(int i) {
        return (uint64_t)i * 0x9e3779b97f4a7c15;
}

int main(int argc, char **argv) {
        struct rlimit limit;
        int ep;

        test_init(argc, argv);
        SYS(getrlimit(RLIMIT_NOFILE, &limit));
        if (limit.rlim_max < N + 100)
                test_skip("only %llu descriptors", (unsigned long long)limit.rlim_max);
        limit.rlim_cur = limit.rlim_max;
        SYS(setrlimit(RLIMIT_NOFILE, &limit));
        ep = SYS(epoll_create1(0));
        for (int i = 0; i < N; i++) {
                struct epoll_event ev = { EPOLLIN | (i % 2 ? EPOLLET : 0), { .u64 = data_of(i) } };

                fds[i] = SYS(eventfd(0, EFD_NONBLOCK));
                SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &ev));
        }
        test_ready();
        test_wait();
        /* break: SYS(epoll_ctl(ep, EPOLL_CTL_DEL, fds[N - 1], NULL)); */
        /* break: { struct epoll_event ev = { EPOLLIN, { .u64 = 1 } }; SYS(epoll_ctl(ep, EPOLL_CTL_MOD, fds[77], &ev)); } */
        for (int i = 0; i < N; i++) {
                struct epoll_event ev = { 0 };
                eventfd_t v;

                CHECK(eventfd_write(fds[i], 1) == 0, "write: %m");
                CHECK(epoll_wait(ep, &ev, 1, 0) == 1 && ev.events == EPOLLIN && ev.data.u64 == data_of(i),
                      "member %d: data %" PRIx64 ", not %" PRIx64, i, ev.data.u64, data_of(i));
                CHECK(eventfd_read(fds[i], &v) == 0, "read: %m");
        }
        test_pass();
}
