/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

#include "kernel/thread_facts.h"

/* The words of a likeness. */
enum {
        LIKE_WORK,         /* bits: modes of TSC and CPUID, speculation */
        LIKE_FLAGS,        /* bits: machine checks */
        LIKE_ATOMIC_FLAGS, /* bits: speculation */
        LIKE_PERSONALITY,
        LIKE_SLACK,
        LIKE_PDEATH,
        LIKE_SECUREBITS,
        LIKE_MEMPOLICY, /* 0: none */
};

_Static_assert(LIKE_MEMPOLICY + 1 == THREAD_LIKENESS, "a likeness has other words");

/*
 * Does what is read of a thread of ckpt agree with what the kernel tells that thread? 0, -ENODATA: it does not, or
 * another negative errno. (thread_facts_check.c)
 */
int thread_facts_check(const struct thread_facts *f);
