/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Descriptors that processes have in common, as they do after fork(2): under the same number the same open file
 * description. kcmp(2) tells in a microsecond, so what was found out about the one need not be asked of the other.
 * What is remembered is that of the last process that had a low number otherwise than those before it.
 */
#pragma once

#include "fd/kind.h"

enum { SAME_MAX = 64 }; /* numbers below */

/* What a task has besides descriptors. */
enum same_place {
        SAME_CWD,
        SAME_ROOT,
        SAME_EXE,
        SAME_PLACES_MAX,
        _SAME_PLACES_INVALID = -EINVAL,
};

struct same_inode {
        uint64_t dev, ino, mnt_id;
        const char *link;
        uint32_t id;
        uint64_t fact[2]; /* as dump/facts.h knows it; 0: it does not */
        bool there;
};

struct same_fds {
        struct {
                pid_t tid;     /* whose it was; 0: nobody's */
                uint64_t fact; /* process_fact_file(); 0: it is not known */
                struct seen_fd seen;
        } looked[SAME_MAX];
        struct {
                struct dump_file *file;
                uint64_t fact;
        } collected[SAME_MAX];
        struct same_inode places_looked[SAME_PLACES_MAX], places_collected[SAME_PLACES_MAX];
};

/*
 * Whose descriptors: of a thread, by /proc and kcmp(2), or, of the task's first one, by what is known (dump/facts.h); `fact` NULL:
 * nothing is.
 */
struct same_owner {
        pid_t tid;
        const struct process_fact *fact;
};

/* Before the freeze: nothing stands against this descriptor, nor will against the same one of others. */
void same_note_looked(struct dump_files *files, const struct same_owner *owner, const struct seen_fd *seen);

/* Is there such a one under this number? */
bool same_looked(struct dump_files *files, const struct same_owner *owner, int fd, struct seen_fd *ret);

/* Is all of its `n` descriptors that? Then ret[0] to ret[n - 1] are filled, by number. */
bool same_looked_all(struct dump_files *files, const struct same_owner *owner, size_t n,
                     struct seen_fd *ret);

/* Frozen: a description that was found under this number. `files` is locked. */
void same_note_collected(struct dump_files *files, const struct same_owner *owner, int fd,
                         struct dump_file *file);

/* What is under this number, if that is the one noted, and its kind has nothing more to ask. Else NULL. */
struct dump_file *same_collected(struct dump_files *files, const struct same_owner *owner, int fd);

/*
 * Likewise where a task works, and what it runs: does p->st, or p->st with p->link if that is known, say that it is the
 * same place as that of the task before? A directory has one name in each mount, as has a file with one link.
 */
bool same_place_looked(const struct fd_probe *p, enum same_place place);
void same_note_place_looked(const struct fd_probe *p, enum same_place place);

/* Frozen, of what has one name: its id in files.img. */
bool same_place_collected(const struct fd_probe *p, enum same_place place, uint32_t *ret_id);
void same_note_place_collected(const struct fd_probe *p, enum same_place place, uint32_t id);

/* The same without asking for p->st, where it is known what processes have in common (dump/facts.h). */
bool same_place_seen(const struct dump_task *t, enum same_place place);
bool same_place_known(const struct dump_task *t, enum same_place place, uint32_t *ret_id);
