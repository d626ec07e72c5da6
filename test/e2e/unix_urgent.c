/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns nocheck timeout=60 */
/*
 * Urgent data (MSG_OOB) in unix sockets: unread, read, in line, replaced by other such data, with descriptors, at the beginning, in the
 * midst and at the end of a queue. What a program sees of it is recorded with a twin of each socket before the dump, and has
 * to be the same afterwards. Nobody gets a second SIGURG, but the next one.
 */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "e2e.h"

#ifndef SIOCATMARK
#define SIOCATMARK 0x8905
#endif

/*
 * What is done: a: send six bytes, u: an urgent one, U: three, the last urgent, f, F: a byte or urgent byte with a descriptor, c: close,
 * s: shut down; the receiver: O: takes the urgent byte, 2: reads two, i: has it in line, C: wants credentials, w: wants SIGURG.
 */
static const char *const setups[] = {
        "aua",   "ua",  "u",     "au",     "aUa",     "iaua", "iu",   "auOa",  "uOa",  "uO",
        "auO",   "aa",  "auaua", "auOaua", "auOauOa", "uu",   "aua2", "auOa2", "auac", "uOc",
        "auOas", "fuf", "aFa",   "Fa",     "FOf",     "fuOf", "Caua", "CauOa", "waua", "wuOu",
};

/* How it is looked at: r: read, 1: one byte, o: the urgent one, p, q: the same without taking it, i: in line from now on. */
static const char *const looks[] = { "rrrr", "orrrr", "1r1orr", "pqprqrrr", "irrrr", "rqirr", "qo1rrr" };

enum { SETUPS = sizeof(setups) / sizeof(*setups), LOOKS = sizeof(looks) / sizeof(*looks), TEXT = 2048 };

static int ours[SETUPS][LOOKS], peers[SETUPS][LOOKS], own_pipe[2];
static volatile sig_atomic_t signals;

static void on_urg(int sig E2E_UNUSED) {
        signals++;
}

static void say(int fd, const char *text, size_t n, int flags, int with) {
        char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(16))) = "";
        struct iovec iov = { (char *)text, n };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        struct cmsghdr *c = (struct cmsghdr *)control;

        if (with >= 0) {
                *c = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
                memcpy(CMSG_DATA(c), &with, sizeof(with));
                msg.msg_control = control;
                msg.msg_controllen = sizeof(control);
        }
        CHECK(sendmsg(fd, &msg, flags | MSG_NOSIGNAL) == (ssize_t)n, "send: %m");
}

static void make(const char *setup, int *ret, int *ret_peer) {
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
        const int on = 1;
        const char *at = letters;
        char buf[8];
        int s[2];

        SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
        for (const char *p = setup; *p; p++) {
                size_t n = *p == 'a' ? 6 : *p == 'U' ? 3 : strchr("ufF", *p) ? 1 : 0;

                if (n > 0)
                        say(s[1], at, n, strchr("uUF", *p) ? MSG_OOB : 0,
                            strchr("fF", *p) ? own_pipe[0] : -1);
                at += n;
                if (*p == 'O')
                        CHECK(recv(s[0], buf, 1, MSG_OOB) == 1, "%s: no urgent data: %m", setup);
                else if (*p == '2')
                        CHECK(recv(s[0], buf, 2, 0) == 2, "%m");
                else if (*p == 'i')
                        SYS(setsockopt(s[0], SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
                else if (*p == 'C')
                        SYS(setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
                else if (*p == 'w')
                        SYS(fcntl(s[0], F_SETOWN, getpid()));
                else if (*p == 's')
                        SYS(shutdown(s[1], SHUT_WR));
                else if (*p == 'c')
                        SYS(close(s[1]));
        }
        *ret = s[0];
        *ret_peer = strchr(setup, 'c') ? -1 : s[1];
}

/* ---- what is seen ---- */

static size_t note_state(int fd, char *text, size_t size) {
        struct pollfd p = { .fd = fd, .events = POLLIN | POLLPRI };
        int mark = -1, bytes = -1;

        SYS(poll(&p, 1, 0));
        SYS(ioctl(fd, SIOCATMARK, &mark));
        SYS(ioctl(fd, FIONREAD, &bytes));
        return (size_t)snprintf(text, size, "[%x %d %d] ", (unsigned int)p.revents, mark, bytes);
}

static const char *tell_descriptor(struct msghdr *msg) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c))
                if (c->cmsg_type == SCM_RIGHTS) {
                        struct stat own, its;
                        int fd;

                        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
                        SYS(fstat(own_pipe[0], &own));
                        SYS(fstat(fd, &its));
                        SYS(close(fd));
                        return own.st_ino == its.st_ino ? "+pipe" : "+other";
                }
        return "";
}

static const char *tell_sender(struct msghdr *msg) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c))
                if (c->cmsg_type == SCM_CREDENTIALS) {
                        struct ucred cred;

                        memcpy(&cred, CMSG_DATA(c), sizeof(cred));
                        return cred.pid == getpid() ? "+me" : "+another";
                }
        return "";
}

static size_t note_read(int fd, int how, char *text, size_t size) {
        char buf[64] = "", control[256] __attribute__((aligned(16)));
        struct iovec iov = { buf, how == '1' ? 1 : sizeof(buf) };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        int flags = MSG_DONTWAIT | (strchr("oq", how) ? MSG_OOB : 0) | (strchr("pq", how) ? MSG_PEEK : 0);
        ssize_t n = recvmsg(fd, &msg, flags);

        if (n < 0)
                return (size_t)snprintf(text, size, "%c %s ", how, strerrorname_np(errno));
        return (size_t)snprintf(text, size, "%c \"%.*s\"%x%s%s ", how, (int)n, buf,
                                (unsigned int)msg.msg_flags, n > 0 ? tell_descriptor(&msg) : "",
                                n > 0 ? tell_sender(&msg) : "");
}

static void observe(int fd, const char *look, char text[static TEXT]) {
        size_t at = note_state(fd, text, TEXT);
        const int on = 1;

        for (; *look; look++) {
                if (*look == 'i')
                        SYS(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
                else
                        at += note_read(fd, *look, text + at, TEXT - at);
                at += note_state(fd, text + at, TEXT - at);
        }
}

static void check(size_t setup, size_t look, const char *want) {
        char text[TEXT];
        int fd = ours[setup][look], peer = peers[setup][look];
        bool owned = strchr(setups[setup], 'w');

        CHECK(SYS(fcntl(fd, F_GETOWN)) == (owned ? getpid() : 0), "%s: another owner", setups[setup]);
        observe(fd, looks[look], text);
        CHECK(strcmp(text, want) == 0, "%s, looked at %s: instead of\n%s\nthere is\n%s", setups[setup],
              looks[look], want, text);
        if (peer < 0 || strchr(setups[setup], 's'))
                return;
        signals = 0;
        say(peer, "!", 1, MSG_OOB, -1);
        CHECK(signals == owned, "%s: %d signals", setups[setup], (int)signals);
}

int main(int argc, char **argv) {
        static char seen[SETUPS][LOOKS][TEXT];
        struct epoll_event e = { .events = EPOLLPRI };
        int ep, fd, peer;

        test_init(argc, argv);
        signal(SIGURG, on_urg);
        SYS(pipe(own_pipe));
        ep = SYS(epoll_create1(0));
        for (size_t i = 0; i < SETUPS; i++)
                for (size_t k = 0; k < LOOKS; k++) {
                        make(setups[i], &fd, &peer);
                        observe(fd, looks[k], seen[i][k]);
                        close(fd);
                        close(peer);
                        make(setups[i], &ours[i][k], &peers[i][k]);
                }
        SYS(epoll_ctl(ep, EPOLL_CTL_ADD, ours[0][0], &e));
        signals = 0;
        test_ready();
        test_wait();
        CHECK(signals == 0, "%d more SIGURG", (int)signals);
        CHECK(epoll_wait(ep, &e, 1, 0) == 1 && e.events == EPOLLPRI, "nothing urgent for epoll");
        for (size_t i = 0; i < SETUPS; i++)
                for (size_t k = 0; k < LOOKS; k++)
                        check(i, k, seen[i][k]);
        test_pass();
}
