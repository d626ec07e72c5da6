/* SPDX-License-Identifier: GPL-2.0-only */
/* Sockets that cannot be carried over: which one it is, and what the program can do without it. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "cleanup.h"
#include "fd/kind.h"
#include "macro.h"

enum { TEXT_MAX = 320, ADDRESS_MAX = 140, PROTOCOL_L2TP = 115, PROTOCOL_SMC = 256 };

union address {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_vm vm;
        struct sockaddr_storage storage;
};

struct sock_row {
        int domain, type, protocol; /* -1: any */
        const char *name;
        const char *hint;
};

#define USE_TCP   "Have the program use TCP instead"
#define NO_CRYPTO "Have the program use its own cryptography (OpenSSL: without the engine afalg)"
#define CLOSE_IT  "Have the program close it first, or end the program that uses it"

static const struct sock_row rows[] = {
        { AF_INET, -1, IPPROTO_SCTP, "SCTP socket", USE_TCP },
        { AF_INET6, -1, IPPROTO_SCTP, "SCTP socket", USE_TCP },
        { AF_INET, -1, IPPROTO_DCCP, "DCCP socket", USE_TCP },
        { AF_INET6, -1, IPPROTO_DCCP, "DCCP socket", USE_TCP },
        { AF_INET, -1, PROTOCOL_L2TP, "L2TP socket", CLOSE_IT },
        { AF_INET6, -1, PROTOCOL_L2TP, "L2TP socket", CLOSE_IT },
        { AF_INET, -1, PROTOCOL_SMC, "SMC socket", "Start the program without smc_run(8)" },
        { AF_INET6, -1, PROTOCOL_SMC, "SMC socket", "Start the program without smc_run(8)" },
        { AF_PACKET, -1, -1, "packet socket of the obsolete type SOCK_PACKET",
          "Have the program use SOCK_RAW" },
        { AF_VSOCK, -1, -1, "vsock socket", USE_TCP },
        { AF_ALG, -1, -1, "socket of the kernel's cryptography (AF_ALG)", NO_CRYPTO },
        { AF_BLUETOOTH, -1, -1, "Bluetooth socket", CLOSE_IT },
        { AF_CAN, -1, -1, "CAN socket", CLOSE_IT },
        { AF_TIPC, -1, -1, "TIPC socket", USE_TCP },
        { AF_XDP, -1, -1, "socket of XDP (AF_XDP)", "Have the program use a packet socket or UDP instead" },
        { AF_RDS, -1, -1, "RDS socket", USE_TCP },
        { AF_KEY, -1, -1, "IPsec key socket (PF_KEY)", "Have the program use NETLINK_XFRM, or end it" },
        { AF_PPPOX, -1, -1, "PPP over Ethernet or L2TP socket", CLOSE_IT },
        { AF_KCM, -1, -1, "KCM socket", USE_TCP },
        { AF_SMC, -1, -1, "SMC socket", "Start the program without smc_run(8)" },
        { AF_QIPCRTR, -1, -1, "Qualcomm IPC socket", CLOSE_IT },
        { AF_RXRPC, -1, -1, "RxRPC socket", CLOSE_IT },
        { AF_NFC, -1, -1, "NFC socket", CLOSE_IT },
        { -1, -1, -1, "socket of a kind that ckpt does not know", CLOSE_IT },
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
        case AF_VSOCK:
                snprintf(ret, ADDRESS_MAX, "%u:%u", a->vm.svm_cid, a->vm.svm_port);
                break;
        default:
                break;
        }
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
                 peer, option(fd, SO_ACCEPTCONN) > 0 ? ", listening" : "");
}

void sock_look(struct fd_probe *p, struct blockers *b) {
        _cleanup_close_ int fd = fd_probe_get(p);
        const struct sock_row *row = &rows[ELEMENTSOF(rows) - 1];
        char text[TEXT_MAX];

        if (fd == -ESRCH || fd == -EBADF) /* gone since, with its process perhaps */
                return;
        snprintf(text, sizeof(text), "%s", row->name);
        if (fd >= 0) {
                row = find_row(fd);
                describe(fd, row, text);
        }
        blocker_add(b, row->hint, "%s is a %s (%s), which cannot be checkpointed", fd_probe_name(p), text,
                    p->link);
}
