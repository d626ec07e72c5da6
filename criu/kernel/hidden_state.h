/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * State of threads that no interface shows to others, and mostly not to themselves either: Landlock domains, keyrings, io_uring
 * instances without a descriptor, and what older kernels do not tell: syscall user dispatch (by ptrace from Linux 6.4 on). A BPF iterator over tasks (kernel/bpf.h) copies it from their structures.
 *
 * Landlock keeps its part of the credentials at a place that no description of types tells. So a thread of ckpt enters a
 * domain, and the word that changes is the one; it also gets keyrings, whose numbers have to be those that are read.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vec.h"

enum hidden_ring {
        HIDDEN_RING_SESSION,
        HIDDEN_RING_PROCESS,
        HIDDEN_RING_THREAD,
        HIDDEN_RINGS_MAX,
        _HIDDEN_RINGS_INVALID = -EINVAL,
};

struct hidden_keyring {
        int32_t serial; /* 0: it has none */
        uint32_t uid;   /* the owner, as the first user namespace has it */
        uint64_t keys;  /* how many there are in it, keyrings among them */
};

/* Of what this kernel, or ckpt here, cannot tell, it says that there is none: see hidden_tells(). */
struct hidden_state {
        pid_t tid;         /* in the pid namespace of ckpt */
        uint64_t landlock; /* without meaning, but that equal ones are the same domain; 0: it is in none */
        struct hidden_keyring ring[HIDDEN_RINGS_MAX];
        bool default_ring; /* KEYCTL_SET_REQKEY_KEYRING */
        bool io_uring;     /* an instance is registered with the thread (IORING_REGISTER_RING_FDS) */
        bool user_events;  /* of tracing (user_events_data) */
        bool iopl;         /* iopl(2) */
        bool dispatch;     /* its system calls are intercepted (PR_SET_SYSCALL_USER_DISPATCH) */
};
DEFINE_VEC(hidden_state_vec, struct hidden_state);

struct bpf;
struct hidden_source;

/* What it may be able to tell, each proved for itself. */
struct hidden_tells {
        bool landlock, keyrings, dispatch;
};

/*
 * Load the program and try it: 1 ms, and what bpf_load() takes. A negative errno, without a message: it is not to be had. From
 * any thread.
 */
int hidden_source_open(struct bpf *bpf, struct hidden_source **ret);
void hidden_source_free(struct hidden_source **s);

struct hidden_tells hidden_source_tells(const struct hidden_source *s);

/* Of all threads of process `pid` and perhaps others, or of all that there are (0), in the order of their numbers. */
int hidden_source_read(const struct hidden_source *s, pid_t pid, struct hidden_state_vec *ret);

/* NULL: there is none. */
const struct hidden_state *hidden_state_find(const struct hidden_state_vec *states, pid_t tid);
