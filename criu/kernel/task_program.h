/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Programs for the iterators over tasks and their files (kernel/bpf.h, "task", "task_file"), which are called with each thread or
 * descriptor: they copy what is behind pointers from struct task_struct, or a struct sock, into a record of 64-bit words.
 *
 * All is read by bpf_probe_read_kernel(), which reads 0 from behind no pointer. Instructions could follow pointers by themselves, but
 * of each pointer that they load the kernel's verifier goes through the names of all its types, several times: with 20
 * of them, a program took 10 ms to load.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/bpf.h"

enum {
        TASK_PROGRAM_MAX = 640,  /* instructions */
        TASK_PROGRAM_LEVELS = 4, /* of pid namespaces in one another */
        TASK_PROGRAM_OUTS = 4,   /* jumps to the end of a program */
        TASK_PROGRAM_TASK = -1,  /* instead of the number of a word: the task ... */
        TASK_PROGRAM_SOCK = -1,  /* ... or the socket */
};

struct task_program {
        const struct bpf *bpf;
        struct bpf_insn insn[TASK_PROGRAM_MAX];
        size_t n, outs[TASK_PROGRAM_OUTS], nr_outs;
        const char *target; /* the iterator */
        unsigned int words; /* of a record */
        bool failed;        /* a member is missing in this kernel */
};

/* `words`: of a record, at most 64; each of them is to be read. */
void task_program_begin(struct task_program *p, const struct bpf *bpf, unsigned int words);

/*
 * For the sockets of this family (AF_*) among descriptors. Instead of the task, reads begin with the struct sock, which may be taken
 * for that of its family. Word 0 is the number of the descriptor.
 */
void task_program_begin_sockets(struct task_program *p, const struct bpf *bpf, unsigned int words,
                                uint16_t family);

/*
 * Into word number `word`, and if they are more than 8 bytes those behind it, the member `path` of the `struct type` to which
 * `from` points: the task, or a word that has been read. `size`: the bytes that the member has; below 8, or a multiple of it.
 */
void task_program_read(struct task_program *p, unsigned int word, int from, const char *type,
                       const char *path, unsigned int size);

/* The same of the first `size` bytes of a member that may have more. */
void task_program_read_first(struct task_program *p, unsigned int word, int from, const char *type,
                             const char *path, unsigned int size);

/* The same of a member that not all kernels have; there it reads as 0. */
void task_program_read_optional(struct task_program *p, unsigned int word, int from, const char *type,
                                const char *path, unsigned int size);

/* The first `size` bytes of a member that may have more, and that not all kernels have. */
void task_program_read_any(struct task_program *p, unsigned int word, int from, const char *type,
                           const char *path, unsigned int size);

/* `n` words from `word` on = what is where the word `from` points to, whatever that is; zeroes if some of it is not there. */
void task_program_copy(struct task_program *p, unsigned int word, unsigned int n, unsigned int from);

/* What this kernel cannot tell is 0. */
void task_program_zero(struct task_program *p, unsigned int word);

/*
 * How deep it is in pid namespaces into the word `level`, and its numbers there, from the outermost on, into `number` and the
 * TASK_PROGRAM_LEVELS - 1 words behind it; 0 where it has none.
 */
void task_program_numbers(struct task_program *p, unsigned int level, unsigned int number);

/* The end. Returns the descriptor of the loaded program, or a negative errno: -ENOSYS if it is not for this kernel. */
int task_program_finish(struct task_program *p, const char *name);

/*
 * The record of the calling thread, `words` words, by a program that has called task_program_numbers(): the word `level` of it is the
 * depth of ckpt in pid namespaces, below TASK_PROGRAM_LEVELS. `pid`: of ckpt; 0: where only all threads can be read. -ENODATA: it is
 * not among them.
 */
int task_program_read_own(int prog_fd, pid_t pid, unsigned int words, unsigned int level,
                          unsigned int number, uint64_t *ret);
