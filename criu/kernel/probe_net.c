/* SPDX-License-Identifier: GPL-2.0-only */
/* Probes of sockets, networks, namespaces, cgroups and security modules. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/net_namespace.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/probe_internal.h"
#include "macro.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif
#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C
#endif

static int loopback_up(void) {
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq req = { .ifr_name = "lo", .ifr_flags = IFF_UP };

        if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &req) < 0)
                return -errno;
        return 0;
}

static int child_half_closed(void *arg __attribute__((unused))) {
        struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t len = sizeof(addr);
        int server, client, on = 1, r;

        /* A network of its own: not a packet, port or firewall rule of the machine is touched. */
        if (unshare(CLONE_NEWNET) < 0)
                return -errno;
        r = loopback_up();
        if (r < 0)
                return r;
        server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (server < 0 || client < 0)
                return -errno;
        if (bind(server, (struct sockaddr *)&addr, len) < 0 || listen(server, 1) < 0 ||
            getsockname(server, (struct sockaddr *)&addr, &len) < 0 ||
            connect(client, (struct sockaddr *)&addr, len) < 0 || shutdown(client, SHUT_WR) < 0)
                return -errno;
        return setsockopt(client, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) < 0 ? -errno : 0;
}

int probe_tcp_half_closed(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_half_closed, NULL);
}

int probe_ipv6_freebind(struct probe *p __attribute__((unused))) {
        _cleanup_close_ int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int on = 1;

        if (fd < 0)
                return -errno;
        return probe_result(setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof(on)));
}

int probe_sk_ns(struct probe *p __attribute__((unused))) {
        _cleanup_close_ int fd = -EBADF, ns = -EBADF;

        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        ns = ioctl(fd, SIOCGSKNS);
        return probe_result(ns);
}

int probe_tun_ns(struct probe *p __attribute__((unused))) {
        _cleanup_close_ int fd = -EBADF, ns = -EBADF;

        fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        ns = ioctl(fd, SIOCGSKNS);
        return probe_result(ns);
}

/* One request, one answer. Returns the answer's length, or the negative errno in it. */
static ssize_t ask_netlink(int protocol, struct nlmsghdr *req, void *answer, size_t size) {
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
        struct timeval limit = { .tv_sec = 2 };
        const struct nlmsghdr *head = answer;
        ssize_t n;

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
                return -errno;
        if (send(fd, req, req->nlmsg_len, 0) < 0)
                return -errno;
        n = recv(fd, answer, size, 0);
        if (n < 0)
                return -errno;
        if ((size_t)n < sizeof(*head) || head->nlmsg_len > (size_t)n)
                return -EBADMSG;
        if (head->nlmsg_type == NLMSG_ERROR) {
                const struct nlmsgerr *e = NLMSG_DATA(head);

                if (head->nlmsg_len < NLMSG_LENGTH(sizeof(*e)) || e->error >= 0)
                        return -EBADMSG;
                return e->error;
        }
        return n;
}

int probe_nf_tables(struct probe *p __attribute__((unused))) {
        struct {
                struct nlmsghdr head;
                struct nfgenmsg gen;
        } req = {
                .head = { .nlmsg_len = sizeof(req),
                          .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN,
                          .nlmsg_flags = NLM_F_REQUEST },
                .gen = { .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0 },
        };
        _Alignas(8) char answer[1024];
        ssize_t n = ask_netlink(NETLINK_NETFILTER, &req.head, answer, sizeof(answer));

        return n < 0 ? (int)n : 1;
}

int probe_link_nsid(struct probe *p __attribute__((unused))) {
        struct {
                struct nlmsghdr head;
                struct rtgenmsg gen;
                char pad[3];
                struct rtattr attr;
                int fd;
        } req = {
                .head = { .nlmsg_len = sizeof(req),
                          .nlmsg_type = RTM_GETNSID,
                          .nlmsg_flags = NLM_F_REQUEST },
                .gen = { .rtgen_family = AF_UNSPEC },
                .attr = { .rta_len = RTA_LENGTH(sizeof(int)), .rta_type = NETNSA_FD },
        };
        _cleanup_close_ int ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        _Alignas(8) char answer[1024];
        ssize_t n;

        if (ns < 0)
                return -errno;
        req.fd = ns;
        n = ask_netlink(NETLINK_ROUTE, &req.head, answer, sizeof(answer));
        if (n < 0)
                return (int)n;
        return ((struct nlmsghdr *)answer)->nlmsg_type == RTM_NEWNSID;
}

static int child_join_net_ns(void *arg __attribute__((unused))) {
        _cleanup_close_ int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

        if (ns < 0 || unshare(CLONE_NEWNET) < 0)
                return -errno;
        return setns(ns, CLONE_NEWNET) < 0 ? -errno : 0;
}

int probe_external_net_ns(struct probe *p) {
        int r = probe_link_nsid(p);

        if (r > 0)
                r = probe_sk_ns(p);
        return r > 0 ? probe_in_child(child_join_net_ns, NULL) : r;
}

static int child_user_ns(void *arg __attribute__((unused))) {
        char map[32];

        snprintf(map, sizeof(map), "0 %u 1", (unsigned int)geteuid());
        if (unshare(CLONE_NEWUSER) < 0)
                return errno == ENOSPC ? -EPERM : -errno; /* user.max_user_namespaces is used up or 0 */
        return probe_write("/proc/self/uid_map", map);
}

int probe_userns(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_user_ns, NULL);
}

static int child_time_ns(void *arg __attribute__((unused))) {
        if (unshare(CLONE_NEWTIME) < 0)
                return -errno;
        return probe_write("/proc/self/timens_offsets", "monotonic 10 0\nboottime 10 0\n");
}

int probe_unix_oob(struct probe *p __attribute__((unused))) {
        int pair[2], r = 1;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        if (send(pair[0], "x", 1, MSG_OOB | MSG_NOSIGNAL) < 0)
                r = errno == EOPNOTSUPP ? 0 : -errno;
        close(pair[0]);
        close(pair[1]);
        return r;
}

int probe_timens(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_time_ns, NULL);
}

static int child_cgroup_ns(void *arg __attribute__((unused))) {
        return unshare(CLONE_NEWCGROUP) < 0 ? -errno : 0;
}

int probe_cgroupns(struct probe *p __attribute__((unused))) {
        return probe_in_child(child_cgroup_ns, NULL);
}

struct cgroup_count {
        unsigned int v1, v2;
};

static int count_cgroup(char *line, void *arg) {
        struct cgroup_count *c = arg;
        const char *type = strstr(line, " - cgroup");

        if (type && strncmp(type, " - cgroup2 ", 11) == 0)
                c->v2++;
        else if (type && type[9] == ' ')
                c->v1++;
        return 0;
}

int probe_cgroup(struct probe *p) {
        struct cgroup_count c = { 0 };
        int r = probe_each_line("/proc/self/mountinfo", count_cgroup, &c);

        if (r < 0)
                return r;
        if (c.v1 && c.v2)
                probe_note(p, "hybrid: %u version 1 hierarchies and version 2 are mounted", c.v1);
        else if (c.v1)
                probe_note(p, "%u version 1 hierarchies are mounted", c.v1);
        else
                probe_note(p, c.v2 ? "version 2 is mounted" : "none is mounted");
        return c.v1 || c.v2;
}

int probe_lsm(struct probe *p) {
        char text[128];
        bool selinux = access("/sys/fs/selinux/enforce", F_OK) == 0;
        bool apparmor = probe_read("/sys/module/apparmor/parameters/enabled", text, sizeof(text)) > 0 &&
                        text[0] == 'Y';

        if (probe_read("/proc/self/attr/current", text, sizeof(text)) <= 0)
                text[0] = 0;
        if (!selinux && !apparmor && !text[0]) {
                probe_note(p, "none with profiles is in force");
                return 0;
        }
        probe_note(p, "%s%s%s",
                   selinux    ? "SELinux"
                   : apparmor ? "AppArmor"
                              : "in force",
                   text[0] ? "; this process runs as " : "", text);
        return 1;
}
