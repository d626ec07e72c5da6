/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What copies of descriptors (pidfd_getfd) tell about their files. Copies come and go under the same few numbers of
 * ckpt's own, and what /proc/self tells by a number it tells of the file that has it at the moment: so the entries of
 * a number are opened once, and asking about a file is one read, a fifth of what opening its entry in /proc costs.
 */
#pragma once

#include "fd/kind.h"

enum { COPY_READER_NUMBERS = 16 };

/* For one thread at a time. */
struct copy_reader {
        struct copy_reader *next;
        int fds, infos; /* /proc/self/fd, /proc/self/fdinfo */
        struct {
                int number, link, info;
        } of[COPY_READER_NUMBERS];
        struct proc_buf buf;
        uint64_t local_dev,
                other_dev; /* of files whose locks the kernel itself knows, or not; 0: none seen yet */
};

/* One that nobody uses; NULL: ckpt's own descriptors cannot be read. */
struct copy_reader *copy_reader_get(struct dump_files *files);
void copy_reader_put(struct dump_files *files, struct copy_reader *r);
void copy_readers_free(struct dump_files *files);

/* As readlink(2) of /proc/self/fd/`copy`; `ret` ends with NUL. -ENAMETOOLONG: longer than the kernel can tell. */
int copy_link(struct copy_reader *r, int copy, char ret[PATH_MAX]);

/*
 * The fdinfo of the file behind a copy, of which `st` is. Whether it is closed on exec is the descriptor's and not told,
 * nor are the texts of `other`. -ENODATA: it has locks, or may have, that belong to a table and are told only there.
 */
int copy_info(struct copy_reader *r, int copy, const struct statx *st, struct proc_fdinfo *ret);
