/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Socket options of all families, from one table (opts.c): which there are, where they stand in the images,
 * and when a restore sets them.
 *
 * A restore compares what is recorded with what a new socket has, and sets only what differs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "images/sk-inet.pb-c.h"
#include "images/sk-opts.pb-c.h"
#include "images/tcp.pb-c.h"
#include "lib/arena.h"
#include "sock/diag.h"

enum sock_when {
        SOCK_WHEN_BIND, /* before bind(2) and connect(2) */
        SOCK_WHEN_OPEN, /* once it is bound, listens or is connected */
        SOCK_WHEN_FILTER, /* queues are filled, the network is still locked: filters of connections; rings are: of packet sockets */
        SOCK_WHEN_LAST, /* everything is there: queues, other sockets; just before the tasks run */
        SOCK_WHEN_MAX,
        SOCK_WHEN_INVALID = -1,
};

/* What the options of one socket are recorded in. `ip` and `tcp` are NULL for families without them. */
struct sock_opts {
        Img__SkOpts *sk;
        Img__IpOpts *ip;
        Img__TcpOpts *tcp;
};

/* Which rows apply. */
struct sock_kind {
        int domain, type, protocol;
};

/* What need not be asked. */
struct sock_known {
        bool connected;               /* it is a TCP connection */
        const struct sock_diag *diag; /* of the frozen socket, or NULL */
};

/* What new sockets have, by kind; asked for once. For all threads. */
struct sock_defaults;
struct sock_defaults *sock_defaults_new(void);
void sock_defaults_free(struct sock_defaults **d);

/*
 * Read all options of `fd` into messages made in `arena`; ret->ip and ret->tcp only for AF_INET and
 * AF_INET6 (TCP). Options that this kernel or this kind of socket does not have are left out, and those that are zero in
 * it and in every new socket. `known` may be NULL. getsockopt(2).
 */
int sock_opts_dump(int fd, const struct sock_kind *kind, struct arena *arena, struct sock_defaults *defaults,
                   const struct sock_known *known, struct sock_opts *ret, struct ckpt_error *err);

/* A number that is recorded there, or `otherwise`. */
int sock_opts_number(const Img__SkOpts *sk, int level, int name, int otherwise);

/* Does the image make sense? -EBADMSG with a text in *ret_why (static). */
int sock_opts_check(const struct sock_opts *opts, const char **ret_why);

/*
 * Load stage, main thread: would this machine take those options that devices, modules of the kernel or privileges may be
 * missing for? By trial, with a socket that goes again; what one socket has passed is not tried again for the next.
 */
int sock_opts_try(const struct sock_kind *kind, const struct sock_opts *opts, struct sock_defaults *defaults,
                  const char *what, struct ckpt_error *err);

/*
 * Set those options of `fd` whose time has come. `what` names the socket in errors. SOCK_WHEN_BIND leaves the
 * buffers at least `room` bytes large, for queues that are to be filled; their own size comes last.
 */
int sock_opts_restore(int fd, const struct sock_kind *kind, const struct sock_opts *opts,
                      enum sock_when when, size_t room, struct sock_defaults *defaults, const char *what,
                      struct ckpt_error *err);
