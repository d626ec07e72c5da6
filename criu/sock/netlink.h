/* SPDX-License-Identifier: GPL-2.0-only */
/* What netlink.c shows of itself, for its tests. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "images/sk-netlink.pb-c.h"

/* What netlink_diag tells of a socket. */
struct netlink_diag {
        uint32_t ino;
        uint8_t state;
        bool listing; /* the kernel is in the middle of a long answer */
};

/* `len` bytes behind the netlink header. -EBADMSG if it makes no sense. */
int netlink_parse_diag(const void *payload, size_t len, struct netlink_diag *ret);

/* Does /proc/net/netfilter/nfnetlink_queue or nfnetlink_log name this port in its second column? */
bool netlink_in_list(const char *text, uint32_t portid);

/* Does the message make sense? NULL, or what is wrong with it. */
const char *netlink_check(const Img__NetlinkSk *nlsk);
