/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the probes share; nothing here is for other parts of ckpt.
 *
 * A probe returns 1 when the feature is there, 0 when it is not, or the negative errno with which
 * the kernel refused (turned into an answer and a note by probe.c). It leaves no descriptor,
 * mapping or process behind. Code that runs in a child must not allocate: another thread may
 * have held the allocator's lock when the child was made.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct probe {
        char *note;
        size_t note_size;
};

#define FEATURE(id, name, need, since, when, fn, what, cost) int fn(struct probe *p);
#include "kernel/features.def"
#undef FEATURE

/* Leave a note for the user; replaces an earlier one. */
void probe_note(struct probe *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* 0 and -errno of a call that returned -1 to `r`; otherwise 1. */
int probe_result(long r);

/* Is the capability effective in this thread? */
bool probe_has_cap(int cap);

/* Read a small file whole, cut at size - 1, newline at the end dropped. Length or negative errno. */
ssize_t probe_read(const char *path, char *buf, size_t size);

/* Write a string to an existing file. 0 or negative errno. */
int probe_write(const char *path, const char *text);

/*
 * Call fn(line, arg) for each line of a file, lines cut at 1023 bytes, until it returns non-zero.
 * Returns that, 0 at end of file, or a negative errno. Allocates nothing.
 */
int probe_each_line(const char *path, int (*fn)(char *line, void *arg), void *arg);

/* The size of this process's mapping that starts at `addr`, 0 if there is none. */
size_t probe_mapping_size(const void *addr);

/* A read-write page range, private, anonymous. NULL when memory is short. */
void *probe_pages(size_t n);

/*
 * Fork without SIGCHLD at exit, so that nobody else's handler or wait sees the child; it dies
 * with this thread. As fork(2).
 */
pid_t probe_fork(void);

/* Wait for a child of probe_fork(). Returns its exit status, or -EFAULT if a signal ended it. */
int probe_wait(pid_t pid);

/* Run fn(arg) in a child. Returns 1 if it returned 0, the negative errno that it returned, or one. */
int probe_in_child(int (*fn)(void *arg), void *arg);

/* A stopped child under ptrace. */
struct tracee {
        pid_t pid;
};

#define TRACEE_NONE      ((struct tracee){ .pid = -1 })
#define _cleanup_tracee_ __attribute__((cleanup(tracee_end)))

/*
 * Make a child, let it run setup(NULL) (may be NULL; 0 or negative errno), seize it with these
 * PTRACE_O_ options, and stop it. Returns 0 or a negative errno. Belongs to the calling thread.
 */
int tracee_start(struct tracee *ret, unsigned long options, int (*setup)(void *arg));
void tracee_end(struct tracee *t);

/*
 * In a child: a mount namespace of its own with an empty tmpfs as the current directory.
 * 0 or negative errno.
 */
int probe_enter_mount_ns(void);
