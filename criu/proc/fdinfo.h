/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/fdinfo/N: what the kernel tells about a descriptor */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "proc/locks.h"
#include "proc/proc.h"
#include "proc/status.h"

/*
 * The kind, as far as the lines tell: an epoll instance without members, an inotify instance
 * without watches and a plain file all look PLAIN. What the descriptor really is says the
 * target of the link fd/N.
 */
enum proc_fdinfo_kind {
        PROC_FDINFO_PLAIN,
        PROC_FDINFO_EVENTFD,
        PROC_FDINFO_EPOLL,
        PROC_FDINFO_SIGNALFD,
        PROC_FDINFO_TIMERFD,
        PROC_FDINFO_INOTIFY,
        PROC_FDINFO_FANOTIFY,
        PROC_FDINFO_PIDFD,
        PROC_FDINFO_UNIX,  /* a unix socket */
        PROC_FDINFO_OTHER, /* lines in `other` only: tun, pseudoterminal, BPF, io_uring, ... */
        PROC_FDINFO_KIND_MAX,
        PROC_FDINFO_KIND_INVALID = -1,
};

/* A file handle, for open_by_handle_at(2). */
#define PROC_FHANDLE_MAX 128
struct proc_fhandle {
        bool known; /* false: the filesystem gives none */
        uint32_t n; /* bytes used in data */
        int type;
        uint8_t data[PROC_FHANDLE_MAX];
};

/* One member of an epoll instance. */
struct proc_epoll_item {
        int fd;          /* the number it was registered under; may be closed or another file by now */
        uint32_t events; /* EPOLL*; 0 apart from the flags: a one-shot that has fired */
        uint64_t data;
        /* 4.13+ (ino is 0 before): which file is meant. */
        int64_t pos;
        uint64_t ino;
        uint32_t sdev; /* s_dev: major << 20 | minor */
};
DEFINE_VEC(proc_epoll_vec, struct proc_epoll_item);

struct proc_inotify_watch {
        int wd;
        uint64_t ino;
        uint32_t sdev; /* s_dev: major << 20 | minor */
        uint32_t mask; /* IN_*, also IN_ONESHOT, IN_EXCL_UNLINK */
        struct proc_fhandle handle;
};
DEFINE_VEC(proc_inotify_vec, struct proc_inotify_watch);

enum proc_fanotify_on {
        PROC_FANOTIFY_INODE,
        PROC_FANOTIFY_MOUNT,
        PROC_FANOTIFY_FILESYSTEM,
        PROC_FANOTIFY_MNTNS, /* 6.15+ */
        PROC_FANOTIFY_ON_MAX,
        PROC_FANOTIFY_ON_INVALID = -1,
};

struct proc_fanotify_mark {
        enum proc_fanotify_on on;
        uint64_t ino;                /* INODE */
        uint32_t sdev;               /* INODE, FILESYSTEM: major << 20 | minor */
        uint32_t mnt_id;             /* MOUNT; of MNTNS the inode of the namespace */
        uint32_t mflags;             /* FAN_MARK_IGNORED_SURV_MODIFY and the like */
        uint32_t mask, ignored_mask; /* FAN_* events */
        struct proc_fhandle handle;  /* INODE */
};
DEFINE_VEC(proc_fanotify_vec, struct proc_fanotify_mark);

/* A line we have no field for, "" for a missing key. In the text buffer, NUL-terminated. */
struct proc_fdinfo_line {
        const char *key;
        const char *value;
};
DEFINE_VEC(proc_fdinfo_line_vec, struct proc_fdinfo_line);

struct proc_fdinfo {
        int64_t pos;
        uint32_t flags; /* O_* of open(2), with O_CLOEXEC of this descriptor and O_LARGEFILE */
        int mnt_id;     /* as in mountinfo; -1: not told (before 3.15) */
        uint64_t ino;   /* 5.14+, has_ino */
        bool has_ino;
        enum proc_fdinfo_kind kind;
        union {
                struct {
                        uint64_t count;
                        int id; /* equal for one file description; -1: not told (before 5.2) */
                        bool semaphore, has_semaphore; /* told since 6.5 */
                } eventfd;
                struct {
                        uint64_t mask; /* bit n - 1 is signal n */
                } signalfd;
                struct proc_fdinfo_timerfd {
                        int clockid;
                        uint64_t ticks;         /* expirations not read yet */
                        uint32_t settime_flags; /* TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET */
                        /* What remains, also for an absolute timer; 0: disarmed or fired. */
                        struct timespec value;
                        struct timespec interval;
                } timerfd;
                struct {
                        pid_t pid; /* 0: not in our pid namespace; -1: reaped */
                        struct proc_ns_ids nspid;
                } pidfd;
                struct {
                        uint32_t scm_fds; /* descriptors in the receive queue */
                } unix_socket;
                struct {
                        uint32_t flags, event_flags; /* of fanotify_init(2) */
                } fanotify;
        };
        struct proc_epoll_vec epoll;
        struct proc_inotify_vec inotify; /* newest watch first, as the kernel lists them */
        struct proc_fanotify_vec fanotify_marks;
        struct proc_lock_vec locks; /* locks of any type that this descriptor stands for */
        struct proc_fdinfo_line_vec other;
};

/*
 * Parse the text of an fdinfo file. `text` is written to (lines for `other` are ended in
 * place) and must live as long as `other` is used. *ret is overwritten on success only; free
 * it with proc_fdinfo_done(). pos and flags are required. -EBADMSG: nonsense, also lines of
 * two different kinds. A plain descriptor needs no allocation.
 */
int proc_fdinfo_parse(char *text, size_t len, struct proc_fdinfo *ret);

/* Read and parse fdinfo/`fd`. -ENOENT: that descriptor is not open. */
int proc_fdinfo_read(const struct proc_dir *dir, int fd, struct proc_buf *buf, struct proc_fdinfo *ret);

void proc_fdinfo_done(struct proc_fdinfo *info);
#define _cleanup_proc_fdinfo_ _cleanup_(proc_fdinfo_done)

/* The value of a line of `other` ("iff", "tty-index", "map_id", ...), or NULL. */
const char *proc_fdinfo_find(const struct proc_fdinfo *info, const char *key);

/* That value as a number, decimal or 0x... -ENOENT: no such line; -EBADMSG: not a number. */
int proc_fdinfo_find_u64(const struct proc_fdinfo *info, const char *key, uint64_t *ret);
