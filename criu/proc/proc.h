/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading /proc/PID.
 *
 * A struct proc_dir is a descriptor of the directory /proc/PID (or /proc/PID/task/TID). It
 * is bound to that task: when the task is gone and its number is used again, everything
 * below the descriptor fails with -ESRCH instead of showing the newcomer. Every reader
 * below criu/proc/ takes one, and works on a thread's directory as well as on a process's
 * (only task/, map_files/ and timers exist for processes alone).
 *
 * Each subject has a parser, which works on text in memory and trusts nothing in it
 * (-EBADMSG for whatever the kernel would not have written), and a reader, which opens,
 * reads and parses. Readers return what opening and reading return, among them
 *   -ESRCH   the task is gone
 *   -ENOENT  this kernel has no such file
 *   -EACCES, -EPERM  not ours to read
 *   -ENOMEM
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "cleanup.h"
#include "vec.h"

struct proc_dir {
        int fd;    /* O_PATH descriptor of /proc/PID or /proc/PID/task/TID */
        pid_t pid; /* PID or TID, in the pid namespace of our /proc */
};

#define PROC_DIR_INIT ((struct proc_dir){ .fd = -EBADF })

/*
 * Open /proc/`pid`. The caller closes with proc_close() or _cleanup_proc_dir_.
 * -ESRCH: no such process; -ENODEV: /proc is not a proc filesystem; -EINVAL: pid <= 0.
 */
int proc_open(pid_t pid, struct proc_dir *ret);

/* Open task/`tid` of a process. -ESRCH: it has no such thread. */
int proc_open_thread(const struct proc_dir *dir, pid_t tid, struct proc_dir *ret);

void proc_close(struct proc_dir *dir);
#define _cleanup_proc_dir_ _cleanup_(proc_close)

/*
 * Does the task still have its entry in /proc? True for a zombie, false once it is reaped.
 */
bool proc_exists(const struct proc_dir *dir);

/*
 * A growing buffer for the text of a /proc file; all zero is an empty one. It can be used
 * for one file after the other; each reading discards the text before, and with it every
 * pointer a parser returned into it. data[len] is always a NUL that does not count.
 */
struct proc_buf {
        char *data;
        size_t len, cap;
};

/* No file of /proc may be longer than this: -EFBIG. */
#define PROC_BUF_MAX (1UL << 30)

void proc_buf_done(struct proc_buf *buf);
#define _cleanup_proc_buf_ _cleanup_(proc_buf_done)

/* Room for so many bytes behind buf->len; buf->data may move. -ENOMEM, -EFBIG. */
int proc_buf_room(struct proc_buf *buf, size_t room);

/*
 * Read the whole file `path`, relative to dir, into buf. Reads until end of file, as is
 * needed for files of many records (maps, mountinfo, timers): the kernel hands those out
 * about a page per read.
 */
int proc_read(const struct proc_dir *dir, const char *path, struct proc_buf *buf);

/*
 * As proc_read(), for files that the kernel produces in one piece (stat, status, limits,
 * fdinfo, ...): a read shorter than the room was the last one, which saves the read that
 * would return 0.
 */
int proc_read_once(const struct proc_dir *dir, const char *path, struct proc_buf *buf);

/* As proc_read(), for any path relative to `dirfd` (as in openat(2)). */
int proc_read_at(int dirfd, const char *path, struct proc_buf *buf);

/*
 * Open `path` below dir with `flags` (O_CLOEXEC is added). Returns the descriptor or a
 * negative errno; -ENOENT becomes -ESRCH when the whole task is gone.
 */
int proc_openat(const struct proc_dir *dir, const char *path, int flags);

/*
 * The target of the link `path` below dir (exe, cwd, root, fd/N, map_files/..., ns/...).
 * *ret is the caller's to free. -ENAMETOOLONG: the path is longer than a page, which the
 * kernel cannot show.
 */
int proc_readlink(const struct proc_dir *dir, const char *path, char **ret);

/*
 * The thread ids of a process, ascending as the kernel lists them: the leader first, also a
 * leader that has exited. *ret is replaced. A process that is not frozen may gain and lose
 * threads meanwhile.
 */
int proc_tids(const struct proc_dir *dir, struct pid_vec *ret);

/* The numbered entries of fd/, map of open descriptors, ascending. *ret is replaced. */
DEFINE_VEC(proc_fd_vec, int);
int proc_fds(const struct proc_dir *dir, struct proc_fd_vec *ret);

/* How many there are (Linux 6.2). -EOPNOTSUPP: none, or the kernel does not tell. */
int proc_fds_count(const struct proc_dir *dir, size_t *ret);

/*
 * The children of all threads of a process, zombies among them. Uses
 * task/TID/children, and where the kernel lacks it (CONFIG_PROC_CHILDREN), or there are more threads than
 * processes on the system, looks through the ppid of every process. *ret is replaced. Exact only while nobody forks or exits.
 */
int proc_children(const struct proc_dir *dir, struct pid_vec *ret);

/* The fallback of proc_children(), by /proc/N/stat of every process; slow. */
int proc_children_by_scan(const struct proc_dir *dir, struct pid_vec *ret);

/* Every process that /proc shows, ascending. *ret is replaced. */
int proc_pids(struct pid_vec *ret);

/* Parse the text of task/TID/children: numbers, each followed by a blank. Appends to ret. */
int proc_children_parse(const char *text, size_t len, struct pid_vec *ret);

/*
 * The inode number of a namespace of the task: "net", "pid", "pid_for_children", "mnt",
 * "user", "uts", "ipc", "cgroup", "time", "time_for_children". Two tasks share a namespace
 * when the numbers are equal. -ENOENT: this kernel has no such namespace, or the task is a
 * zombie and has left it. Kernel: namespaces(7).
 */
int proc_ns_inode(const struct proc_dir *dir, const char *name, ino_t *ret);
