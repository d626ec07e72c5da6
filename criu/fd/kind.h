/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kinds of files: what stands behind a descriptor. A kind is one file with both halves and a row in the
 * table of kinds.c. Rows that only refuse have a text and no functions; they keep the place of what comes
 * later.
 *
 * Dump, in this order:
 *   clear    of a copy of the descriptor, before match and look, in any thread: is it of this kind, and does nothing of
 *            what look would ask of it stand against a dump? Kinds that do not say yes are asked as ever
 *   match    is the descriptor of this kind? The first row that says yes has it
 *   look     add what stands against it to `b`. Called before the freeze and again in it
 *   ask      of a copy of the descriptor, before dump, in any thread, frozen: what dump would ask of it, in memory of
 *            `arena`, for p->asked; *ret_keep: dump will want the copy. NULL if look might have to say something
 *   dump     fill file->msg; once for each open file description
 *   dump_path  likewise for what is mapped or executed with these open flags, and is no descriptor
 *   save     once for the tree, when all descriptions are known: further images
 * Restore:
 *   check    the message of one file: -EBADMSG through image_damaged() if it makes no sense. What is wrong
 *            with this machine rather than with the image goes to files->blockers
 *   load     once, when all files are known and checked: further images
 *   ahead    as open, before the file's turn and in any thread, when there are many; false: not this one, or it does not
 *            work, and open will say why
 *   open     the open file description, in ckpt, or one of several that are opened together. Called when the
 *            first task needs it. May call fd_file_open() for a file it is made of
 *   finish   when all files are open and in their tables: what needs others (members of an epoll instance,
 *            descriptors in a socket's queue). A kind with finish keeps its files open until then
 *   complete once, when everything is open, mapped and in its tables
 *   free     what the kind keeps in files->state
 */
#pragma once

#include <linux/limits.h>
#include <pthread.h>
#include <sys/stat.h>

#include "fd/fd.h"
#include "fd/near.h"
#include "images/file-lock.pb-c.h"
#include "vec.h"

struct fd_kind;

/* ---- dump ---- */

/* A descriptor of a task, or another reference to a file (working directory, mapping), seen from outside. */
struct fd_probe {
        struct dump_task *task;
        const struct proc_dir *proc; /* of a living thread */
        int fd;                      /* -1: not a descriptor */
        const char *where;           /* below proc: "fd/7", "cwd" */
        const char *what;            /* NULL for a descriptor: "its working directory" */
        const char *link;            /* target of the link `where`; in *link_buf unless it was known */
        char *link_buf;              /* PATH_MAX bytes, the caller's */
        struct statx st;             /* of what it leads to */
        bool has_info;
        struct proc_fdinfo info; /* if has_info: fd_probe_info(); its texts are in *buf */
        struct proc_buf *buf;
        int *pidfd; /* of that thread, opened when needed */
        /* Asked for in advance (prefetch.h). */
        bool has_path_st;
        struct statx path_st;  /* of what has the name `link` */
        const Img__Fown *fown; /* NULL: not asked */
        pid_t fown_outside;
        bool clear, has_copy; /* clear: the kind's clear() has said so */
        int copy;             /* in ckpt, for the first who wants one: fd_probe_take_copy() */
        void *asked;          /* the kind's ask() has; NULL: nothing */
};

/* An open file description of the tree. */
struct dump_file {
        const struct fd_kind *kind;
        uint32_t id;
        struct dump_task *task; /* one of those that have it ... */
        pid_t tid;              /* ... by this thread ... */
        int fd;                 /* ... as this descriptor */
        Img__File *msg;
        Img__RegFile *path; /* of a named pipe: under which it was opened */
        const struct file_group *group;
        bool locks_collected;
};

DEFINE_VEC(dump_file_vec, struct dump_file *);

/* Descriptions of one inode, in the order of kcmp(2). */
struct file_group {
        struct file_group *next;
        uint64_t dev, ino;
        struct dump_file_vec files;
};

/* A file registered by path: mapped, executed, or a directory of fs-PID. */
struct dump_path {
        struct dump_path *next;
        uint64_t dev, ino;
        uint32_t flags, id;
        const char *path;
};

struct fs_type {
        uint64_t dev;
        long type; /* f_type of statfs(2) */
};
DEFINE_VEC(fs_type_vec, struct fs_type);

/* A pipe, memfd, deleted file or socket that somebody outside of the tree has open. */
struct foreign_pipe {
        uint64_t dev, ino; /* dev is 0 for pipes without a name, all ones for sockets */
        pid_t pid;
        bool writes; /* of deleted files: it may change what is in it */
};
DEFINE_VEC(foreign_pipe_vec, struct foreign_pipe);

/* A descriptor of somebody outside of the tree. */
struct foreign_fd {
        pid_t pid;
        int fd;
};
DEFINE_VEC(foreign_fd_vec, struct foreign_fd);

/* What was looked for outside of the tree. */
struct foreign_seen {
        struct foreign_pipe_vec holders; /* sorted */
        struct foreign_fd_vec eventfds;  /* seen with the pipes, and not asked yet which they are */
        struct foreign_fd_vec timerfds;
};

void foreign_seen_done(struct foreign_seen *seen);

/* A regular file that somebody has open of whom the root descends. */
struct ancestor_fd {
        pid_t pid;
        int fd;
        uint64_t dev, ino;
};
DEFINE_VEC(ancestor_fd_vec, struct ancestor_fd);

DEFINE_VEC(table_vec, struct dump_fds *);

enum { FILE_BUCKETS = 4096 };

struct dump_files {
        /* Of all below, and whatever match, look and dump keep for themselves; recursive. They are called with it. */
        pthread_mutex_t lock;
        struct arena arena;
        uint32_t last_id;
        struct file_group **groups; /* FILE_BUCKETS of them, by inode */
        struct dump_path **paths;
        struct dump_file_vec all; /* descriptions and paths, by id */
        struct table_vec tables;  /* in the order of kcmp(2) for KCMP_FILES */
        struct table_vec fs;      /* ... and for KCMP_FS */
        struct table_vec vm;      /* ... and for KCMP_VM */
        struct fs_type_vec fs_types;
        bool pipes_known, fifos_known, memfds_known, deleted_known, timerfds_known;
        struct foreign_seen foreign;
        bool ancestors_known;
        struct ancestor_fd_vec ancestors;
        struct same_fds *same;       /* same.h; in the arena; NULL: none yet */
        struct irmap *irmap;         /* paths of watched inodes; in the arena */
        struct dump_ghosts *ghosts;  /* deleted files; in the arena */
        struct dump_links *links;    /* those that have other links; in the arena */
        struct dump_memfds *memfds;  /* in the arena */
        struct proc_dir *own;        /* ckpt's own, for what came out of queues; NULL: not needed yet */
        struct copy_reader *readers; /* that nobody uses just now (copy.h) */
        pid_t getting_from;          /* the thread of the last dump_file_get(), 0: none ... */
        int getting_by;              /* ... and a pidfd of it */
};

struct dump_fd {
        int fd;
        bool cloexec;
        struct dump_file *file;
};

/* What look found out about a descriptor, so that the freeze is shorter. */
struct seen_fd {
        int fd;
        const struct fd_kind *kind;
        const char *link; /* NULL: nothing that spares work */
        uint64_t dev, ino, mnt_id;
        uint16_t mode;
        bool asked, open, cloexec; /* asked: by fd_ask(), in the freeze; then it says so */
};

struct dump_lock {
        struct dump_lock *next;
        int fd;
        bool takeable; /* by this descriptor */
        const struct dump_file *file;
        struct proc_lock lock;
};

/* A descriptor table, and the working directory and root that go with it; in the task's arena. */
struct dump_fds {
        struct dump_task *task;
        pid_t tid;               /* the living thread through which it was read */
        struct dump_fds *shared; /* the same table, collected before; NULL: the first one */
        struct seen_fd *seen;    /* by fd */
        size_t nr_seen;
        size_t nr_asked, nr_in_batch; /* of those: see fd_ask() */
        struct dump_fd *v;
        size_t n;
        uint32_t cwd_id, root_id, umask;
        struct dump_lock *locks;
};

/* The registry, made at the first call. */
struct dump_files *dump_files(struct dump *d);

/* "pid 812 (redis): fd 7", "pid 812 (redis): its working directory"; in the task's arena. */
const char *fd_probe_name(const struct fd_probe *p);

/* Read fdinfo, once. Errors are those of proc_fdinfo_read(). */
int fd_probe_info(struct fd_probe *p);

/* The f_type of the filesystem it is on; 0: not known. */
long fd_probe_fs_type(const struct fd_probe *p);

/* Look stage: what the ancestors of the root have open, once. */
void files_note_ancestors(struct dump *d);

/* Who of them has the same description of a regular file open, with the same position; 0: nobody. */
pid_t position_foreign_holder(const struct fd_probe *p);

/* Fill link and st by `where`; or one of them. */
int fd_probe_path(struct fd_probe *p);
int fd_probe_link(struct fd_probe *p);
int fd_probe_stat(struct fd_probe *p);
void fd_probe_done(struct fd_probe *p);
#define _cleanup_fd_probe_ _cleanup_(fd_probe_done)

/* A pidfd of the thread, the probe's. */
int fd_probe_pidfd(const struct fd_probe *p);

/* A copy of the descriptor in ckpt (pidfd_getfd); the caller closes it. */
int fd_probe_get(const struct fd_probe *p);

/* As fd_probe_get(), but the one that was made in advance, if it is still there; -EBADF: it is not. */
int fd_probe_take_copy(struct fd_probe *p);

/* Open flags as fcntl(F_GETFL) gives them, O_LARGEFILE included; 0 for what is no descriptor. */
uint32_t fd_probe_flags(struct fd_probe *p);

static inline uint64_t statx_dev(const struct statx *st) {
        return (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor;
}

/* As fd_probe_get(), for a description that was collected. */
int dump_file_get(const struct dump_file *f);

/* The description that the probe refers to, or NULL and where it would be in its group. `files` is locked. */
int dump_file_find(struct dump_files *files, const struct fd_probe *p, struct file_group **ret_group,
                   size_t *ret_at, struct dump_file **ret);

/* Add `t` unless it shares what `type` says (KCMP_FILES, KCMP_FS, KCMP_VM) with one that is there: *ret_shared. */
int table_add(struct table_vec *vec, struct dump_fds *t, int type, struct dump_fds **ret_shared);

/* A directory or mapped file: an id in files.img. Adds blockers. */
int dump_path_id(struct fd_probe *p, uint32_t open_flags, struct blockers *b, uint32_t *ret,
                 struct ckpt_error *err);

/* A new entry of files.img with an id, registered. `files` is locked. */
struct dump_file *dump_file_new(struct dump_files *files, const struct fd_kind *kind);

/*
 * A descriptor of ckpt's that came out of the queue of a socket of `t`: its id in files.img. *ret_keep: it must stay open
 * to the end of the dump, for nobody else has that file.
 */
int dump_queued_fd(struct dump_task *t, int fd, uint32_t *ret_id, bool *ret_keep, struct ckpt_error *err);

/* ---- owner of SIGIO (owner.c) ---- */

/* Fill `ret` from a descriptor in ckpt. `flags` are those of the file; *ret_outside: the owner is not in the tree. */
int fown_dump(struct dump *d, int fd, Img__Fown *ret, pid_t *ret_outside);

/* Whether the owner of what `fd` is a copy of is in the tree, or nobody. As `clear` of a kind. */
bool fown_is_clear(struct dump *d, int fd);

/*
 * The same for a descriptor of a task, which may have been asked in advance. `fd`: a copy of it in ckpt, or negative; one
 * is made then if it is needed. An owner outside is an error.
 */
int fown_dump_probe(struct fd_probe *p, int fd, Img__Fown *ret, struct ckpt_error *err);

/* Is the owner outside of the tree? Adds a blocker. */
void fown_look(struct fd_probe *p, struct blockers *b);

/* ---- restore ---- */

struct restore_file {
        uint32_t id;
        const struct fd_kind *kind;
        Img__File *msg;    /* in the arena of the files */
        uint32_t nr_slots; /* descriptors that still wait for it */
        uint32_t in_plan;  /* which of the files of the table that is being filled */
        int fd;            /* in ckpt, while something needs it; -EBADF */
        uint32_t dir_users;
        int dir;                      /* O_PATH, of a directory that tasks work in */
        bool root_known, is_own_root; /* a directory that is the root of tasks: ckpt's own? */
        /* Numbers that every task has them under while it is being built; 0: sent to each that needs it. */
        int inherited, dir_inherited;
        bool owner_waits, async_set;
        bool member;                 /* of an epoll instance, and nobody has it but the queue of a socket */
        bool opened_ahead;           /* ahead.h; its owner is still to be set */
        bool finished;               /* by a kind that finishes files together */
        struct restore_ghost *ghost; /* a RegFile that was deleted: what it is */
        const char *link;            /* a RegFile that was deleted and has another link, under this name */
};

struct restore_lock {
        Img__FileLock *msg; /* owned */
        bool owned;         /* by a task of the tree */
};
DEFINE_VEC(restore_lock_vec, struct restore_lock);

enum fd_state {
        FD_STATE_PIPES,
        FD_STATE_FIFOS,
        FD_STATE_HOLDERS, /* holder.c */
        FD_STATE_GHOSTS,
        FD_STATE_LINKED,
        FD_STATE_INET, /* sock/ */
        FD_STATE_SOCK_DEFAULTS,
        FD_STATE_MEMFD,
        FD_STATE_UNIX,
        FD_STATE_MAX,
};

struct restore_files {
        struct arena arena;     /* what files.img says */
        struct restore_file *v; /* sorted by id */
        size_t n, cap;
        struct blockers *blockers;
        struct ahead_paths *paths; /* ahead.c: to be looked at */
        void *state[FD_STATE_MAX];
        struct restore_lock_vec locks;
};

struct restore_slot {
        int fd;
        bool cloexec;
        struct restore_file *file;
};
DEFINE_VEC(restore_slot_vec, struct restore_slot);

/* A descriptor table. */
struct restore_fds {
        struct restore_task *shared;   /* whose table it is as well, and who has the slots; NULL: its own */
        struct restore_slot_vec slots; /* sorted by fd */
        struct restore_file *cwd, *root;
};

struct restore_slot *restore_find_slot(const struct restore_fds *fds, int fd);
struct restore_file *restore_find_file(const struct restore_files *files, uint32_t id);

/* Have file->fd open; it stays the file's. */
int fd_file_open(struct restore *r, struct restore_file *file, struct ckpt_error *err);

/*
 * A file in the queue of a socket counts as one more descriptor that waits for it: nr_slots is counted up by load, and
 * this is for when it has been sent.
 */
void fd_file_sent(struct restore_file *file);

/* The Fown of a file's message, or NULL; RegFile of a fifo included. */
const Img__Fown *fown_of(const struct restore_files *files, const struct restore_file *file);

/* Status flags of a file's message (F_GETFL). */
uint32_t fd_flags_of(const struct restore_files *files, const struct restore_file *file);

/* Give file->fd the owner that it had. -ESRCH (no message): the owner does not exist yet. */
int fown_restore(const struct restore_files *files, struct restore_file *file, struct ckpt_error *err);

/* Add the setting of O_ASYNC, which a task has to do itself, to its batch; its table is filled. */
void fown_add_async(struct restore_task *t, struct compel_batch *b);

/* Open a path with exactly these flags, as fcntl(F_GETFL) gave them; what open(2) acts on once is left out. */
int fd_open_exactly(const char *path, uint32_t flags);

/* ---- the table ---- */

struct fd_kind {
        const char *name;
        Img__FdTypes type;

        bool by_inode;   /* the inode says which it is: its link need not be read again in the freeze */
        bool look_twice; /* ... but what look found out may change: it is asked again all the same */

        /* What the link begins with; of rows that refuse, a phrase: "is an io_uring instance". */
        const char *link;
        const char *what, *hint;

        bool (*clear)(struct dump *d, int fd);
        bool (*match)(struct fd_probe *p);
        void (*look)(struct fd_probe *p, struct blockers *b);
        void *(*ask)(struct dump *d, int fd, struct arena *arena, bool *ret_keep);
        int (*dump)(struct dump *d, struct fd_probe *p, struct dump_file *file, struct ckpt_error *err);
        int (*dump_path)(struct fd_probe *p, uint32_t flags, struct dump_file *file, struct ckpt_error *err);
        int (*save)(struct dump *d, struct ckpt_error *err);

        int (*check)(struct restore *r, struct restore_file *file, struct image_file *image,
                     struct ckpt_error *err);
        int (*load)(struct restore *r, struct ckpt_error *err);
        bool (*ahead)(struct restore *r, struct restore_file *file, struct near_dir *near);
        int (*open)(struct restore *r, struct restore_file *file, struct ckpt_error *err);
        int (*finish)(struct restore *r, struct restore_file *file, struct ckpt_error *err);
        int (*complete)(struct restore *r, struct ckpt_error *err);
        void (*free)(struct restore_files *files);
};

extern const struct fd_kind fd_kind_reg, fd_kind_pipe, fd_kind_fifo, fd_kind_eventfd, fd_kind_epoll,
        fd_kind_signalfd, fd_kind_timerfd, fd_kind_inotify, fd_kind_pidfd, fd_kind_memfd, fd_kind_ns;

/* What a probe is; never NULL: the last row takes everything. */
const struct fd_kind *fd_kind_of(struct fd_probe *p);

/* The kind that restores this type, or a row that only has a name, or NULL for a number that is no type. */
const struct fd_kind *fd_kind_by_type(Img__FdTypes type);

/* The i-th row, NULL behind the last. */
const struct fd_kind *fd_kind_row(size_t i);

/* Add what stands against a probe of this kind, whether its row refuses or looks. */
void fd_kind_look(const struct fd_kind *kind, struct fd_probe *p, struct blockers *b);

/* ---- what reg.c has for others ---- */

/* Is this what the path in p->link leads to? Adds a blocker if not. On success *ret is the stat of the path. */
bool reg_path_leads_there(struct fd_probe *p, struct blockers *b, struct statx *ret);

/* Fill a RegFile; the name is copied to the registry's arena. */
void reg_fill(struct dump_files *files, Img__RegFile *reg, uint32_t id, const char *path, uint32_t flags,
              uint64_t pos, const struct statx *st, Img__Fown *fown);

/* Is a recorded file there, and what it was? Adds to files->blockers. */
void reg_check_path(struct restore *r, const Img__RegFile *reg, struct near_dir *near);

/* Open a RegFile under this path as file->fd, with its flags, at its offset. */
int reg_open_at(struct restore_file *file, const char *path, struct ckpt_error *err);

/* An open description with the flags of a RegFile becomes file->fd, at its offset. */
int reg_take(struct restore_file *file, int taken, struct ckpt_error *err);

/* As fd_open_exactly(), for any use of a RegFile, also of one that was deleted. */
int reg_open_again(struct restore *r, const struct restore_file *file, uint32_t flags,
                   struct ckpt_error *err);

/* ---- locks (lock.c) ---- */

/* Refuse what cannot be carried over: leases and the like. */
void lock_look(struct fd_probe *p, struct blockers *b);

/* Note the locks that fdinfo shows with a descriptor of `file`. */
void lock_collect(struct dump_fds *fds, struct dump_file *file, const struct fd_probe *p);
int lock_save(struct dump *d, struct ckpt_error *err);

/* The tree is known. */
int lock_load(struct restore *r, struct ckpt_error *err);

/* When the task's table is loaded: those that are the task's. */
int lock_load_task(struct restore_task *t, struct ckpt_error *err);

/* Add the taking of a task's locks to its batch: when nothing is left to close. */
void lock_restore(struct restore_task *t, struct compel_batch *b);
void lock_free(struct restore_files *files);

/* ---- sock/ ---- */

extern const struct fd_kind fd_kind_inet, fd_kind_netlink, fd_kind_packet, fd_kind_unix;

/* Refuse a socket by its family, type, protocol and addresses. */
void sock_look(struct fd_probe *p, struct blockers *b);
