/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets in the queues of sockets (struct sk_buff), read from the kernel's memory. */
#pragma once

#include "kernel/peek.h"
#include "kernel/peek_page.h"

/* How they are read: `pages` NULL: only those that are in one piece. */
struct peek_skbs {
        struct peek *peek;
        const struct peek_pages *pages;
};

/* Length in bytes of what is in it. */
int peek_skb_length(struct peek *p, uint64_t skb, uint64_t *ret);

/* All of it, `size` bytes, which is its length. -ENODATA: it cannot be read, or is of another length. */
int peek_skb_read(const struct peek_skbs *s, uint64_t skb, void *buf, size_t size);

/*
 * Call `fn` with the address of each packet in the queue (struct sk_buff_head) at `head`, in order. What it returns but 0 ends it and is
 * returned; -ENODATA: there are more than `max`.
 */
int peek_skb_each(struct peek *p, uint64_t head, size_t max, int (*fn)(void *arg, uint64_t skb), void *arg);
