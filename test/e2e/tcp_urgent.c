/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns nocheck timeout=60 dump=--tcp-established restore=--tcp-established */
/*
 * Urgent data of TCP that waits: its byte, its mark, what is before and behind it; in line and not, read and unread, at the
 * beginning and at the end of the queue, over IPv6, in a connection that its peer has closed; and no second SIGURG.
 */
#include <poll.h>

#include "e2e_net.h"

enum kind { PLAIN, IN_LINE, READ, HEAD, LAST, IPV6, OWNED, CLOSED, READ_HEAD, NONE, KINDS };

static const char *const names[] = { "plain", "in line", "read",   "head",      "last",
                                     "IPv6",  "owned",   "closed", "read head", "none" };
static int ours[KINDS], peer[KINDS];
static volatile sig_atomic_t signals;

static void on_urg(int sig E2E_UNUSED) {
        signals++;
}

static void make_pair(int family, int *ret, int *ret_peer) {
        int listener = bound(family, SOCK_STREAM);

        SYS(listen(listener, 1));
        *ret_peer = connected(listener);
        *ret = SYS(accept(listener, NULL, NULL));
        close(listener);
}

static void say(int i, const char *text, int flags) {
        CHECK(send(peer[i], text, strlen(text), flags) == (ssize_t)strlen(text), "%s: send: %m", names[i]);
}

static void await(int fd, short events) {
        struct pollfd p = { .fd = fd, .events = events };

        CHECK(poll(&p, 1, 30000) == 1, "nothing comes");
}

static void await_bytes(int i, int n) {
        int have = 0;

        while (have < n)
                SYS(ioctl(ours[i], FIONREAD, &have));
}

/* Reads exactly this, and not on behind it. */
static void expect(int i, const char *text, int flags) {
        char buf[64] = "";
        ssize_t n = recv(ours[i], buf, sizeof(buf) - 1, MSG_DONTWAIT | flags);

        CHECK(n == (ssize_t)strlen(text) && strcmp(buf, text) == 0, "%s: got %zd \"%s\", not \"%s\": %m",
              names[i], n, buf, text);
}

static void expect_mark(int i, int want) {
        int at = -1;

        SYS(ioctl(ours[i], SIOCATMARK, &at));
        CHECK(at == want, "%s: at the mark: %d", names[i], at);
}

static bool has_urgent(int i) {
        struct pollfd p = { .fd = ours[i], .events = POLLPRI };

        return poll(&p, 1, 0) == 1 && p.revents & POLLPRI;
}

static void set_up(void) {
        const int on = 1;

        loopback_up();
        signal(SIGURG, on_urg);
        for (int i = 0; i < KINDS; i++) {
                make_pair(i == IPV6 ? AF_INET6 : AF_INET, &ours[i], &peer[i]);
                if (i == IN_LINE)
                        SYS(setsockopt(ours[i], SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
                if (i == OWNED)
                        SYS(fcntl(ours[i], F_SETOWN, getpid()));
                if (i != HEAD && i != READ_HEAD) {
                        say(i, "before", 0);
                        await_bytes(i, 6);
                }
                if (i != NONE) {
                        say(i, "U", MSG_OOB);
                        await(ours[i], POLLPRI);
                }
                if (i == READ || i == READ_HEAD)
                        expect(i, "U", MSG_OOB);
                if (i != LAST)
                        say(i, "behind", 0);
                if (i == CLOSED)
                        SYS(shutdown(peer[i], SHUT_WR));
        }
        CHECK_EQ(signals, 1);
        signals = 0;
}

static void check_one(int i) {
        bool unread = i != READ && i != READ_HEAD && i != NONE;

        CHECK(has_urgent(i) == unread, "%s: urgent: %d", names[i], !unread);
        if (i == NONE) {
                expect(i, "beforebehind", 0);
                return;
        }
        if (i != HEAD && i != READ_HEAD) {
                expect_mark(i, 0);
                expect(i, "before", 0);
        }
        expect_mark(i, 1);
        if (i == IN_LINE) {
                expect(i, "Ubehind", 0);
                return;
        }
        if (unread)
                expect(i, "U", MSG_OOB);
        CHECK(!has_urgent(i), "%s: still urgent", names[i]);
        if (i != LAST)
                expect(i, "behind", 0);
        if (i == CLOSED)
                CHECK(recv(ours[i], &(char){ 0 }, 1, 0) == 0, "it is not closed: %m");
}

static void check_life(int i) {
        say(i, "more", 0);
        await(ours[i], POLLIN);
        expect(i, "more", 0);
        say(i, "V", MSG_OOB);
        await(ours[i], POLLPRI);
        if (i != IN_LINE)
                expect(i, "V", MSG_OOB);
        CHECK(send(ours[i], "answer", 6, 0) == 6, "send: %m");
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        set_up();
        test_ready();
        test_wait();
        /* break: recv(ours[PLAIN], &(char){ 0 }, 1, MSG_OOB); */
        /* break: signals++; */
        CHECK_EQ(signals, 0);
        for (int i = 0; i < KINDS; i++)
                check_one(i);
        for (int i = 0; i < KINDS; i++)
                if (i != CLOSED)
                        check_life(i);
        CHECK_EQ(signals, 1);
        test_pass();
}
