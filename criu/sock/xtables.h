/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tables of the legacy iptables as the kernel gives and takes them (IPT_SO_GET_ENTRIES, IPT_SO_SET_REPLACE; linux/
 * netfilter/x_tables.h): a blob of entries, the chains one after the other. Jumps are offsets, so that whatever is put
 * in or taken out moves them. IPv4 and IPv6 differ in the head of an entry only.
 *
 * No function here calls anything but memcpy and its like: they may be used in a copy of a process with threads.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* After netinet/in.h, which it otherwise contradicts. */
#include <linux/netfilter_ipv4/ip_tables.h>

#include "sock/lock.h"

struct xt_family {
        bool v6;
        int domain, level;     /* of sockets and of their options */
        const char *list;      /* file with the names of the tables that the network namespace has */
        uint16_t entry;        /* size of the head of an entry */
        uint16_t target, next; /* offsets of its target_offset and next_offset */
};

extern const struct xt_family xt_families[2];

/* A table as it was read. */
struct xt_table {
        const struct xt_family *family;
        const struct ipt_getinfo *info;
        const uint8_t *entries; /* info->size bytes, aligned to 8 */
};

enum { XT_BUCKET = 64 };

/*
 * What to change: the chains of the lock `remove` go (NULL: none), with all jumps to them; and `add` (NULL: none) gets a
 * chain for each of `hooks` (1 << NF_INET_LOCAL_IN, 1 << NF_INET_LOCAL_OUT), with a jump to it as the first rule.
 * These drop the packets of `tuples`, which are all of the table's family. Where they are more than XT_BUCKET, a
 * packet is led past most of them by its port: the tuples are sorted by that of the peer, or by the own one.
 */
struct xt_change {
        const char *remove, *add, *note;
        const struct sock_tuple *tuples;
        size_t n;
        unsigned int hooks;
        bool by_own_port;
};

/* Where to work: all of one size, aligned to 8, zeroed. */
struct xt_room {
        uint32_t *map;               /* xt_map_size() bytes */
        uint32_t *source;            /* one for each new entry: the number of the old one, or XT_NEW */
        struct ipt_replace *replace; /* and the new entries behind it */
};
#define XT_NEW UINT32_MAX

size_t xt_map_size(const struct xt_table *t);

/* Bytes, and number, of all entries after the change, or a few more. */
size_t xt_new_size(const struct xt_table *t, const struct xt_change *c);
size_t xt_new_entries(const struct xt_table *t, const struct xt_change *c);

/*
 * Fill room->replace (not: counters) and room->source. 1: there is nothing to change; 0: done; -EBADMSG: the table makes no
 * sense; -EOPNOTSUPP: it has no such hooks.
 */
int xt_edit(const struct xt_table *t, const struct xt_change *c, const struct xt_room *room);

/*
 * Call `take` for the chains of locks that hooks lead to: the name of the lock, and its note ("" if it has none).
 * -EBADMSG: the table makes no sense; or what `take` returns, if it is not 0.
 */
typedef int xt_take(const char *lock, const char *note, void *arg);
int xt_locks(const struct xt_table *t, xt_take *take, void *arg);
