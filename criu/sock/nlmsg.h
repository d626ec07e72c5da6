/* SPDX-License-Identifier: GPL-2.0-only */
/* One question and its answer over netlink(7), and the attributes (TLVs) of messages. */
#pragma once

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

/* One message of the answer, complete. 0: go on; 1: that was all that is wanted; negative: fail with this. */
typedef int nl_take(const struct nlmsghdr *h, void *arg);

/* What follows the head of such a message. Results as above. */
typedef int nl_take_socket(const void *payload, size_t len, void *arg);

/*
 * Send `message` and give what comes back to `take` (NULL: only the acknowledgement counts), until NLMSG_DONE, an
 * acknowledgement or an error, which is returned. -EINTR: the kernel's tables changed during a listing; ask again.
 */
int nl_ask(int fd, const void *message, size_t size, nl_take *take, void *arg);

/*
 * The same over a socket of its own, asked again while the kernel says -EINTR; `again` (may be NULL) forgets what came.
 */
int nl_list(int protocol, const void *message, size_t size, nl_take *take, void (*again)(void *arg),
            void *arg);

/*
 * The sockets of the network namespace by sock_diag(7): `request`, a struct X_diag_req, says which. `take` gets the payload
 * of each answer. Otherwise as nl_list().
 */
int nl_list_sockets(const void *request, size_t size, nl_take_socket *take, void (*again)(void *arg),
                    void *arg);

/* The attributes behind the fixed part of a message. */
struct nl_attrs {
        const char *at, *end;
};

/* Those of `len` bytes of payload, behind a fixed part of `head` bytes. */
struct nl_attrs nl_attrs(const void *payload, size_t len, size_t head);

struct nl_attr {
        uint16_t type; /* without flags */
        size_t len;
        const void *data; /* aligned to 4 bytes if the message is */
};

/* 1: *ret is the next; 0: there is none; -EBADMSG: lengths that make no sense. */
int nl_attrs_next(struct nl_attrs *attrs, struct nl_attr *ret);
