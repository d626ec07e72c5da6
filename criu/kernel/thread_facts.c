/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/thread_facts.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "kernel/task_program.h"
#include "kernel/thread_facts_internal.h"
#include "macro.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

/* What the program writes for each thread: the likeness, and more words. */
enum slot {
        SLOT_COMM = THREAD_LIKENESS,
        SLOT_COMM2,
        SLOT_TID_ADDRESS,
        SLOT_SS_SP,
        SLOT_SS_SIZE,
        SLOT_SS_FLAGS,
        SLOT_NAMESPACES,
        SLOT_CREDENTIALS,
        SLOT_PENDING,
        SLOT_SECCOMP,
        SLOT_AREAS,
        SLOT_FILES,
        SLOT_FS,
        SLOT_FEATURES,
        SLOT_LEVEL,
        SLOT_NUMBER,
        SLOTS = SLOT_NUMBER + TASK_PROGRAM_LEVELS,
};

struct record {
        uint64_t word[SLOTS];
};

struct thread_facts {
        int prog_fd;
        uint64_t level; /* of the pid namespace of ckpt */
};

/* ---- the program ---- */

static void add_words(struct task_program *p) {
        static const struct {
                unsigned int slot;
                const char *path;
                unsigned int size;
        } rows[] = {
                { LIKE_WORK, "thread_info.flags", 8 },
                { LIKE_FLAGS, "flags", 4 },
                { LIKE_ATOMIC_FLAGS, "atomic_flags", 8 },
                { LIKE_PERSONALITY, "personality", 4 },
                { LIKE_SLACK, "timer_slack_ns", 8 },
                { LIKE_PDEATH, "pdeath_signal", 4 },
                { SLOT_TID_ADDRESS, "clear_child_tid", 8 },
                { SLOT_SS_SP, "sas_ss_sp", 8 },
                { SLOT_SS_SIZE, "sas_ss_size", 8 },
                { SLOT_SS_FLAGS, "sas_ss_flags", 4 },
                { SLOT_NAMESPACES, "nsproxy", 8 },
                { SLOT_COMM, "comm", 16 },
                { SLOT_CREDENTIALS, "real_cred", 8 },
                { SLOT_PENDING, "pending.signal", 8 },
                { SLOT_FILES, "files", 8 },
                { SLOT_FS, "fs", 8 },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                task_program_read(p, rows[i].slot, TASK_PROGRAM_TASK, "task_struct", rows[i].path,
                                  rows[i].size);
        task_program_read(p, LIKE_SECUREBITS, SLOT_CREDENTIALS, "cred", "securebits", 4);
        task_program_read(p, SLOT_AREAS, TASK_PROGRAM_TASK, "task_struct", "mm", 8);
        task_program_read_optional(p, SLOT_AREAS, SLOT_AREAS, "mm_struct", "mm_lock_seq", 4);
}

/* Called with each thread, and at the end without one. */
static int load_program(const struct bpf *bpf) {
        struct task_program p;

        task_program_begin(&p, bpf, SLOTS);
        add_words(&p);
        /* What is not there cannot be set by a system call either. */
        task_program_read_optional(&p, LIKE_MEMPOLICY, TASK_PROGRAM_TASK, "task_struct", "mempolicy", 8);
        task_program_read_optional(&p, SLOT_SECCOMP, TASK_PROGRAM_TASK, "task_struct", "seccomp.mode", 4);
        task_program_read_optional(&p, SLOT_FEATURES, TASK_PROGRAM_TASK, "task_struct", "thread.features",
                                   8);
        task_program_numbers(&p, SLOT_LEVEL, SLOT_NUMBER);
        return task_program_finish(&p, "ckpt_threads");
}

/* ---- reading ---- */

struct reading {
        const struct thread_facts *f;
        struct thread_fact_vec facts;
};

static int take_record(void *arg, const void *record) {
        struct reading *reading = arg;
        const struct record *r = record;
        struct thread_fact *fact;

        /* One that is just going has no number any more. */
        if (r->word[SLOT_NUMBER + reading->f->level] == 0)
                return 0;
        fact = thread_fact_vec_add(&reading->facts);
        if (!fact)
                return -ENOMEM;
        fact->tid = (pid_t)r->word[SLOT_NUMBER + reading->f->level];
        memcpy(fact->comm, &r->word[SLOT_COMM], sizeof(fact->comm));
        fact->tid_address = r->word[SLOT_TID_ADDRESS];
        fact->ss_sp = r->word[SLOT_SS_SP];
        fact->ss_size = r->word[SLOT_SS_SIZE];
        fact->ss_flags =
                (fact->ss_size == 0 ? SS_DISABLE : 0) | ((uint32_t)r->word[SLOT_SS_FLAGS] & SS_AUTODISARM);
        fact->namespaces = r->word[SLOT_NAMESPACES];
        fact->credentials = r->word[SLOT_CREDENTIALS];
        fact->pending = r->word[SLOT_PENDING];
        fact->seccomp = r->word[SLOT_SECCOMP];
        fact->areas = r->word[SLOT_AREAS];
        fact->files = r->word[SLOT_FILES];
        fact->fs = r->word[SLOT_FS];
        fact->features = r->word[SLOT_FEATURES];
        memcpy(fact->likeness, r->word, sizeof(fact->likeness));
        return 0;
}

static int by_number(const void *a, const void *b) {
        pid_t x = ((const struct thread_fact *)a)->tid, y = ((const struct thread_fact *)b)->tid;

        return (x > y) - (x < y);
}

int thread_facts_read(const struct thread_facts *f, pid_t pid, struct thread_fact_vec *ret) {
        struct reading reading = { .f = f };
        int r = bpf_iterate(f->prog_fd, pid, sizeof(struct record), take_record, &reading);

        if (r < 0) {
                thread_fact_vec_done(&reading.facts);
                return r;
        }
        if (reading.facts.n > 0)
                qsort(reading.facts.v, reading.facts.n, sizeof(*reading.facts.v), by_number);
        thread_fact_vec_done(ret);
        *ret = reading.facts;
        return 0;
}

const struct thread_fact *thread_facts_find(const struct thread_fact_vec *facts, pid_t tid) {
        const struct thread_fact key = { .tid = tid };

        return facts->n == 0 ? NULL : bsearch(&key, facts->v, facts->n, sizeof(*facts->v), by_number);
}

bool thread_facts_alike(const struct thread_fact *a, const struct thread_fact *b) {
        return memcmp(a->likeness, b->likeness, sizeof(a->likeness)) == 0;
}

bool thread_facts_same_tables(const struct thread_fact *a, const struct thread_fact *b) {
        return a->files == b->files && a->files != 0 && a->fs == b->fs && a->fs != 0;
}

bool thread_facts_same_rights(const struct thread_fact *a, const struct thread_fact *b) {
        return a->credentials == b->credentials && a->credentials != 0 && a->seccomp == b->seccomp &&
               a->likeness[LIKE_ATOMIC_FLAGS] == b->likeness[LIKE_ATOMIC_FLAGS];
}

/* ---- opening ---- */

void thread_facts_free(struct thread_facts **f) {
        if (!*f)
                return;
        safe_close((*f)->prog_fd);
        free(*f);
        *f = NULL;
}

int thread_facts_open(const struct bpf *bpf, struct thread_facts **ret) {
        _cleanup_(thread_facts_free) struct thread_facts *f = calloc(1, sizeof(*f));
        struct record own = { 0 };
        int r;

        if (!f)
                return -ENOMEM;
        f->prog_fd = load_program(bpf);
        if (f->prog_fd < 0)
                return f->prog_fd;
        r = task_program_read_own(f->prog_fd, getpid(), SLOTS, SLOT_LEVEL, SLOT_NUMBER, own.word);
        f->level = own.word[SLOT_LEVEL];
        if (r == 0)
                r = thread_facts_check(f);
        if (r == 0)
                *ret = TAKE_PTR(f);
        return r;
}
