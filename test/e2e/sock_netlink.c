/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: netns timeout=60 */
/*
 * netlink sockets: ports that were given and chosen, groups beyond the first 32, connected, unbound, options, a
 * filter that is locked; and that they go on: questions are answered, news arrive, programs talk to each other.
 */
#include <linux/filter.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>

#include "e2e_net.h"

enum { PORT = 0x7fc0ffee, TALKER = 4711, LISTENER = 4712, GROUPS = 40 };

struct sockets {
        int route, uevent, generic, plain, talker, listener, again, diag;
        uint32_t route_port;
};

static int make(int type, int protocol, uint32_t port, uint32_t groups) {
        struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_pid = port, .nl_groups = groups };
        int fd = SYS(socket(AF_NETLINK, type, protocol));

        SYS(bind(fd, (struct sockaddr *)&a, sizeof(a)));
        return fd;
}

static struct sockaddr_nl end_of(int fd, bool peer) {
        struct sockaddr_nl a = { 0 };
        socklen_t len = sizeof(a);

        SYS(peer ? getpeername(fd, (struct sockaddr *)&a, &len)
                 : getsockname(fd, (struct sockaddr *)&a, &len));
        return a;
}

static void connect_to(int fd, uint32_t port) {
        struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_pid = port };

        SYS(connect(fd, (struct sockaddr *)&a, sizeof(a)));
}

static bool in_group(int fd, int group) {
        uint32_t words[GROUPS] = { 0 };
        socklen_t len = sizeof(words);

        SYS(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &len));
        return words[(group - 1) / 32] & 1U << (group - 1) % 32;
}

/* Passes everything whose first byte is no 'x'. */
static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'x', 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
};

static void set_up(struct sockets *s) {
        const struct sock_fprog prog = { ELEMENTS(code), code };

        s->route = make(SOCK_DGRAM, NETLINK_ROUTE, 0, RTMGRP_LINK);
        set_option(s->route, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, 33);
        s->route_port = end_of(s->route, false).nl_pid;
        set_option(s->route, SOL_NETLINK, NETLINK_EXT_ACK, 1);
        set_option(s->route, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
        set_option(s->route, SOL_NETLINK, NETLINK_PKTINFO, 1);
        s->uevent = make(SOCK_RAW, NETLINK_KOBJECT_UEVENT, PORT, 1);
        set_option(s->uevent, SOL_SOCKET, SO_PASSCRED, 1);
        set_option(s->uevent, SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20);
        set_option(s->uevent, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
        SYS(fchown(s->uevent, 1234, 567));
        s->generic = make(SOCK_RAW, NETLINK_GENERIC, 0, 0);
        connect_to(s->generic, 0);
        SYS(fcntl(s->generic, F_SETFL, O_NONBLOCK));
        s->plain = SYS(socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER));
        s->talker = make(SOCK_RAW, NETLINK_USERSOCK, TALKER, 0);
        s->listener = make(SOCK_DGRAM, NETLINK_USERSOCK, LISTENER, 0);
        connect_to(s->talker, LISTENER);
        connect_to(s->listener, TALKER);
        SYS(setsockopt(s->listener, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
        set_option(s->listener, SOL_SOCKET, SO_LOCK_FILTER, 1);
        s->again = SYS(dup(s->route));
        s->diag = make(SOCK_RAW, NETLINK_SOCK_DIAG, 0, 0);
}

/* The answer to a question, or the first news. */
static uint16_t next_type(int fd) {
        union {
                struct nlmsghdr head;
                char bytes[65536];
        } m;
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ssize_t n;

        CHECK(poll(&p, 1, 30000) == 1, "nothing comes");
        n = recv(fd, &m, sizeof(m), 0);
        CHECK(n >= (ssize_t)sizeof(m.head), "recv gave %zd: %m", n);
        return m.head.nlmsg_type;
}

static void check_generic(int fd) {
        struct {
                struct nlmsghdr head;
                struct genlmsghdr gen;
                struct nlattr attr;
                char name[8];
        } q = { .head = { .nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN) + NLA_HDRLEN + 7,
                          .nlmsg_type = GENL_ID_CTRL,
                          .nlmsg_flags = NLM_F_REQUEST },
                .gen = { .cmd = CTRL_CMD_GETFAMILY, .version = 1 },
                .attr = { .nla_len = NLA_HDRLEN + 7, .nla_type = CTRL_ATTR_FAMILY_NAME },
                .name = "nlctrl" };

        CHECK(send(fd, &q, sizeof(q), 0) == sizeof(q), "send: %m");
        CHECK_EQ(next_type(fd), GENL_ID_CTRL);
}

static void check_news(int fd) {
        int control = SYS(socket(AF_INET, SOCK_DGRAM, 0));
        struct ifreq req = { .ifr_name = "lo" };

        SYS(ioctl(control, SIOCGIFFLAGS, &req));
        req.ifr_flags ^= IFF_UP;
        SYS(ioctl(control, SIOCSIFFLAGS, &req));
        CHECK_EQ(next_type(fd), RTM_NEWLINK);
        req.ifr_flags ^= IFF_UP;
        SYS(ioctl(control, SIOCSIFFLAGS, &req));
        close(control);
}

static void check_talk(int from, int to, uint32_t sender) {
        struct sockaddr_nl a = { 0 };
        socklen_t len = sizeof(a);
        char buf[16] = "";

        CHECK(send(from, "xyz", 3, 0) == 3 && send(from, "abc", 3, 0) == 3, "send: %m");
        if (sender == LISTENER)
                CHECK(recv(to, buf, sizeof(buf), 0) == 3 && buf[0] == 'x', "got \"%s\": %m", buf);
        CHECK(recvfrom(to, buf, sizeof(buf), 0, (struct sockaddr *)&a, &len) == 3 && buf[0] == 'a',
              "got \"%s\": %m", buf);
        CHECK_EQ(a.nl_pid, sender);
}

static void check_options(const struct sockets *s) {
        struct sock_filter seen[8];
        socklen_t n = ELEMENTS(seen);
        struct stat st;

        CHECK_EQ(get_option(s->route, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
        CHECK_EQ(get_option(s->route, SOL_NETLINK, NETLINK_EXT_ACK), 1);
        CHECK_EQ(get_option(s->route, SOL_NETLINK, NETLINK_GET_STRICT_CHK), 1);
        CHECK_EQ(get_option(s->route, SOL_NETLINK, NETLINK_PKTINFO), 1);
        CHECK_EQ(get_option(s->route, SOL_NETLINK, NETLINK_NO_ENOBUFS), 0);
        CHECK_EQ(get_option(s->uevent, SOL_NETLINK, NETLINK_NO_ENOBUFS), 1);
        CHECK_EQ(get_option(s->uevent, SOL_SOCKET, SO_PASSCRED), 1);
        CHECK_EQ(get_option(s->uevent, SOL_SOCKET, SO_RCVBUF), 2 << 20);
        CHECK_EQ(get_option(s->listener, SOL_SOCKET, SO_LOCK_FILTER), 1);
        SYS(getsockopt(s->listener, SOL_SOCKET, SO_GET_FILTER, seen, &n));
        CHECK(n == ELEMENTS(code) && memcmp(seen, code, sizeof(code)) == 0, "%u instructions", n);
        CHECK(setsockopt(s->listener, SOL_SOCKET, SO_DETACH_FILTER, &n, sizeof(n)) < 0 && errno == EPERM,
              "the filter is not locked");
        SYS(fstat(s->uevent, &st));
        CHECK(st.st_uid == 1234 && st.st_gid == 567, "owner %u:%u", st.st_uid, st.st_gid);
        CHECK_EQ(SYS(fcntl(s->generic, F_GETFL)) & O_NONBLOCK, O_NONBLOCK);
        CHECK_EQ(SYS(fcntl(s->route, F_GETFL)) & O_NONBLOCK, 0);
}

int main(int argc, char **argv) {
        static struct sockets s;

        test_init(argc, argv);
        set_up(&s);
        test_ready();
        test_wait();
        /* break: set_option(s.route, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, 33); */
        /* break: set_option(s.uevent, SOL_NETLINK, NETLINK_NO_ENOBUFS, 0); */
        CHECK_EQ(end_of(s.route, false).nl_pid, s.route_port);
        CHECK_EQ(end_of(s.uevent, false).nl_pid, PORT);
        CHECK_EQ(end_of(s.plain, false).nl_pid, 0);
        CHECK_EQ(end_of(s.talker, true).nl_pid, LISTENER);
        CHECK(in_group(s.route, RTNLGRP_LINK) && in_group(s.route, 33) && !in_group(s.route, 2),
              "groups of route");
        CHECK(in_group(s.uevent, 1), "groups of uevent");
        check_options(&s);
        check_generic(s.generic);
        check_news(s.route);
        CHECK_EQ(end_of(s.again, false).nl_pid, s.route_port);
        check_talk(s.talker, s.listener, TALKER);
        check_talk(s.listener, s.talker, LISTENER);
        test_pass();
}
