/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kinds of sockets of all families have in common. */
#pragma once

#include "fd/kind.h"
#include "sock/opts.h"

/* ---- dump ---- */

/*
 * A copy of the descriptor in ckpt: each kind's match, look and dump asks about the same one in turn, so
 * sock_copy_keep() leaves it (and takes it over) for the next that asks. Negative errno.
 */
int sock_copy_take(struct fd_probe *p);
void sock_copy_keep(struct fd_probe *p, int fd);

/* An int of SOL_SOCKET; -1: it has none. */
int sock_option(int fd, int name);

/* Is the probe a socket for which `is_known` says yes? For match(). */
bool sock_match(struct fd_probe *p, bool (*is_known)(int domain, int type, int protocol));

/*
 * What stands against a socket of any kind: it belongs to another network namespace, its owner is outside of the
 * tree, it has an eBPF program as its filter. For look(): the copy, or negative if there is nothing more to look at.
 */
int sock_look_at(struct fd_probe *p, struct blockers *b);

/* Nothing of the kind. In any thread. */
bool sock_is_clear(struct dump *d, int fd);

struct sock_owner {
        Img__Fown *fown; /* in `arena` */
        uint32_t uid, gid;
        uint64_t ino;
};

int sock_owner_dump(struct dump *d, int fd, struct arena *arena, const char *name, struct sock_owner *ret,
                    struct ckpt_error *err);

/* The id of the tree's network namespace, as ids-PID.img has it. */
uint32_t sock_ns_id(void);

/* ---- restore ---- */

/* A socket of ckpt's, owned by that user; *ret_fd is the caller's. `what` names it in errors. */
int sock_make(const struct sock_kind *kind, bool has_owner, uid_t uid, gid_t gid, const char *what,
              int *ret_fd, struct ckpt_error *err);

/* check(): sock_opts_try(), and what it says becomes a blocker. `what` names the socket. */
void sock_check_machine(struct restore *r, const struct sock_kind *kind, const struct sock_opts *opts,
                        struct sock_defaults *defaults, const char *what);

/* Before bind(2): only sockets of one user may share a port (SO_REUSEPORT). */
int sock_give(int fd, bool has_owner, uid_t uid, gid_t gid, const char *what, struct ckpt_error *err);

/* Give it O_NONBLOCK if `flags` (F_GETFL) has it. */
int sock_set_flags(int fd, uint32_t flags, const char *what, struct ckpt_error *err);

/* What new sockets have, for all kinds of sockets but internet ones; made at the first call. */
struct sock_defaults *sock_defaults_of(struct restore *r);

/* A kind's free(): the above. */
void sock_defaults_drop(struct restore_files *files);
