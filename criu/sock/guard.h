/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a dump does to live connections sits in the kernel and survives ckpt: a socket that is being read is in
 * repair mode, where programs get errors from it, and the network lock holds its packets back. Both are in the
 * hands of a process of their own, the guard. It reads the sockets, so that whenever ckpt is killed, the socket at
 * hand is out of repair mode before the tasks, which the death of their tracer lets go, come back to it: it is quick and
 * has real-time priority, and where the tasks have a tracer that outlives ckpt (compel_tracer_hold()), that waits for it. When
 * ckpt is dead, it removes the lock. It shares ckpt's descriptor table (CLONE_FILES), so that one guard
 * serves any number of sockets.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "lib/kill_guard.h"
#include "sock/datagram.h"
#include "sock/tcp.h"

struct guard_page;

struct sock_guard {
        pid_t pid; /* 0: not armed */
        struct guard_page *page;
        size_t size;
        uint32_t *hold;             /* the tracer's; NULL: there is none */
        const int *killed;          /* of `killer` */
        int self, root, killer, nl; /* kept open for it */
};

#define SOCK_GUARD_INIT \
        ((struct sock_guard){ .self = -EBADF, .root = -EBADF, .killer = -EBADF, .nl = -EBADF })

/* A socket to be read, in memory that sock_guard_begin() gives. */
struct guard_job {
        int fd; /* -1: by the caller itself */
        struct tcp_kept kept;
        struct tcp_told told;
        int result;
        struct tcp_queues q;
        struct datagrams datagrams;
};

enum {
        GUARD_JOBS_MAX = 256,
        GUARD_ROOM = 1 << 30, /* bytes of queues; memory only as far as it is used */
};

enum guard_half { GUARD_SENT = 1, GUARD_RECEIVED = 2, GUARD_DATAGRAMS = 3, GUARD_QUIET = 4 };

enum { GUARD_LOCKS = 2 };

/*
 * Arm it. `root` is the root of the tree, `killer` kills it if ckpt dies while it does, `hold` is of its tracer. All calls are for one thread, the tracer of the tree. The guard begins as a
 * copy of ckpt: each page that ckpt has by then is copied when ckpt writes to it next, so the earlier, the better.
 */
int sock_guard_arm(pid_t root, const struct kill_guard *killer, uint32_t *hold, struct sock_guard *ret,
                   struct ckpt_error *err);

/* From now on ckpt's death removes these network locks, which need not be there. Once. */
int sock_guard_locks(struct sock_guard *g, const char *const locks[GUARD_LOCKS], struct ckpt_error *err);

/*
 * Begin a batch: its GUARD_JOBS_MAX jobs, for the caller to fill in, with half of the room for their queues, or all
 * of it. There are two that take turns: jobs and queues of a batch stay where they are until the next but one is
 * begun, or the next if one of them has all of the room.
 */
struct guard_job *sock_guard_begin(struct sock_guard *g, bool all_room);

/* What is left of that room; only while nothing is ordered. */
struct tcp_room *sock_guard_room(struct sock_guard *g);

/*
 * Have that half of the first `n` jobs read, and wait until they are: fills `result` and `q` (tcp_read_sent(),
 * tcp_read_received()) of each; or all of connections that are quiet (tcp_read_quiet(), and when all are read
 * tcp_was_quiet()); or, of UDP sockets, `datagrams`. Fails only if the guard has died.
 */
void sock_guard_order(struct sock_guard *g, enum guard_half half, size_t n);
int sock_guard_await(struct sock_guard *g, struct ckpt_error *err);

/*
 * The tree is about to be killed, with another guard to complete that should ckpt die: the lock now goes only if the
 * tree lives on, and what the tracer holds does not run before that is decided.
 */
void sock_guard_killing(struct sock_guard *g);

/*
 * The same of a connection in an MPTCP socket, which repair mode cannot silence: mptcp_end() it if ckpt dies when the tree is
 * dead. Of more than GUARD_ENDS_MAX, those that are left stay in the kernel for a while then.
 */
enum { GUARD_ENDS_MAX = 4096 };
void sock_guard_end(struct sock_guard *g, int fd);

/* From here on ckpt's death is its own affair. Safe on one that is not armed. */
void sock_guard_disarm(struct sock_guard *g);
