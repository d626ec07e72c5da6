/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/proc.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "macro.h"
#include "proc/scan.h"
#include "proc/stat.h"

/* Every file but the long lists fits at once. */
#define BUF_FIRST (16UL << 10)

enum { MANY_THREADS = 64 /* from here on another way to find their children may be faster */ };

static int open_proc_root(void) {
        _cleanup_close_ int fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct statfs sfs;

        if (fd < 0)
                return errno == ENOENT ? -ENODEV : -errno;
        if (fstatfs(fd, &sfs) < 0)
                return -errno;
        if (sfs.f_type != PROC_SUPER_MAGIC)
                return -ENODEV;
        return TAKE_FD(fd);
}

int proc_open(pid_t pid, struct proc_dir *ret) {
        char path[sizeof("/proc/") + 11];
        _cleanup_close_ int fd = -EBADF;
        struct statfs sfs;

        if (pid <= 0)
                return -EINVAL;
        snprintf(path, sizeof(path), "/proc/%d", pid);
        fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) {
                _cleanup_close_ int root = -EBADF;

                if (errno != ENOENT)
                        return -errno;
                root = open_proc_root();
                return root < 0 ? root : -ESRCH;
        }
        if (fstatfs(fd, &sfs) < 0)
                return -errno;
        if (sfs.f_type != PROC_SUPER_MAGIC)
                return -ENODEV;
        *ret = (struct proc_dir){ .fd = TAKE_FD(fd), .pid = pid };
        return 0;
}

int proc_open_thread(const struct proc_dir *dir, pid_t tid, struct proc_dir *ret) {
        char path[sizeof("task/") + 11];
        int fd;

        if (tid <= 0)
                return -EINVAL;
        snprintf(path, sizeof(path), "task/%d", tid);
        fd = openat(dir->fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        *ret = (struct proc_dir){ .fd = fd, .pid = tid };
        return 0;
}

void proc_close(struct proc_dir *dir) {
        dir->fd = safe_close(dir->fd);
}

bool proc_exists(const struct proc_dir *dir) {
        return faccessat(dir->fd, "stat", F_OK, 0) == 0;
}

void proc_buf_done(struct proc_buf *buf) {
        free(buf->data);
        *buf = (struct proc_buf){ 0 };
}

static int buf_grow(struct proc_buf *buf) {
        size_t cap = buf->cap ? buf->cap * 2 : BUF_FIRST;
        char *data;

        if (cap > PROC_BUF_MAX)
                return -EFBIG;
        data = realloc(buf->data, cap);
        if (!data)
                return -ENOMEM;
        buf->data = data;
        buf->cap = cap;
        return 0;
}

int proc_buf_room(struct proc_buf *buf, size_t room) {
        int r = 0;

        while (r == 0 && buf->cap - buf->len < room)
                r = buf_grow(buf);
        return r;
}

static int read_fd(int fd, bool once, struct proc_buf *buf) {
        buf->len = 0;
        for (;;) {
                size_t room;
                ssize_t n;

                if (buf->cap - buf->len < PAGE_SIZE + 1) {
                        int r = buf_grow(buf);

                        if (r < 0)
                                return r;
                }
                room = buf->cap - buf->len - 1;
                n = read(fd, buf->data + buf->len, room);
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                buf->len += (size_t)n;
                if (n == 0 || (once && (size_t)n < room))
                        break;
        }
        buf->data[buf->len] = 0;
        return 0;
}

int proc_openat(const struct proc_dir *dir, const char *path, int flags) {
        int fd = openat(dir->fd, path, flags | O_CLOEXEC);

        if (fd >= 0)
                return fd;
        if (errno == ENOENT && !proc_exists(dir))
                return -ESRCH;
        return -errno;
}

int proc_read(const struct proc_dir *dir, const char *path, struct proc_buf *buf) {
        _cleanup_close_ int fd = proc_openat(dir, path, O_RDONLY);

        return fd < 0 ? fd : read_fd(fd, false, buf);
}

int proc_read_once(const struct proc_dir *dir, const char *path, struct proc_buf *buf) {
        _cleanup_close_ int fd = proc_openat(dir, path, O_RDONLY);

        return fd < 0 ? fd : read_fd(fd, true, buf);
}

int proc_read_at(int dirfd, const char *path, struct proc_buf *buf) {
        _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

        return fd < 0 ? -errno : read_fd(fd, false, buf);
}

int proc_readlink(const struct proc_dir *dir, const char *path, char **ret) {
        char target[PATH_MAX + 1];
        ssize_t n = readlinkat(dir->fd, path, target, sizeof(target));
        char *copy;

        if (n < 0) {
                if (errno == ENOENT && !proc_exists(dir))
                        return -ESRCH;
                return -errno;
        }
        if ((size_t)n >= sizeof(target))
                return -ENAMETOOLONG;
        copy = strndup(target, (size_t)n);
        if (!copy)
                return -ENOMEM;
        *ret = copy;
        return 0;
}

static int compare_int(const void *a, const void *b) {
        int x = *(const int *)a, y = *(const int *)b;

        return (x > y) - (x < y);
}

/* Names of one filling of the buffer. */
static int take_numbers(const char *entries, size_t len, struct proc_fd_vec *vec) {
        size_t at = 0;

        while (at + offsetof(struct dirent64, d_name) < len) {
                const struct dirent64 *de = (const void *)(entries + at);
                struct scan s = scan_text(de->d_name, strnlen(de->d_name, sizeof(de->d_name)));
                int number;

                at += de->d_reclen;
                if (scan_i32(&s, &number) && scan_at_end(&s) && proc_fd_vec_push(vec, number) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static bool ascending(const struct proc_fd_vec *vec) {
        for (size_t i = 1; i < vec->n; i++)
                if (vec->v[i - 1] >= vec->v[i])
                        return false;
        return true;
}

/*
 * The entries of the directory behind fd that are decimal numbers. getdents64(2) itself, for these lists are read by
 * the thousand, and opendir(3) makes three more calls of each.
 */
static int list_numbers(int fd, struct proc_fd_vec *ret) {
        _cleanup_(proc_fd_vec_done) struct proc_fd_vec vec = { 0 };
        char entries[8192] __attribute__((aligned(__alignof__(struct dirent64))));
        ssize_t n;
        int r;

        while ((n = getdents64(fd, entries, sizeof(entries))) > 0) {
                r = take_numbers(entries, (size_t)n, &vec);
                if (r < 0)
                        return r;
        }
        if (n < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        if (vec.n > 0 && !ascending(&vec))
                qsort(vec.v, vec.n, sizeof(*vec.v), compare_int);
        proc_fd_vec_done(ret);
        *ret = vec;
        vec = (struct proc_fd_vec){ 0 };
        return 0;
}

int proc_fds(const struct proc_dir *dir, struct proc_fd_vec *ret) {
        _cleanup_close_ int fd = proc_openat(dir, "fd", O_RDONLY | O_DIRECTORY);

        return fd < 0 ? fd : list_numbers(fd, ret);
}

int proc_fds_count(const struct proc_dir *dir, size_t *ret) {
        struct stat st;

        if (fstatat(dir->fd, "fd", &st, 0) < 0)
                return errno == ENOENT && !proc_exists(dir) ? -ESRCH : -errno;
        if (st.st_size <= 0)
                return -EOPNOTSUPP;
        *ret = (size_t)st.st_size;
        return 0;
}

static int list_pids(int fd, bool leader_first, pid_t leader, struct pid_vec *ret) {
        _cleanup_(proc_fd_vec_done) struct proc_fd_vec numbers = { 0 };
        _cleanup_(pid_vec_done) struct pid_vec pids = { 0 };
        int r = list_numbers(fd, &numbers);

        if (r < 0)
                return r;
        for (size_t i = 0; i < numbers.n; i++) {
                if (pid_vec_push(&pids, numbers.v[i]) < 0)
                        return -ENOMEM;
                /* Thread ids wrap around: the leader need not be the smallest. */
                if (leader_first && numbers.v[i] == leader && i) {
                        memmove(pids.v + 1, pids.v, i * sizeof(*pids.v));
                        pids.v[0] = leader;
                }
        }
        pid_vec_done(ret);
        *ret = pids;
        pids = (struct pid_vec){ 0 };
        return 0;
}

/* Each is a link of the directory. 0: not told. */
static size_t count_threads(const struct proc_dir *dir) {
        struct stat st;

        return fstatat(dir->fd, "task", &st, 0) == 0 && st.st_nlink > 2 ? st.st_nlink - 2 : 0;
}

int proc_tids(const struct proc_dir *dir, struct pid_vec *ret) {
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (count_threads(dir) == 1) { /* which is the leader */
                r = pid_vec_push(&tids, dir->pid);
        } else {
                fd = proc_openat(dir, "task", O_RDONLY | O_DIRECTORY);
                r = fd < 0 ? fd : list_pids(fd, true, dir->pid, &tids);
        }
        if (r < 0)
                return r;
        if (!tids.n)
                return -ESRCH;
        pid_vec_done(ret);
        *ret = tids;
        tids = (struct pid_vec){ 0 };
        return 0;
}

int proc_pids(struct pid_vec *ret) {
        _cleanup_close_ int root = open_proc_root(), fd = -EBADF;

        if (root < 0)
                return root;
        fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : list_pids(fd, false, 0, ret);
}

int proc_children_parse(const char *text, size_t len, struct pid_vec *ret) {
        struct scan s = scan_text(text, len);
        size_t before = ret->n;

        while (!scan_at_end(&s)) {
                int pid;

                if (!scan_i32(&s, &pid) || pid <= 0 || !scan_char(&s, ' ')) {
                        ret->n = before;
                        return -EBADMSG;
                }
                if (pid_vec_push(ret, pid) < 0) {
                        ret->n = before;
                        return -ENOMEM;
                }
        }
        return 0;
}

/* By the parents of these processes. */
static int children_among(const struct proc_dir *dir, const struct pid_vec *all, struct pid_vec *ret) {
        _cleanup_(pid_vec_done) struct pid_vec children = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        for (size_t i = 0; i < all->n; i++) {
                _cleanup_proc_dir_ struct proc_dir other = PROC_DIR_INIT;
                struct proc_stat st;
                int r = proc_open(all->v[i], &other);

                if (r == 0)
                        r = proc_stat_read(&other, &buf, &st);
                if (r == -ESRCH)
                        continue;
                if (r < 0)
                        return r;
                if (st.ppid == dir->pid && pid_vec_push(&children, all->v[i]) < 0)
                        return -ENOMEM;
        }
        if (!proc_exists(dir))
                return -ESRCH;
        pid_vec_done(ret);
        *ret = children;
        children = (struct pid_vec){ 0 };
        return 0;
}

int proc_children_by_scan(const struct proc_dir *dir, struct pid_vec *ret) {
        _cleanup_(pid_vec_done) struct pid_vec all = { 0 };
        int r = proc_pids(&all);

        return r < 0 ? r : children_among(dir, &all, ret);
}

static int children_of_threads(const struct proc_dir *dir, const struct pid_vec *tids, struct pid_vec *ret) {
        _cleanup_(pid_vec_done) struct pid_vec children = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        for (size_t i = 0; i < tids->n; i++) {
                char path[sizeof("task//children") + 11];
                _cleanup_proc_dir_ struct proc_dir thread = PROC_DIR_INIT;
                int r;

                snprintf(path, sizeof(path), "task/%d/children", tids->v[i]);
                r = proc_read(dir, path, &buf);
                if (r == -ENOENT) {
                        r = proc_open_thread(dir, tids->v[i], &thread);
                        if (r == 0)
                                return proc_children_by_scan(dir, ret);
                }
                /* A thread that has exited meanwhile has given its children away. */
                if (r == -ESRCH && proc_exists(dir))
                        continue;
                if (r == 0)
                        r = proc_children_parse(buf.data, buf.len, &children);
                if (r < 0)
                        return r;
        }
        pid_vec_done(ret);
        *ret = children;
        children = (struct pid_vec){ 0 };
        return 0;
}

int proc_children(const struct proc_dir *dir, struct pid_vec *ret) {
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 }, all = { 0 };
        size_t n = count_threads(dir);
        int r;

        /* Two files for each process are less than one for each thread; and a list of those takes time, too. */
        if (n >= MANY_THREADS && proc_pids(&all) == 0 && 3 * all.n < n)
                return children_among(dir, &all, ret);
        r = proc_tids(dir, &tids);
        return r < 0 ? r : children_of_threads(dir, &tids, ret);
}

int proc_ns_inode(const struct proc_dir *dir, const char *name, ino_t *ret) {
        char path[64];
        struct stat st;
        int n = snprintf(path, sizeof(path), "ns/%s", name);

        if (n < 0 || (size_t)n >= sizeof(path) || strchr(name, '/'))
                return -EINVAL;
        if (fstatat(dir->fd, path, &st, 0) < 0) {
                if (errno == ENOENT && !proc_exists(dir))
                        return -ESRCH;
                return -errno;
        }
        *ret = st.st_ino;
        return 0;
}
