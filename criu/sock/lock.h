/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The network lock: while a connection is between two machines' memories, or stopped, no packet of it comes in
 * or goes out, so that nobody answers with a RST. One nftables table of ckpt's own per run, named ckpt-ID,
 * with the connections as elements of two sets; made, and taken away, in one transaction each. It
 * lies in ckpt's network namespace.
 *
 * Where the kernel has no nf_tables, chains of the legacy iptables: in the table mangle, which sees addresses as the
 * socket has them, ckpt-ID-in and -out, and more where there are many connections (xtables.h). One transaction for each
 * of IPv4 and IPv6.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "vec.h"

enum { NETLOCK_NAME_MAX = 32, NETLOCK_MESSAGE_MAX = 256 };

/* Packets with this mark pass: those that ckpt itself makes (packet.h). */
#define NETLOCK_MARK 0x434b5054U

/* A TCP connection seen from the end that is in the tree. */
struct sock_tuple {
        uint32_t v6; /* 1: IPv6; no bool, so that there is no padding: tuples are compared as bytes */
        uint32_t src[4], dst[4];     /* network byte order; IPv4, also mapped into IPv6, uses the first */
        uint16_t src_port, dst_port; /* host byte order */
};
DEFINE_VEC(sock_tuple_vec, struct sock_tuple);

/* Choose a name nobody has used. */
void netlock_new_name(char ret[static NETLOCK_NAME_MAX]);

/* Is it a name that netlock_new_name() could have made? Names from images must be. */
bool netlock_name_valid(const char *name);

/*
 * Hold back the packets of `n` connections, and write `note` (what for, in words) into the table. Costs one
 * transaction. -EOPNOTSUPP: the kernel has neither nf_tables nor ip_tables. -EMFILE: no
 * descriptor below FD_SETSIZE is free, which libnftables needs.
 *
 * The lock is in force as long as somebody holds it: the table belongs to a socket ("flags owner", Linux 5.12), and goes
 * with the last copy of its descriptor, so also when somebody kills ckpt and all its helpers. On older kernels it
 * stays until it is removed. Of the legacy iptables nothing goes by itself: a process watches over ckpt and removes it.
 *
 * Only what goes out is held back, until netlock_hold_in(). What arrives in between is received, but the peer is not
 * told; so the first ACK after the restore tells it something new, and it goes on at once, however far its
 * timer for repeating things has backed off meanwhile.
 */
struct netlock_hold;

/*
 * `*spare` is a descriptor with a number below FD_SETSIZE, which is closed to make room: libnftables waits with select(2).
 * NULL or -EBADF: there is room.
 */
int netlock_hold(const char *name, const struct sock_tuple *tuples, size_t n, const char *note, int *spare,
                 struct netlock_hold **ret, struct ckpt_error *err);
int netlock_hold_in(struct netlock_hold *h, struct ckpt_error *err);

/* Put a table with this name in its place, in one transaction, that stays until netlock_remove(). */
int netlock_hold_leave(struct netlock_hold *h, const char *name, const struct sock_tuple *tuples, size_t n,
                       const char *note, struct ckpt_error *err);

/* Let the packets through again. NULL is fine, and one that was left behind. */
int netlock_hold_end(struct netlock_hold *h, struct ckpt_error *err);

/* Close its socket, which ends it as well. NULL is fine. Takes a while: see netlock_socket(). */
void netlock_hold_free(struct netlock_hold **h);

/*
 * Remove a lock that stays, of whichever kind it is. One that is not there is no error. `*fd`: a socket of
 * netlock_socket(), made if it is negative, for the caller to close. To close it soon after something was removed
 * costs a grace period of RCU, 10 ms: do it when nobody waits any more.
 */
int netlock_remove(int *fd, const char *name, struct ckpt_error *err);

/* -EPROTONOSUPPORT: the kernel has no netlink for netfilter. */
int netlock_socket(void);

/* 1: there is such a lock; 0: there is none. */
int netlock_exists(const char *name);

/*
 * netlock_remove() for a process that may use system calls only: prepare a message, send it to a socket of
 * netlock_socket() later; and call the other one.
 */
size_t netlock_remove_message(const char *name, char ret[static NETLOCK_MESSAGE_MAX]);
int netlock_legacy_remove(const char *name);

/* A lock that some run has left, for `ckpt check`. */
struct netlock_found {
        char name[NETLOCK_NAME_MAX];
        char note[128]; /* "" if it has none */
        pid_t owner;    /* the ckpt that made it, if that still runs; else 0 */
        bool nft;       /* a table of nftables; or: */
        bool xt[2];     /* chains of the legacy iptables, for IPv4, IPv6 */
};
DEFINE_VEC(netlock_found_vec, struct netlock_found);

/* All locks in ckpt's network namespace, with whom they belong to. */
int netlock_list(struct netlock_found_vec *ret, struct ckpt_error *err);
