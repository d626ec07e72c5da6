/* SPDX-License-Identifier: GPL-2.0-only */
/* Raw and ping sockets of IPv4 and IPv6: what inet.c needs beyond what other sockets have. */
#pragma once

#include <stdbool.h>

#include "dump/blockers.h"
#include "error.h"
#include "images/sk-inet.pb-c.h"
#include "lib/arena.h"
#include "sock/diag.h"

/* Does the kernel show a socket of this kind only in /proc/net, not in sock_diag? Raw and ping sockets. */
bool raw_is_kind(int type, int protocol);

/* Add those of the family to the table, unless that was done before. */
int raw_query(struct sock_diag_table *t, int family, bool ping, struct ckpt_error *err);

/* Parse the text of /proc/net/raw, raw6, icmp or icmp6. -EBADMSG: it is something else. For tests too. */
int raw_parse_list(const char *text, bool v6, struct sock_diag_vec *ret);

/* Adds a blocker for a socket through which multicast packets are routed. */
void raw_look(int fd, const char *name, struct blockers *b);

/* ICMP_FILTER, ICMPV6_FILTER. */
int raw_dump(int fd, struct arena *arena, Img__InetSk *isk);
int raw_restore(int fd, const Img__InetSk *isk, const char *what, struct ckpt_error *err);

/* A ping socket may only be made by those whose group is in net.ipv4.ping_group_range: make it as that group. */
int ping_make(const Img__InetSk *isk, int *ret_fd);
