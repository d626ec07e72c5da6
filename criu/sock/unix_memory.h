/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is in the queues of unix sockets, read from the kernel's memory (kernel/peek.h): of sockets that nobody has a descriptor of, and
 * what recvmsg(2) does not tell without taking it out: where urgent data (MSG_OOB) is, and where it was.
 */
#pragma once

#include <errno.h>

#include "kernel/peek.h"
#include "kernel/peek_page.h"
#include "lib/arena.h"
#include "sock/unix_peek.h"

enum unix_at_mark {
        UNIX_AT_MARK_NOTHING, /* late versions of Linux 6.1 */
        UNIX_AT_MARK_BYTE,
        UNIX_AT_MARK_BEHIND, /* it is passed over */
        UNIX_AT_MARK_MAX,
        _UNIX_AT_MARK_INVALID = -EINVAL,
};

/* How it is read, and what of it has been proved. */
struct unix_memory {
        struct peek *peek;
        struct peek_pages pages;
        bool paged;  /* `pages` is known: what is longer than a page can be read too */
        bool rights; /* files are seen */
        bool urgent; /* urgent data is seen, if this kernel has any */
        /* What comes to who peeks at a mark at the head that is not in line; or if only urgent data that was read is before it. */
        enum unix_at_mark at_mark[2];
        bool empty; /* packets without data are seen, with their senders */
};

/* Find out on sockets of ckpt's own whether rights, urgent data and empty packets are seen. m->peek stays the caller's. */
void unix_memory_prove(struct unix_memory *m);

/* The name that the socket at `sk` is bound to; in the arena, *ret_len 0: to none. */
int unix_memory_name(struct peek *p, uint64_t sk, struct arena *arena, const char **ret, size_t *ret_len);

/*
 * The message of the packet at `skb` in the queue of the socket at `sk`. All is in the arena; files by their addresses, which stand in
 * ret->files. -EOPNOTSUPP: there are files or urgent data in it, and these are not seen.
 */
int unix_memory_message(const struct unix_memory *m, uint64_t sk, uint64_t skb, struct arena *arena,
                        struct unix_peeked *ret);

/* Call `fn` with the address of each packet in the queue of the socket at `sk`; -ENODATA if there are more than `max`. */
int unix_memory_each(struct peek *p, uint64_t sk, size_t max, int (*fn)(void *arg, uint64_t skb), void *arg);

/*
 * What the queue of a socket consists of, where that is more than recvmsg(2) tells: if there is urgent data in it or was, or a packet
 * without data. Else *ret is NULL. `fd` is a copy in ckpt, and nothing comes or goes there. In the arena.
 */
int unix_memory_parts(const struct unix_memory *m, int fd, int type, struct arena *arena,
                      const struct unix_part **ret, size_t *ret_n);
