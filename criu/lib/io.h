/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whole transfers on blocking descriptors: short counts and EINTR are handled here. A
 * non-blocking descriptor may give -EAGAIN after a part was transferred.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/*
 * Read `size` bytes into `buf`. Returns the number of bytes read, less than `size` only at
 * end of file, or a negative errno (what was read before the error is lost). read(2).
 */
ssize_t read_full(int fd, void *buf, size_t size);

/* As read_full(), from `offset`, without moving the file position. pread(2). */
ssize_t pread_full(int fd, void *buf, size_t size, off_t offset);

/* Write all `size` bytes of `buf`. Returns 0 or a negative errno. write(2). */
int write_full(int fd, const void *buf, size_t size);

/* As write_full(), to `offset`, without moving the file position. pwrite(2). */
int pwrite_full(int fd, const void *buf, size_t size, off_t offset);

struct iovec;

/* `bytes` of the places from iov[*first] on have been transferred: make *first, and that place, begin behind them. */
void iov_advance(struct iovec *iov, size_t *first, size_t bytes);

/*
 * Read from the file position to the end of file, at most `max` bytes, into a new buffer with
 * a NUL byte after its end; the caller frees *ret. Works on files whose size stat(2) does not
 * tell (/proc). Returns 0, -EFBIG when there is more than `max`, or another negative errno.
 */
int read_all(int fd, size_t max, char **ret, size_t *ret_size);

/* Raise the soft limit on open files to the hard one, if that is possible: a tree has many, and ckpt copies of them. */
void raise_descriptor_limit(void);
