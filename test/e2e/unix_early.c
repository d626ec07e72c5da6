/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=60 */
/*
 * Clients of unix sockets that have sent something, closed a half or all of it, before they were accepted; one of them from another
 * process. They come in their order, with their names, ids and all that they said.
 */
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "e2e.h"

enum { MUCH = 90000 };

static pid_t self, child;

static socklen_t abstract(const char *name, struct sockaddr_un *ret) {
        memset(ret, 0, sizeof(*ret));
        ret->sun_family = AF_UNIX;
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                           (size_t)snprintf(ret->sun_path + 1, sizeof(ret->sun_path) - 1, "%s-%d", name,
                                            self));
}

static int new_listener(int type, const struct sockaddr_un *a, socklen_t len) {
        int fd = SYS(socket(AF_UNIX, type, 0)), on = 1;

        SYS(bind(fd, (const struct sockaddr *)a, len));
        SYS(listen(fd, 20));
        SYS(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
        return fd;
}

static int new_client(int type, const struct sockaddr_un *a, socklen_t len, const char *name) {
        int fd = SYS(socket(AF_UNIX, type, 0));
        struct sockaddr_un own;

        if (name)
                SYS(bind(fd, (struct sockaddr *)&own, abstract(name, &own)));
        SYS(connect(fd, (const struct sockaddr *)a, len));
        return fd;
}

static void say(int fd, const char *what) {
        CHECK(send(fd, what, strlen(what), MSG_NOSIGNAL) == (ssize_t)strlen(what), "%m");
}

static void hear(int fd, const char *what, pid_t from) {
        char buf[64] = "", control[CMSG_SPACE(sizeof(struct ucred))] __attribute__((aligned(16)));
        struct iovec iov = { buf, sizeof(buf) - 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        const struct cmsghdr *c;
        struct ucred cred;
        ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT);

        CHECK(n == (ssize_t)strlen(what) && strcmp(buf, what) == 0, "\"%s\" instead of \"%s\": %m", buf,
              what);
        if (!from)
                return;
        c = CMSG_FIRSTHDR(&msg);
        CHECK(c && c->cmsg_type == SCM_CREDENTIALS, "no credentials");
        memcpy(&cred, CMSG_DATA(c), sizeof(cred));
        CHECK(cred.pid == from && cred.uid == getuid() && cred.gid == getgid(), "from pid %d, uid %u",
              cred.pid, cred.uid);
}

static void hear_nothing(int fd) {
        char c;

        CHECK(recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "there is more: %m");
}

/* Accepts the next one. */
static int take(int listener, pid_t from, const char *name) {
        struct sockaddr_un a, right;
        socklen_t len = sizeof(a), cred_len = sizeof(struct ucred), right_len = sizeof(sa_family_t);
        struct ucred cred;
        int fd = SYS(accept(listener, (struct sockaddr *)&a, &len));

        if (name)
                right_len = abstract(name, &right);
        CHECK(len == right_len && (!name || memcmp(&a, &right, len) == 0), "the name of the client");
        SYS(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len));
        CHECK(cred.pid == from && cred.uid == geteuid() && cred.gid == getegid(), "pid %d instead of %d",
              cred.pid, from);
        return fd;
}

static void say_much(int fd, uint64_t seed) {
        char *buf = malloc(MUCH);

        fill(buf, MUCH, seed);
        CHECK(send(fd, buf, MUCH, MSG_NOSIGNAL) == MUCH, "%m");
        free(buf);
}

static void hear_much(int fd, uint64_t seed) {
        char *buf = malloc(MUCH);

        CHECK(recv(fd, buf, MUCH, MSG_WAITALL) == MUCH, "%m");
        check_filled(buf, MUCH, seed, "the long request");
        free(buf);
}

struct server {
        int listener, sends, halves, silent, both;
};

static void set_up(struct server *s, int type, const struct sockaddr_un *a, socklen_t len) {
        int fd;

        s->listener = new_listener(type, a, len);
        s->sends = new_client(type, a, len, NULL);
        say(s->sends, "a request");
        say(s->sends, "and more");
        fd = new_client(type, a, len, "named");
        say(fd, "gone");
        SYS(close(fd));
        s->halves = new_client(type, a, len, "half");
        say(s->halves, "the end");
        SYS(shutdown(s->halves, SHUT_WR));
        s->silent = new_client(type, a, len, NULL);
        SYS(close(new_client(type, a, len, NULL)));
        s->both = new_client(type, a, len, NULL);
        say_much(s->both, 4711);
        if (type == SOCK_SEQPACKET) {
                CHECK(send(s->silent, "", 0, 0) == 0, "an empty packet: %m");
                say(s->silent, "behind nothing");
        }
}

static void check(const struct server *s, int type) {
        int fd = take(s->listener, self, NULL);

        hear(fd, type == SOCK_STREAM ? "a requestand more" : "a request", self);
        if (type == SOCK_SEQPACKET)
                hear(fd, "and more", self);
        hear_nothing(fd);
        say(fd, "an answer");
        hear(s->sends, "an answer", 0);
        say(s->sends, "thanks");
        hear(fd, "thanks", self);
        close(fd);
        fd = take(s->listener, self, "named");
        hear(fd, "gone", self);
        hear(fd, "", 0);
        CHECK(send(fd, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "somebody listens: %m");
        close(fd);
        fd = take(s->listener, self, "half");
        hear(fd, "the end", self);
        hear(fd, "", 0);
        say(fd, "well");
        hear(s->halves, "well", 0);
        close(fd);
        fd = take(s->listener, self, NULL);
        if (type == SOCK_SEQPACKET) {
                hear(fd, "", self);
                hear(fd, "behind nothing", self);
        }
        hear_nothing(fd);
        say(s->silent, "at last");
        hear(fd, "at last", self);
        close(fd);
        fd = take(s->listener, self, NULL);
        hear(fd, "", 0);
        close(fd);
        fd = take(s->listener, self, NULL);
        hear_much(fd, 4711);
        hear_nothing(fd);
        close(fd);
}

static int child_client(void *arg) {
        int fd = new_client(SOCK_STREAM, arg, sizeof(struct sockaddr_un), NULL);

        say(fd, "from the child");
        test_child_ready();
        test_wait();
        hear(fd, "to the child", 0);
        return 0;
}

int main(int argc, char **argv) {
        struct sockaddr_un path = { .sun_family = AF_UNIX, .sun_path = "socket" }, name;
        struct server stream, packets;
        socklen_t len;
        int fd;

        test_init(argc, argv);
        self = getpid();
        set_up(&stream, SOCK_STREAM, &path, sizeof(path));
        len = abstract("packets", &name);
        set_up(&packets, SOCK_SEQPACKET, &name, len);
        child = test_fork(child_client, &path);
        test_wait_children_ready();
        test_ready();
        test_wait();
        check(&stream, SOCK_STREAM);
        check(&packets, SOCK_SEQPACKET);
        fd = take(stream.listener, child, NULL);
        hear(fd, "from the child", child);
        say(fd, "to the child");
        test_stop_children();
        CHECK(fcntl(stream.listener, F_SETFL, O_NONBLOCK) == 0 && accept(stream.listener, NULL, NULL) < 0,
              "one more client");
        test_pass();
}
