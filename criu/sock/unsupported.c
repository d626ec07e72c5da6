/* SPDX-License-Identifier: GPL-2.0-only */
/* Sockets cannot be carried over yet; this says which one it is, so that its owner can be asked to close it. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/tcp.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "cleanup.h"
#include "fd/kind.h"
#include "macro.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

enum { TEXT_MAX = 320, ADDRESS_MAX = 140 };

union address {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_nl nl;
        struct sockaddr_vm vm;
        struct sockaddr_storage storage;
};

struct sock_row {
        int domain, type, protocol; /* -1: any */
        const char *name;
        const char *hint;
};

static const struct sock_row rows[] = {
        { AF_INET, SOCK_STREAM, IPPROTO_TCP, "TCP socket", NULL },
        { AF_INET6, SOCK_STREAM, IPPROTO_TCP, "TCP socket", NULL },
        { AF_INET, SOCK_STREAM, IPPROTO_MPTCP, "MPTCP socket", "Turn multipath TCP off in the program" },
        { AF_INET6, SOCK_STREAM, IPPROTO_MPTCP, "MPTCP socket", "Turn multipath TCP off in the program" },
        { AF_INET, SOCK_DGRAM, IPPROTO_UDP, "UDP socket", NULL },
        { AF_INET6, SOCK_DGRAM, IPPROTO_UDP, "UDP socket", NULL },
        { AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, "UDP-Lite socket", NULL },
        { AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE, "UDP-Lite socket", NULL },
        { AF_INET, -1, IPPROTO_SCTP, "SCTP socket", NULL },
        { AF_INET6, -1, IPPROTO_SCTP, "SCTP socket", NULL },
        { AF_INET, SOCK_DGRAM, IPPROTO_ICMP, "ping socket", NULL },
        { AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6, "ping socket", NULL },
        { AF_INET, SOCK_RAW, -1, "raw socket", NULL },
        { AF_INET6, SOCK_RAW, -1, "raw socket", NULL },
        { AF_UNIX, SOCK_STREAM, -1, "unix stream socket", NULL },
        { AF_UNIX, SOCK_DGRAM, -1, "unix datagram socket", NULL },
        { AF_UNIX, SOCK_SEQPACKET, -1, "unix seqpacket socket", NULL },
        { AF_NETLINK, -1, -1, "netlink socket", NULL },
        { AF_PACKET, -1, -1, "packet socket", NULL },
        { AF_VSOCK, -1, -1, "vsock socket", "Have the program use TCP instead" },
        { AF_ALG, -1, -1, "socket of the kernel's cryptography (AF_ALG)", NULL },
        { AF_BLUETOOTH, -1, -1, "Bluetooth socket", NULL },
        { AF_CAN, -1, -1, "CAN socket", NULL },
        { AF_TIPC, -1, -1, "TIPC socket", NULL },
        { AF_XDP, -1, -1, "XDP socket", NULL },
        { AF_RDS, -1, -1, "RDS socket", NULL },
        { AF_KEY, -1, -1, "IPsec key socket (PF_KEY)", NULL },
        { -1, -1, -1, "socket", NULL },
};

static int option(int fd, int name) {
        socklen_t len = sizeof(int);
        int value = 0;

        return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

static const struct sock_row *find_row(int fd) {
        int domain = option(fd, SO_DOMAIN), type = option(fd, SO_TYPE), protocol = option(fd, SO_PROTOCOL);
        const struct sock_row *row = rows;

        while (row->domain >= 0 && (row->domain != domain || (row->type >= 0 && row->type != type) ||
                                    (row->protocol >= 0 && row->protocol != protocol)))
                row++;
        return row;
}

/* Unix addresses of the abstract namespace are any bytes; shown as far as they can be. */
static void print_unix(const struct sockaddr_un *un, size_t len, char *ret) {
        size_t n = len > offsetof(struct sockaddr_un, sun_path)
                           ? len - offsetof(struct sockaddr_un, sun_path)
                           : 0;

        n = MIN(n, sizeof(un->sun_path));
        if (n > 0 && un->sun_path[0] != 0)
                n = strnlen(un->sun_path, n);
        for (size_t i = 0; i < n; i++)
                ret[i] = (i == 0 && un->sun_path[0] == 0)                                 ? '@'
                         : (unsigned char)un->sun_path[i] < ' ' || un->sun_path[i] == 127 ? '?'
                                                                                          : un->sun_path[i];
        ret[n] = 0;
}

/* "" for an address that says nothing. */
static void print_address(const union address *a, socklen_t len, char *ret) {
        char text[INET6_ADDRSTRLEN] = "";

        *ret = 0;
        if (len < sizeof(a->any.sa_family))
                return;
        switch (a->any.sa_family) {
        case AF_INET:
                inet_ntop(AF_INET, &a->in.sin_addr, text, sizeof(text));
                snprintf(ret, ADDRESS_MAX, "%s:%u", text, ntohs(a->in.sin_port));
                break;
        case AF_INET6:
                inet_ntop(AF_INET6, &a->in6.sin6_addr, text, sizeof(text));
                snprintf(ret, ADDRESS_MAX, "[%s]:%u", text, ntohs(a->in6.sin6_port));
                break;
        case AF_UNIX:
                print_unix(&a->un, len, ret);
                break;
        case AF_VSOCK:
                snprintf(ret, ADDRESS_MAX, "%u:%u", a->vm.svm_cid, a->vm.svm_port);
                break;
        default:
                break;
        }
}

static const char *state_of(int fd) {
        struct tcp_info info = { 0 };
        socklen_t len = sizeof(info);

        if (option(fd, SO_ACCEPTCONN) > 0)
                return ", listening";
        if (option(fd, SO_PROTOCOL) == IPPROTO_TCP &&
            getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state == 1)
                return ", an established connection";
        return "";
}

static void describe(int fd, const struct sock_row *row, char *ret) {
        char local[ADDRESS_MAX] = "", peer[ADDRESS_MAX] = "";
        union address a;
        socklen_t len = sizeof(a);

        if (getsockname(fd, &a.any, &len) == 0)
                print_address(&a, MIN(len, (socklen_t)sizeof(a)), local);
        len = sizeof(a);
        if (getpeername(fd, &a.any, &len) == 0)
                print_address(&a, MIN(len, (socklen_t)sizeof(a)), peer);
        snprintf(ret, TEXT_MAX, "%s%s%s%s%s%s", row->name, *local ? " " : "", local, *peer ? " -> " : "",
                 peer, state_of(fd));
}

void sock_look(struct fd_probe *p, struct blockers *b) {
        _cleanup_close_ int fd = fd_probe_get(p);
        const struct sock_row *row = &rows[ELEMENTSOF(rows) - 1];
        char text[TEXT_MAX];

        snprintf(text, sizeof(text), "%s", row->name);
        if (fd >= 0) {
                row = find_row(fd);
                describe(fd, row, text);
        }
        blocker_add(b, row->hint, "%s is a %s (%s), which cannot be checkpointed yet", fd_probe_name(p),
                    text, p->link);
}
