/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What threads have for themselves, without asking them. Their names, their alternate signal stacks and much of what
 * prctl(2) tells are told only to the thread itself; a BPF iterator (iter/task, for one process Linux 6.1) copies it out of
 * struct task_struct for all threads of a process at once: 0.2 us each, where a visit takes 60.
 *
 * Nothing of that is taken for granted. Before it is used, a thread of ckpt takes on each of these attributes in turn, and
 * what the kernel tells it has to agree with what the iterator does. Some are values, others only bits whose meaning is
 * the kernel's own: of those it is made sure that they change when the attribute does and come back with it. Threads
 * that are equal in them have equal attributes, so that one of them can answer for all.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vec.h"

struct bpf;
struct thread_facts;

enum { THREAD_LIKENESS = 8 };

struct thread_fact {
        pid_t tid; /* in the pid namespace of ckpt */
        char comm[16];
        uint64_t tid_address;    /* what is cleared at its exit */
        uint64_t ss_sp, ss_size; /* as sigaltstack(2) tells while it does not stand on that stack */
        uint32_t ss_flags;
        uint64_t
                namespaces; /* threads of which it is the same are in the same ones; but it tells nothing of user namespaces */
        uint64_t
                credentials; /* threads of which it is the same have the same ones (credentials(7), capabilities(7)) */
        uint64_t files,
                fs; /* threads of which they are the same share a descriptor table, a working directory; 0: none */
        uint64_t pending; /* signals that wait for this thread; bit n - 1 is signal n */
        uint64_t seccomp; /* as PR_GET_SECCOMP tells it */
        /* Of the process: as long as it is the same, no memory area has got other flags. 0: it is not known. */
        uint64_t areas;
        uint64_t features; /* of shadow stacks; not compared, so that it is only a hint */
        /*
         * Threads in which these are equal have the same parent-death signal, timer slack, personality, securebits, NUMA policy,
         * policies for machine checks and speculation, and modes of TSC and CPUID.
         */
        uint64_t likeness[THREAD_LIKENESS];
};

DEFINE_VEC(thread_fact_vec, struct thread_fact);

/*
 * Load the program and compare: 2 ms. `bpf`: after bpf_load(). A negative errno, without a message: it does not agree
 * (-ENODATA), the kernel has no such iterator, or BPF may not be used.
 */
int thread_facts_open(const struct bpf *bpf, struct thread_facts **ret);
void thread_facts_free(struct thread_facts **f);

/* Of all threads of process `pid`, in the order of their numbers. To be stopped, if it is to be true. From any thread. */
int thread_facts_read(const struct thread_facts *f, pid_t pid, struct thread_fact_vec *ret);

/* NULL: there is none. */
const struct thread_fact *thread_facts_find(const struct thread_fact_vec *facts, pid_t tid);

bool thread_facts_alike(const struct thread_fact *a, const struct thread_fact *b);

/* Do they share a descriptor table, and a working directory with all that goes with it? As kcmp(2) tells. */
bool thread_facts_same_tables(const struct thread_fact *a, const struct thread_fact *b);

/* Have they the same credentials, no_new_privs and mode of seccomp? */
bool thread_facts_same_rights(const struct thread_fact *a, const struct thread_fact *b);
