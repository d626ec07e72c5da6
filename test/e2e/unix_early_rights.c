/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=60 */
/*
 * Clients of unix sockets that have sent descriptors and urgent data before they were accepted: of pipes, files, the listener, themselves
 * and each other; with data around, several at a time, from another process, and from one that has closed its end since.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <linux/kcmp.h>

#include "e2e.h"

#ifndef SIOCATMARK
#define SIOCATMARK 0x8905
#endif

enum { GIVEN_MAX = 4 };

static void say(int to, const char *text, int flags, const int *fds, size_t n) {
        char control[CMSG_SPACE(GIVEN_MAX * sizeof(int))] __attribute__((aligned(16))) = "";
        struct iovec iov = { (char *)text, strlen(text) };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (n > 0) {
                *(struct cmsghdr *)control =
                        (struct cmsghdr){ CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
                msg.msg_control = control;
                msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
                memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, n * sizeof(int));
        }
        CHECK(sendmsg(to, &msg, flags | MSG_NOSIGNAL) == (ssize_t)strlen(text), "%s: %m", text);
}

/* Receives exactly this, with these files: the same open file descriptions. */
static void hear(int from, const char *text, int flags, const int *fds, size_t n) {
        char buf[64] = "", control[256] __attribute__((aligned(16)));
        struct iovec iov = { buf, sizeof(buf) - 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        ssize_t size = recvmsg(from, &msg, flags | MSG_DONTWAIT);
        struct cmsghdr *c = size > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
        int got[GIVEN_MAX];

        CHECK(size == (ssize_t)strlen(text) && strcmp(buf, text) == 0, "\"%s\" instead of \"%s\": %m", buf,
              text);
        CHECK((c ? c->cmsg_len : 0) == (n > 0 ? CMSG_LEN(n * sizeof(int)) : 0), "%s: other descriptors",
              text);
        if (n > 0)
                memcpy(got, CMSG_DATA(c), n * sizeof(int));
        for (size_t i = 0; i < n; i++) {
                CHECK(syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, got[i], fds[i]) == 0,
                      "%s: descriptor %zu is another file's", text, i);
                close(got[i]);
        }
}

struct server {
        struct sockaddr_un a;
        socklen_t len;
        int type, listener, first, second, other_own, file, event, ends[2];
        pid_t child;
};

static int new_client(const struct server *s) {
        int fd = SYS(socket(AF_UNIX, s->type, 0));

        SYS(connect(fd, (const struct sockaddr *)&s->a, s->len));
        return fd;
}

/* Another process, which sends its end of the pipe. */
static void run_child(const struct server *s, int go) {
        int fd = new_client(s), own[2];
        char c;

        SYS(pipe(own));
        say(fd, "from a child", 0, own, 1);
        say(fd, "again", 0, s->ends, 1);
        CHECK(write(own[1], "deep", 4) == 4, "%m");
        CHECK(write(go, "x", 1) == 1, "%m");
        CHECK(recv(fd, &c, 1, 0) == 1 && c == 'A', "no answer: %m");
        _exit(0);
}

static void set_up(struct server *s, int type) {
        int gone, ready[2];
        char c;

        *s = (struct server){ .a.sun_family = AF_UNIX, .len = sizeof(s->a), .type = type };
        s->listener = SYS(socket(AF_UNIX, type, 0));
        SYS(bind(s->listener, (struct sockaddr *)&s->a, sizeof(sa_family_t)));
        SYS(listen(s->listener, 20));
        SYS(getsockname(s->listener, (struct sockaddr *)&s->a, &s->len));
        s->file = SYS(open(type == SOCK_STREAM ? "one" : "two", O_RDWR | O_CREAT, 0600));
        CHECK(write(s->file, "contents", 8) == 8, "%m");
        s->event = SYS(eventfd(5, 0));
        SYS(pipe(s->ends));
        s->first = new_client(s);
        s->second = new_client(s);
        say(s->first, "plain", 0, NULL, 0);
        say(s->first, "a file and an event", 0, (int[]){ s->file, s->event }, 2);
        say(s->first, "behind", 0, NULL, 0);
        say(s->first, "more", 0, s->ends, 2);
        say(s->first, "each other", 0, (int[]){ s->second, s->first, s->listener }, 3);
        say(s->second, "and back", 0, &s->first, 1);
        gone = new_client(s);
        say(gone, "gone", 0, &s->file, 1);
        say(gone, "with", 0, (int[]){ s->second }, 1);
        SYS(close(gone));
        SYS(pipe(ready));
        s->child = SYS(fork());
        if (s->child == 0)
                run_child(s, ready[1]);
        CHECK(read(ready[0], &c, 1) == 1, "%m");
        SYS(close(ready[0]));
        SYS(close(ready[1]));
}

static void check_child(struct server *s) {
        int fd = SYS(accept(s->listener, NULL, NULL)), got, status;
        char buf[64] = "", control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(16)));
        struct iovec iov = { buf, sizeof(buf) };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };

        CHECK(recvmsg(fd, &msg, 0) == 12 && strcmp(buf, "from a child") == 0 && CMSG_FIRSTHDR(&msg),
              "%s: %m", buf);
        memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(got));
        memset(buf, 0, sizeof(buf));
        CHECK(read(got, buf, sizeof(buf)) == 4 && strcmp(buf, "deep") == 0, "the pipe of the child: %s",
              buf);
        hear(fd, "again", 0, s->ends, 1);
        say(fd, "A", 0, NULL, 0);
        SYS(waitpid(s->child, &status, 0));
        CHECK(status == 0, "the child ended with status %d", status);
}

static void check(struct server *s) {
        int fd = SYS(accept(s->listener, NULL, NULL)), second;
        bool stream = s->type == SOCK_STREAM;
        struct stat st;
        char c;

        /* A stream is read on to the end of a piece that has descriptors. */
        if (!stream)
                hear(fd, "plain", 0, NULL, 0);
        hear(fd, stream ? "plaina file and an event" : "a file and an event", 0,
             (int[]){ s->file, s->event }, 2);
        if (!stream)
                hear(fd, "behind", 0, NULL, 0);
        hear(fd, stream ? "behindmore" : "more", 0, s->ends, 2);
        hear(fd, "each other", 0, (int[]){ s->second, s->first, s->listener }, 3);
        CHECK(recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "there is more: %m");
        second = SYS(accept(s->listener, NULL, NULL));
        hear(second, "and back", 0, &s->first, 1);
        say(s->second, "it goes on", 0, &s->event, 1);
        hear(second, "it goes on", 0, &s->event, 1);
        fd = SYS(accept(s->listener, NULL, NULL));
        hear(fd, "gone", 0, &s->file, 1);
        hear(fd, "with", 0, (int[]){ s->second }, 1);
        CHECK(recv(fd, &c, 1, MSG_DONTWAIT) == 0, "no end: %m");
        check_child(s);
        SYS(fstat(s->file, &st));
        CHECK(st.st_size == 8 && lseek(s->file, 0, SEEK_CUR) == 8, "the file");
}

/* ---- urgent data ---- */

struct urgent {
        int listener, last, middle, with, inside;
};

static void set_up_urgent(struct urgent *u) {
        struct server s = { .a.sun_family = AF_UNIX, .len = sizeof(s.a), .type = SOCK_STREAM };
        int fd;

        s.listener = u->listener = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
        SYS(bind(u->listener, (struct sockaddr *)&s.a, sizeof(sa_family_t)));
        SYS(listen(u->listener, 20));
        SYS(getsockname(u->listener, (struct sockaddr *)&s.a, &s.len));
        u->inside = SYS(eventfd(7, 0));
        u->last = new_client(&s);
        say(u->last, "early", MSG_OOB, NULL, 0);
        u->middle = new_client(&s);
        say(u->middle, "before", 0, NULL, 0);
        say(u->middle, "1", MSG_OOB, NULL, 0);
        say(u->middle, "then", 0, NULL, 0);
        say(u->middle, "2", MSG_OOB, NULL, 0);
        say(u->middle, "behind", 0, NULL, 0);
        u->with = new_client(&s);
        say(u->with, "3", MSG_OOB, &u->inside, 1);
        fd = new_client(&s);
        say(fd, "x", MSG_OOB, NULL, 0);
        SYS(close(fd));
}

static void expect_mark(int fd, int want) {
        int at = -1;

        SYS(ioctl(fd, SIOCATMARK, &at));
        CHECK(at == want, "at the mark: %d", at);
}

static void check_urgent(struct urgent *u) {
        const int on = 1;
        struct pollfd p = { .events = POLLPRI };
        int fd = SYS(accept(u->listener, NULL, NULL));

        hear(fd, "earl", 0, NULL, 0);
        expect_mark(fd, 1);
        hear(fd, "y", MSG_OOB, NULL, 0);
        fd = p.fd = SYS(accept(u->listener, NULL, NULL));
        CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLPRI, "not urgent");
        expect_mark(fd, 0);
        hear(fd, "before1then", 0, NULL, 0);
        expect_mark(fd, 1);
        hear(fd, "2", MSG_OOB | MSG_PEEK, NULL, 0);
        hear(fd, "behind", 0, NULL, 0);
        fd = SYS(accept(u->listener, NULL, NULL));
        SYS(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
        hear(fd, "3", 0, &u->inside, 1);
        fd = SYS(accept(u->listener, NULL, NULL));
        hear(fd, "x", MSG_OOB, NULL, 0);
}

int main(int argc, char **argv) {
        struct server stream, packets;
        struct urgent urgent = { .listener = -1 };

        test_init(argc, argv);
        set_up(&stream, SOCK_STREAM);
        set_up(&packets, SOCK_SEQPACKET);
        set_up_urgent(&urgent);
        test_ready();
        test_wait();
        check(&stream);
        check(&packets);
        check_urgent(&urgent);
        test_pass();
}
