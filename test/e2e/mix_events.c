/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns nocheck timeout=90 dump=--tcp-established restore=--tcp-established */
/*
 * Kinds in combination: one epoll instance with members of every kind that can be one, and an instance in it; TCP
 * connections, a memfd, a deleted file, an epoll instance, a pidfd and more in the queues of unix sockets, some nowhere
 * else; a process that shares the descriptor table, and another under a seccomp filter that uses the same connection.
 */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "e2e.h"

enum member {
        UNIX_DATA,
        UNIX_IDLE,
        UNIX_LISTENER,
        TCP_LISTENER,
        TCP_DATA,
        TCP_IDLE,
        TCP_CLOSED,
        TCP_MAPPED,
        TCP_FIRED,
        UDP_DATA,
        TIMER_DONE,
        TIMER_FAR,
        SIGNALS,
        WATCH,
        EVENT,
        PIPE,
        PIDFD,
        NESTED,
        QUEUE,
        GONE, /* its descriptor was closed, a duplicate has another number */
        MEMBERS,
};

static const uint32_t want[MEMBERS] = {
        [UNIX_DATA] = EPOLLIN | EPOLLOUT,
        [UNIX_IDLE] = EPOLLOUT,
        [UNIX_LISTENER] = EPOLLIN,
        [TCP_DATA] = EPOLLIN | EPOLLOUT,
        [TCP_IDLE] = EPOLLOUT,
        [TCP_CLOSED] = EPOLLIN | EPOLLOUT | EPOLLRDHUP,
        [TCP_MAPPED] = EPOLLIN | EPOLLOUT,
        [UDP_DATA] = EPOLLIN | EPOLLOUT,
        [TIMER_DONE] = EPOLLIN,
        [SIGNALS] = EPOLLIN,
        [EVENT] = EPOLLIN | EPOLLOUT,
        [PIPE] = EPOLLIN,
        [NESTED] = EPOLLIN,
        [QUEUE] = EPOLLIN | EPOLLOUT,
        [GONE] = EPOLLIN | EPOLLOUT,
};

static struct {
        struct test_barrier barrier;
        uint32_t stop;
} * sh;

static int ep, nested, fd[MEMBERS], peer[MEMBERS], queue[2], copy, kid_pidfd, server, client, own[2];
static pid_t sharer, filtered, idler;

static void add(int e, int member, int what, uint32_t events) {
        struct epoll_event ev = { .events = events, .data.u64 = (uint64_t)member };

        fd[member] = what;
        SYS(epoll_ctl(e, EPOLL_CTL_ADD, what, &ev));
}

static void tcp_pair(int family, bool mapped, int *ret_server, int *ret_client) {
        struct sockaddr_in6 any6 = { .sin6_family = AF_INET6 };
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t len = sizeof(any6);
        int l = SYS(socket(family, SOCK_STREAM, 0));

        if (family == AF_INET) {
                len = sizeof(in);
                SYS(bind(l, (struct sockaddr *)&in, len));
        } else
                SYS(bind(l, (struct sockaddr *)&any6, len));
        SYS(listen(l, 1));
        if (family == AF_INET6) {
                len = sizeof(any6);
                SYS(getsockname(l, (struct sockaddr *)&any6, &len));
                in.sin_port = any6.sin6_port;
                any6.sin6_addr = in6addr_loopback;
        } else
                SYS(getsockname(l, (struct sockaddr *)&in, &len));
        *ret_client = SYS(socket(mapped ? AF_INET : family, SOCK_STREAM, 0));
        if (family == AF_INET || mapped)
                SYS(connect(*ret_client, (struct sockaddr *)&in, sizeof(in)));
        else
                SYS(connect(*ret_client, (struct sockaddr *)&any6, sizeof(any6)));
        *ret_server = SYS(accept(l, NULL, NULL));
        close(l);
}

static void put(int to, const char *text) {
        CHECK(send(to, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text), "send %s: %m", text);
}

static void get(int from, const char *text) {
        char buf[100] = "";
        ssize_t n = recv(from, buf, strlen(text), MSG_WAITALL);

        CHECK(n == (ssize_t)strlen(text) && memcmp(buf, text, strlen(text)) == 0,
              "got %zd \"%s\", not \"%s\"", n, buf, text);
}

static void send_fds(const char *text, const int *fds, size_t n) {
        char control[CMSG_SPACE(16 * sizeof(int))] __attribute__((aligned(16))) = { 0 };
        struct iovec iov = { (void *)text, strlen(text) };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
        struct cmsghdr *c = (struct cmsghdr *)control;

        *c = (struct cmsghdr){ CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
        CHECK(sendmsg(queue[0], &msg, 0) == (ssize_t)strlen(text), "sendmsg: %m");
}

static size_t receive_fds(int fds[16]) {
        char control[CMSG_SPACE(16 * sizeof(int))] __attribute__((aligned(16))), buf[64];
        struct iovec iov = { buf, sizeof(buf) };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *c;
        size_t n;

        CHECK(recvmsg(queue[1], &msg, MSG_DONTWAIT) > 0, "recvmsg: %m");
        c = CMSG_FIRSTHDR(&msg);
        CHECK(c && c->cmsg_type == SCM_RIGHTS, "no descriptors");
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), n * sizeof(int));
        return n;
}

static void add_unix(void) {
        struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "listener.sock" };
        int p[2], l = SYS(socket(AF_UNIX, SOCK_STREAM, 0));

        SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p));
        put(p[1], "packet");
        add(ep, UNIX_DATA, p[0], EPOLLIN | EPOLLOUT);
        peer[UNIX_DATA] = p[1];
        SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
        add(ep, UNIX_IDLE, p[0], EPOLLIN | EPOLLOUT);
        peer[UNIX_IDLE] = p[1];
        SYS(bind(l, (struct sockaddr *)&a, sizeof(a)));
        SYS(listen(l, 3));
        peer[UNIX_LISTENER] = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
        SYS(connect(peer[UNIX_LISTENER], (struct sockaddr *)&a, sizeof(a)));
        add(ep, UNIX_LISTENER, l, EPOLLIN);
}

static void add_tcp(void) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        int one = 1, l = SYS(socket(AF_INET, SOCK_STREAM, 0)), a;
        socklen_t len = sizeof(in);

        SYS(setsockopt(l, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)));
        SYS(bind(l, (struct sockaddr *)&in, len));
        SYS(getsockname(l, (struct sockaddr *)&in, &len));
        SYS(listen(l, 7));
        add(ep, TCP_LISTENER, l, EPOLLIN | EPOLLEXCLUSIVE);
        tcp_pair(AF_INET, false, &a, &peer[TCP_DATA]);
        put(peer[TCP_DATA], "over IPv4");
        add(ep, TCP_DATA, a, EPOLLIN | EPOLLOUT);
        tcp_pair(AF_INET6, false, &a, &peer[TCP_IDLE]);
        add(ep, TCP_IDLE, a, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
        tcp_pair(AF_INET6, false, &a, &peer[TCP_CLOSED]);
        SYS(shutdown(peer[TCP_CLOSED], SHUT_WR));
        add(ep, TCP_CLOSED, a, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
        tcp_pair(AF_INET6, true, &a, &peer[TCP_MAPPED]);
        put(peer[TCP_MAPPED], "mapped");
        add(ep, TCP_MAPPED, a, EPOLLIN | EPOLLOUT);
        tcp_pair(AF_INET, false, &a, &peer[TCP_FIRED]);
        put(peer[TCP_FIRED], "fired");
        add(ep, TCP_FIRED, a, EPOLLIN | EPOLLONESHOT);
        tcp_pair(AF_INET, false, &a, &peer[GONE]);
        put(peer[GONE], "gone");
        add(ep, GONE, a, EPOLLIN | EPOLLOUT);
        copy = SYS(dup(a));
        close(a);
        fd[GONE] = -1;
        tcp_pair(AF_INET, false, &server, &client);
        tcp_pair(AF_INET, false, &own[0], &own[1]);
}

static void add_udp(void) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t len = sizeof(in);
        int u = SYS(socket(AF_INET, SOCK_DGRAM, 0));

        SYS(bind(u, (struct sockaddr *)&in, len));
        SYS(getsockname(u, (struct sockaddr *)&in, &len));
        SYS(sendto(u, "datagram", 8, 0, (struct sockaddr *)&in, len));
        add(ep, UDP_DATA, u, EPOLLIN | EPOLLOUT);
}

static void add_events(void) {
        struct itimerspec soon = { .it_value.tv_nsec = 1 }, far = { .it_value.tv_sec = 100000 };
        sigset_t set;
        int p[2], i;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        SYS(sigprocmask(SIG_BLOCK, &set, NULL));
        add(ep, SIGNALS, SYS(signalfd(-1, &set, SFD_NONBLOCK)), EPOLLIN);
        SYS(kill(getpid(), SIGUSR1));
        add(ep, TIMER_DONE, SYS(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK)), EPOLLIN);
        SYS(timerfd_settime(fd[TIMER_DONE], 0, &soon, NULL));
        add(ep, TIMER_FAR, SYS(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK)), EPOLLIN);
        SYS(timerfd_settime(fd[TIMER_FAR], 0, &far, NULL));
        i = SYS(inotify_init1(IN_NONBLOCK));
        close(SYS(open("watched", O_CREAT | O_RDWR, 0600)));
        SYS(inotify_add_watch(i, "watched", IN_MODIFY));
        add(ep, WATCH, i, EPOLLIN);
        add(ep, EVENT, SYS(eventfd(3, EFD_NONBLOCK)), EPOLLIN | EPOLLOUT);
        SYS(pipe(p));
        CHECK(write(p[1], "piped", 5) == 5, "write: %m");
        peer[PIPE] = p[1];
        add(ep, PIPE, p[0], EPOLLIN);
        kid_pidfd = (int)SYS(syscall(SYS_pidfd_open, idler, 0));
        add(ep, PIDFD, kid_pidfd, EPOLLIN);
}

/* What nobody holds but a queue: a connection's one end, and an instance that watches another connection. */
static void fill_queue(void) {
        int fds[16], n = 0, mfd, del, e, inq_server, w;
        struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 77 };

        SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, queue));
        mfd = SYS(memfd_create("in-queue", MFD_ALLOW_SEALING));
        CHECK(write(mfd, "memfd", 5) == 5, "write: %m");
        SYS(fcntl(mfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE));
        del = SYS(open("deleted", O_CREAT | O_RDWR, 0600));
        CHECK(write(del, "deleted", 7) == 7, "write: %m");
        SYS(unlink("deleted"));
        e = SYS(epoll_create1(0));
        inq_server = server;
        SYS(epoll_ctl(e, EPOLL_CTL_ADD, inq_server, &ev));
        w = SYS(timerfd_create(CLOCK_MONOTONIC, 0));
        fds[n++] = inq_server;
        fds[n++] = mfd;
        fds[n++] = del;
        fds[n++] = e;
        fds[n++] = kid_pidfd;
        fds[n++] = w;
        fds[n++] = fd[SIGNALS];
        fds[n++] = fd[WATCH];
        fds[n++] = fd[TCP_LISTENER];
        send_fds("all", fds, (size_t)n);
        put(client, "to the queue");
        close(inq_server);
        close(mfd);
        close(del);
        close(e);
        close(w);
        add(ep, QUEUE, queue[1], EPOLLIN | EPOLLOUT);
}

static void collect(uint32_t got[MEMBERS]) {
        struct epoll_event ev[MEMBERS * 2];
        int n = SYS(epoll_wait(ep, ev, ELEMENTS(ev), 0));

        memset(got, 0, MEMBERS * sizeof(*got));
        for (int i = 0; i < n; i++) {
                CHECK(ev[i].data.u64 < MEMBERS, "an event of %llu", (unsigned long long)ev[i].data.u64);
                got[ev[i].data.u64] = ev[i].events;
        }
}

static void check_events(void) {
        uint32_t got[MEMBERS];

        collect(got);
        for (int i = 0; i < MEMBERS; i++)
                CHECK(got[i] == want[i], "member %d: events 0x%x, not 0x%x", i, got[i], want[i]);
}

static void check_later(void) {
        uint32_t got[MEMBERS];
        uint64_t n;

        put(peer[TCP_IDLE], "now");
        put(peer[UNIX_IDLE], "now");
        CHECK(kill(idler, SIGKILL) == 0, "kill: %m");
        n = (uint64_t)SYS(open("watched", O_RDWR));
        CHECK(write((int)n, "x", 1) == 1, "write: %m");
        WAIT_FOR((collect(got), got[PIDFD] & EPOLLIN), "pidfd");
        CHECK(got[TCP_IDLE] & EPOLLIN && got[UNIX_IDLE] & EPOLLIN && got[WATCH] & EPOLLIN, "0x%x 0x%x 0x%x",
              got[TCP_IDLE], got[UNIX_IDLE], got[WATCH]);
        get(fd[TCP_IDLE], "now");
        get(fd[TCP_DATA], "over IPv4");
        get(fd[TCP_MAPPED], "mapped");
        get(fd[TCP_FIRED], "fired");
        get(fd[UDP_DATA], "datagram");
        get(fd[UNIX_DATA], "packet");
        get(copy, "gone");
        put(fd[TCP_DATA], "back");
        get(peer[TCP_DATA], "back");
        put(fd[TCP_MAPPED], "back");
        get(peer[TCP_MAPPED], "back");
        put(fd[TCP_CLOSED], "half");
        get(peer[TCP_CLOSED], "half");
        SYS(accept(fd[UNIX_LISTENER], NULL, NULL));
}

static void check_queue(void) {
        struct epoll_event ev;
        struct sockaddr_in in;
        socklen_t len = sizeof(in);
        char buf[10] = "";
        int fds[16], c;

        CHECK_EQ(receive_fds(fds), 9);
        CHECK(epoll_wait(fds[3], &ev, 1, 0) == 1 && ev.data.u64 == 77, "the instance of the queue");
        get(fds[0], "to the queue");
        put(fds[0], "answer");
        get(client, "answer");
        CHECK(pread(fds[1], buf, 5, 0) == 5 && memcmp(buf, "memfd", 5) == 0, "memfd: %s", buf);
        CHECK_EQ(fcntl(fds[1], F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_WRITE);
        CHECK(pread(fds[2], buf, 7, 0) == 7 && memcmp(buf, "deleted", 7) == 0, "deleted: %s", buf);
        CHECK(syscall(SYS_kcmp, getpid(), getpid(), 0, fds[4], kid_pidfd) == 0, "pidfd");
        CHECK(syscall(SYS_kcmp, getpid(), getpid(), 0, fds[8], fd[TCP_LISTENER]) == 0, "listener");
        SYS(getsockname(fds[8], (struct sockaddr *)&in, &len));
        c = SYS(socket(AF_INET, SOCK_STREAM, 0));
        SYS(connect(c, (struct sockaddr *)&in, len));
        SYS(accept(fds[8], NULL, NULL));
}

static int share(void *arg) {
        (void)arg;
        test_barrier_wait(&sh->barrier);
        while (!__atomic_load_n(&sh->stop, __ATOMIC_SEQ_CST))
                test_futex_wait(&sh->stop, 0, 100000);
        /* The same table: what the others have opened meanwhile is here too. */
        put(own[0], "from the sharer");
        _exit(0);
}

static void filter(void) {
        struct sock_filter insns[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog prog = { ELEMENTS(insns), insns };

        SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
}

static int filtered_main(void) {
        filter();
        test_barrier_wait(&sh->barrier);
        while (!__atomic_load_n(&sh->stop, __ATOMIC_SEQ_CST))
                test_futex_wait(&sh->stop, 0, 100000);
        put(own[1], "from the filtered");
        get(own[1], "from the sharer");
        CHECK(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM, "the filter has gone");
        _exit(0);
}

int main(int argc, char **argv) {
        static char stack[1 << 16] __attribute__((aligned(16)));
        struct epoll_event ev;

        test_init(argc, argv);
        sh = test_shared(sizeof(*sh));
        test_barrier_init(&sh->barrier, 3);
        idler = xfork();
        if (idler == 0)
                for (;;)
                        pause();
        ep = SYS(epoll_create1(EPOLL_CLOEXEC));
        nested = SYS(epoll_create1(0));
        add_unix();
        add_tcp();
        add_udp();
        add_events();
        fill_queue();
        add(ep, NESTED, nested, EPOLLIN);
        ev = (struct epoll_event){ .events = EPOLLIN };
        SYS(epoll_ctl(nested, EPOLL_CTL_ADD, fd[TCP_DATA], &ev));
        SYS(epoll_ctl(nested, EPOLL_CTL_ADD, fd[UNIX_IDLE], &ev));
        WAIT_FOR(SYS(epoll_wait(ep, &ev, 1, 0)) == 1, "an event");
        filtered = xfork();
        if (filtered == 0)
                filtered_main();
        sharer = SYS(clone(share, stack + sizeof(stack), CLONE_FILES | SIGCHLD, NULL));
        test_barrier_wait(&sh->barrier);
        /* It fires once. */
        for (uint32_t got[MEMBERS] = { 0 }; !got[TCP_FIRED];)
                collect(got);
        tick();
        check_events();
        test_ready();
        test_wait();
        check_events();
        check_events();
        check_later();
        check_queue();
        __atomic_store_n(&sh->stop, 1, __ATOMIC_SEQ_CST);
        for (int i = 0; i < 2; i++)
                test_futex_wake(&sh->stop);
        get(own[0], "from the filtered");
        xwait(sharer, 0);
        xwait(filtered, 0);
        waitpid(idler, NULL, 0);
        test_pass();
}
