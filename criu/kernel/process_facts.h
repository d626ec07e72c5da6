/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What many processes have in common, of all of them at once: a BPF iterator (kernel/bpf.h) goes through the tasks of the
 * machine, 1,000 in 1 ms. /proc and kcmp(2) take a tenth of a millisecond for each.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "proc/ns.h"
#include "vec.h"

enum process_part {
        PROCESS_MEMORY,
        PROCESS_FILES, /* its descriptor table */
        PROCESS_FS,    /* working directory, root and umask */
        PROCESS_PARTS_MAX,
        _PROCESS_PARTS_INVALID = -EINVAL,
};

enum process_place {
        PROCESS_CWD,
        PROCESS_ROOT,
        PROCESS_EXE,
        PROCESS_PLACES_MAX,
        _PROCESS_PLACES_INVALID = -EINVAL,
};

/* What it has, as a number: each proved for itself. */
enum process_value {
        PROCESS_OOM_SCORE_ADJ,
        PROCESS_COREDUMP_FILTER, /* core(5) */
        PROCESS_LOGINUID,        /* of audit; known where it is that of ckpt */
        PROCESS_TIMERS,          /* timer_create(2): 0: it has none */
        PROCESS_VALUES_MAX,
        _PROCESS_VALUES_INVALID = -EINVAL,
};

/* Numbers without meaning, but that equal ones, in one reading and of tasks that live on, say that it is the same. Not 0. */
enum { PROCESS_FDS = 8 /* descriptors from 0 on */ };

struct process_fact {
        pid_t pid;
        uint64_t part[PROCESS_PARTS_MAX];
        uint64_t place[PROCESS_PLACES_MAX][2]; /* mount and name in it; the open file */
        bool same_namespaces; /* it is in those of ckpt, all of them. false: in others, or it is not known */
        unsigned int known;   /* bits of enum process_value */
        int value[PROCESS_VALUES_MAX];
        uint64_t file
                [PROCESS_FDS]; /* open file descriptions, as the numbers above; 0: none, or it is not known */
        unsigned int cloexec;  /* bits: of those descriptors */
        unsigned int locks;    /* likewise: there may be locks on the file, of whoever */
};
DEFINE_VEC(process_fact_vec, struct process_fact);

struct bpf;
struct process_facts;

/*
 * Load the program, and check on ckpt itself that it tells what it should (its oom_score_adj
 * and coredump_filter are others for a moment): some 1 ms, and what bpf_load() takes. A
 * negative errno, without a message: there is none of it.
 */
int process_facts_open(struct bpf *bpf, struct process_facts **ret);
void process_facts_free(struct process_facts **f);

/* Of all processes whose leader lives and that have memory, sorted by number, as seen from ckpt's pid namespace. */
int process_facts_read(const struct process_facts *f, struct process_fact_vec *ret);

/* false: `fact` is NULL, or this is not known. */
bool process_fact_value(const struct process_fact *fact, enum process_value which, int *ret);

/* The open file description behind a descriptor; 0: none, or it is not known. */
uint64_t process_fact_file(const struct process_fact *fact, int fd);

/* NULL: nothing is known of it. */
const struct process_fact *process_facts_find(const struct process_fact_vec *facts, pid_t pid);
