/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Programs for the iterator over tasks (kernel/bpf.h, "task"), which is called with each thread: they copy what is behind
 * pointers from struct task_struct into a record of 64-bit words.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/bpf.h"

/* Registers of such a program. */
enum {
        TASK_PROGRAM_CTX = BPF_REG_1,
        TASK_PROGRAM_VALUE = BPF_REG_2,
        TASK_PROGRAM_OTHER = BPF_REG_3,
        TASK_PROGRAM_NUMBER = BPF_REG_4,
        TASK_PROGRAM_TASK = BPF_REG_6,
        TASK_PROGRAM_SEQ = BPF_REG_7,
        TASK_PROGRAM_FRAME = BPF_REG_10,
};

enum {
        TASK_PROGRAM_MAX = 160,  /* instructions */
        TASK_PROGRAM_LEVELS = 4, /* of pid namespaces in one another */
};

struct task_program {
        const struct bpf *bpf;
        struct bpf_insn insn[TASK_PROGRAM_MAX];
        size_t n, skip;
        unsigned int words; /* of a record */
        bool failed;        /* a member is missing in this kernel */
};

/* The beginning: TASK_PROGRAM_TASK and _SEQ are set. `words`: at most 64. */
void task_program_begin(struct task_program *p, const struct bpf *bpf, unsigned int words);

void task_program_add(struct task_program *p, struct bpf_insn insn);

/* to = the member of what `from` points to, of `size` bytes (4 or 8). What is behind no pointer is read as 0. */
void task_program_load(struct task_program *p, int to, int from, const char *type, const char *path,
                       unsigned int size);

/* The same of a member that not all kernels have. false: this one has not, and `to` is as before. */
bool task_program_try_load(struct task_program *p, int to, int from, const char *type, const char *path,
                           unsigned int size);

/* The word number `word` of the record = from. */
void task_program_store(struct task_program *p, unsigned int word, int from);

/*
 * How deep it is in pid namespaces into the word `level`, and its numbers there, from the outermost on, into `number` and the
 * TASK_PROGRAM_LEVELS - 1 words behind it; 0 where it has none. Changes VALUE, OTHER and NUMBER.
 */
void task_program_numbers(struct task_program *p, unsigned int level, unsigned int number);

/* The end. Returns the descriptor of the loaded program, or a negative errno: -ENOSYS if it is not for this kernel. */
int task_program_finish(struct task_program *p, const char *name);
