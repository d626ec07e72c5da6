/* SPDX-License-Identifier: GPL-2.0-only */
/* What the ways to lock the network have in common (lock.c), and what each of them has (lock_nft.c, lock_legacy.c). */
#pragma once

#include "sock/lock.h"

struct netlock_backend {
        /* As the functions of lock.h are. `*ret_own` is what this backend keeps of it. */
        int (*hold)(const char *name, const struct sock_tuple *tuples, size_t n, const char *note,
                    int *spare, void **ret_own, struct ckpt_error *err);
        int (*hold_in)(void *own, const char *name, struct ckpt_error *err);
        int (*leave)(void *own, const char *held, const char *name, const struct sock_tuple *tuples,
                     size_t n, const char *note, struct ckpt_error *err);
        int (*end)(void *own, const char *name, struct ckpt_error *err);
        void (*free)(void *own);
        /* Add those that are there. A kernel that has nothing of this kind has none. */
        int (*list)(struct netlock_found_vec *all, struct ckpt_error *err);
};

extern const struct netlock_backend netlock_nft, netlock_legacy;

/* Has the kernel nf_tables? To be asked when making the lock has failed. */
bool netlock_nft_works(void);

/* Is it the answer of a kernel without nf_tables, or without netfilter's netlink at all? */
bool netlock_nft_missing(int r);

enum { NETLOCK_NOTE_MAX = 160 };

/* "PID/START note", of this process, without what could end a string. */
void netlock_note_print(const char *note, char ret[static NETLOCK_NOTE_MAX]);

/* Fill in `note` and `owner`, if it is one. */
void netlock_note_parse(const char *text, struct netlock_found *found);

/* netlock_remove() of each. */
int netlock_nft_remove(int *fd, const char *name, struct ckpt_error *err);
