/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/*
 * Sockets in states that cannot be checkpointed: refuse_sock KIND[,KIND...]. Afterwards each is as it was. Driven by
 * sock_refusals.py.
 */
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "e2e.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

struct kind {
        const char *name;
        void (*setup)(struct kind *k);
        void (*check)(struct kind *k);
        int a, b, c;
        int fd[4];
};

#define NEED(cond)                                                                        \
        do {                                                                              \
                if (!(cond))                                                              \
                        test_skip("%s: not possible here: %s", k->name, strerror(errno)); \
        } while (0)

static void setup_plain(struct kind *k) {
        NEED((k->fd[0] = socket(k->a, k->b, k->c)) >= 0);
}

static void check_there(struct kind *k) {
        CHECK(fcntl(k->fd[0], F_GETFD) >= 0, "%s: %m", k->name);
}

static void setup_netlink_unread(struct kind *k) {
        struct {
                struct nlmsghdr head;
                struct rtgenmsg gen;
        } q = { .head = { .nlmsg_len = sizeof(q),
                          .nlmsg_type = RTM_GETLINK,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP } };

        NEED((k->fd[0] = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)) >= 0);
        CHECK(send(k->fd[0], &q, sizeof(q), 0) == sizeof(q), "send: %m");
}

static void check_unread(struct kind *k) {
        struct pollfd p = { .fd = k->fd[0], .events = POLLIN };
        char buf[65536];

        CHECK(poll(&p, 1, 0) == 1, "%s: what was unread is gone", k->name);
        CHECK(recv(k->fd[0], buf, sizeof(buf), MSG_DONTWAIT) > 0, "%s: %m", k->name);
}

static void setup_connector(struct kind *k) {
        struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = 1 };

        NEED((k->fd[0] = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_CONNECTOR)) >= 0);
        NEED(bind(k->fd[0], (struct sockaddr *)&a, sizeof(a)) == 0);
}

/* Logged packets of group 7 go to this socket. */
static void setup_nflog(struct kind *k) {
        struct {
                struct nlmsghdr head;
                struct nfgenmsg gen;
                struct nlattr attr;
                struct nfulnl_msg_config_cmd cmd;
        } q = { .head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg)) + NLA_HDRLEN + 1,
                          .nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
                .gen = { .nfgen_family = AF_INET, .res_id = htons(7) },
                .attr = { .nla_len = NLA_HDRLEN + 1, .nla_type = NFULA_CFG_CMD },
                .cmd = { .command = NFULNL_CFG_CMD_BIND } };
        struct {
                struct nlmsghdr head;
                struct nlmsgerr err;
                char more[256];
        } answer;

        NEED((k->fd[0] = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)) >= 0);
        CHECK(send(k->fd[0], &q, q.head.nlmsg_len + 3, 0) > 0, "send: %m");
        CHECK(recv(k->fd[0], &answer, sizeof(answer), 0) > 0, "recv: %m");
        errno = -answer.err.error;
        NEED(answer.err.error == 0);
}

/* "Take all" in eBPF. */
static int load_ebpf(void) {
        struct bpf_insn code[] = {
                { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0xffff },
                { .code = BPF_JMP | BPF_EXIT }
        };
        union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
                                .insns = (uintptr_t)code,
                                .insn_cnt = ELEMENTS(code),
                                .license = (uintptr_t) "GPL" };

        return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

static void setup_ebpf_filter(struct kind *k) {
        int prog = load_ebpf();

        NEED(prog >= 0);
        setup_plain(k);
        CHECK(setsockopt(k->fd[0], SOL_SOCKET, SO_ATTACH_BPF, &prog, sizeof(prog)) == 0,
              "SO_ATTACH_BPF: %m");
        close(prog);
}

/* Both ends, or one end that has fallen back to TCP (k->a is the protocol of the listener). */
static void setup_mptcp(struct kind *k) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof(a);

        NEED((k->fd[0] = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)) >= 0);
        NEED((k->fd[1] = socket(AF_INET, SOCK_STREAM, k->a)) >= 0);
        CHECK(bind(k->fd[1], (struct sockaddr *)&a, len) == 0 && listen(k->fd[1], 3) == 0, "listen: %m");
        CHECK(getsockname(k->fd[1], (struct sockaddr *)&a, &len) == 0, "getsockname: %m");
        NEED(connect(k->fd[0], (struct sockaddr *)&a, len) == 0);
        CHECK((k->fd[2] = accept(k->fd[1], NULL, NULL)) >= 0, "accept: %m");
        close(k->fd[1]);
}

static void check_mptcp(struct kind *k) {
        char c = 0;

        CHECK(write(k->fd[0], "a", 1) == 1 && read(k->fd[2], &c, 1) == 1 && c == 'a', "%s: %m", k->name);
}

/* Nobody answers. */
static void setup_mptcp_connecting(struct kind *k) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
        const struct sock_fprog nothing = { ELEMENTS(code), code };
        socklen_t len = sizeof(a);

        NEED((k->fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_MPTCP)) >= 0);
        NEED((k->fd[1] = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
        CHECK(setsockopt(k->fd[1], SOL_SOCKET, SO_ATTACH_FILTER, &nothing, sizeof(nothing)) == 0,
              "SO_ATTACH_FILTER: %m");
        CHECK(bind(k->fd[1], (struct sockaddr *)&a, len) == 0 && listen(k->fd[1], 3) == 0, "listen: %m");
        CHECK(getsockname(k->fd[1], (struct sockaddr *)&a, &len) == 0, "getsockname: %m");
        CHECK(connect(k->fd[0], (struct sockaddr *)&a, len) < 0 && errno == EINPROGRESS, "connect: %m");
}

static void check_mptcp_connecting(struct kind *k) {
        const int none = 0;

        CHECK(setsockopt(k->fd[1], SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof(none)) == 0,
              "SO_DETACH_FILTER: %m");
        CHECK((k->fd[2] = accept(k->fd[1], NULL, NULL)) >= 0, "accept: %m");
        CHECK(fcntl(k->fd[0], F_SETFL, 0) == 0, "F_SETFL: %m");
        check_mptcp(k);
}
/* Nobody can get at a socket that is only mapped. */
static void setup_packet_ring(struct kind *k) {
        struct tpacket_req req = { 4096, 2, 2048, 4 };

        setup_plain(k);
        CHECK(setsockopt(k->fd[0], SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) == 0,
              "PACKET_RX_RING: %m");
        CHECK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd[0], 0) != MAP_FAILED, "mmap: %m");
        close(k->fd[0]);
        setup_plain(k);
}

/* The device goes when its other end does. */
static void setup_packet_gone(struct kind *k) {
        struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(3) };
        struct ifreq req = { .ifr_flags = IFF_TAP | IFF_NO_PI };
        int tun = open("/dev/net/tun", O_RDWR);

        NEED(tun >= 0 && ioctl(tun, TUNSETIFF, &req) == 0);
        setup_plain(k);
        a.sll_ifindex = (int)if_nametoindex(req.ifr_name);
        CHECK(bind(k->fd[0], (struct sockaddr *)&a, sizeof(a)) == 0, "bind: %m");
        close(tun);
}

static struct kind kinds[] = {
        { .name = "packet-ring",
          .setup = setup_packet_ring,
          .check = check_there,
          .a = AF_PACKET,
          .b = SOCK_RAW },
        { .name = "packet-gone",
          .setup = setup_packet_gone,
          .check = check_there,
          .a = AF_PACKET,
          .b = SOCK_RAW },
        { .name = "mptcp", .setup = setup_mptcp, .check = check_mptcp, .a = IPPROTO_MPTCP },
        { .name = "mptcp-connecting", .setup = setup_mptcp_connecting, .check = check_mptcp_connecting },
        { .name = "mptcp-fallback", .setup = setup_mptcp, .check = check_mptcp, .a = IPPROTO_TCP },
        { .name = "netlink-unread", .setup = setup_netlink_unread, .check = check_unread },
        { .name = "connector", .setup = setup_connector, .check = check_there },
        { .name = "nflog", .setup = setup_nflog, .check = check_there },
        { .name = "ebpf-filter",
          .setup = setup_ebpf_filter,
          .check = check_there,
          .a = AF_INET,
          .b = SOCK_DGRAM },
        { .name = "ebpf-filter-netlink",
          .setup = setup_ebpf_filter,
          .check = check_there,
          .a = AF_NETLINK,
          .b = SOCK_RAW },
        { .name = "vsock", .setup = setup_plain, .check = check_there, .a = AF_VSOCK, .b = SOCK_STREAM },
        { .name = "xdp", .setup = setup_plain, .check = check_there, .a = AF_XDP, .b = SOCK_RAW },
        { .name = "alg", .setup = setup_plain, .check = check_there, .a = AF_ALG, .b = SOCK_SEQPACKET },
};

int main(int argc, char **argv) {
        char *names, *save = NULL;

        test_init(argc, argv);
        CHECK(argc > 1, "no kind");
        names = strdup(argv[argc - 1]);
        for (char *name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
                size_t i = 0;

                while (i < ELEMENTS(kinds) && strcmp(kinds[i].name, name) != 0)
                        i++;
                CHECK(i < ELEMENTS(kinds), "no kind %s", name);
                kinds[i].setup(&kinds[i]);
        }
        test_ready();
        test_wait();
        strcpy(names, argv[argc - 1]);
        for (char *name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save))
                for (size_t i = 0; i < ELEMENTS(kinds); i++)
                        if (strcmp(kinds[i].name, name) == 0)
                                kinds[i].check(&kinds[i]);
        test_pass();
}
