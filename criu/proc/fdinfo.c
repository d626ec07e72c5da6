/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/fdinfo.h"

#include <stdio.h>
#include <string.h>

#include "macro.h"
#include "proc/scan.h"

/* "name" and a number, after blanks: the form of most of the multi-value lines. */
static bool scan_named_hex(struct scan *s, const char *name, uint32_t *ret) {
        return scan_blanks_lit(s, name) && scan_hex32(s, ret);
}

/* ... fhandle-bytes:8 fhandle-type:1 f_handle:1dc5030000000000 (all hexadecimal), or nothing. */
static bool scan_fhandle(struct scan *s, struct proc_fhandle *ret) {
        struct proc_fhandle handle = { .known = true };
        uint32_t type;

        scan_blanks(s);
        if (scan_at_end(s)) {
                *ret = (struct proc_fhandle){ 0 };
                return true;
        }
        if (!scan_named_hex(s, "fhandle-bytes:", &handle.n) || handle.n > PROC_FHANDLE_MAX ||
            !scan_named_hex(s, "fhandle-type:", &type) || type > INT32_MAX ||
            !scan_blanks_lit(s, "f_handle:"))
                return false;
        handle.type = (int)type;
        for (uint32_t i = 0; i < handle.n; i++, s->p += 2) {
                if (scan_left(s) < 2 || scan_hex_digit(s->p[0]) < 0 || scan_hex_digit(s->p[1]) < 0)
                        return false;
                handle.data[i] = (uint8_t)(scan_hex_digit(s->p[0]) << 4 | scan_hex_digit(s->p[1]));
        }
        *ret = handle;
        return true;
}

static int parse_pos(struct scan *s, struct proc_fdinfo *info) {
        return scan_i64(s, &info->pos) ? 0 : -EBADMSG;
}

static int parse_flags(struct scan *s, struct proc_fdinfo *info) {
        uint64_t v;

        if (!scan_oct64(s, &v) || v > UINT32_MAX)
                return -EBADMSG;
        info->flags = (uint32_t)v;
        return 0;
}

static int parse_mnt_id(struct scan *s, struct proc_fdinfo *info) {
        return scan_i32(s, &info->mnt_id) ? 0 : -EBADMSG;
}

static int parse_ino(struct scan *s, struct proc_fdinfo *info) {
        info->has_ino = true;
        return scan_u64(s, &info->ino) ? 0 : -EBADMSG;
}

static int parse_lock(struct scan *s, struct proc_fdinfo *info) {
        struct proc_lock *lock = proc_lock_vec_add(&info->locks);

        return lock ? proc_lock_parse_line(s, lock) : -ENOMEM;
}

static int parse_eventfd_count(struct scan *s, struct proc_fdinfo *info) {
        info->eventfd.id = -1;
        return scan_hex64(s, &info->eventfd.count) ? 0 : -EBADMSG;
}

static int parse_eventfd_id(struct scan *s, struct proc_fdinfo *info) {
        return scan_i32(s, &info->eventfd.id) ? 0 : -EBADMSG;
}

static int parse_eventfd_semaphore(struct scan *s, struct proc_fdinfo *info) {
        uint32_t v;

        if (!scan_u32(s, &v) || v > 1)
                return -EBADMSG;
        info->eventfd.semaphore = v;
        info->eventfd.has_semaphore = true;
        return 0;
}

/* tfd:        3 events: 80000019 data:                3  pos:0 ino:40e sdev:10 */
static int parse_epoll(struct scan *s, struct proc_fdinfo *info) {
        struct proc_epoll_item *item = proc_epoll_vec_add(&info->epoll);

        if (!item)
                return -ENOMEM;
        if (!scan_i32(s, &item->fd) || !scan_blanks_lit(s, "events:"))
                return -EBADMSG;
        scan_blanks(s);
        if (!scan_hex32(s, &item->events) || !scan_blanks_lit(s, "data:"))
                return -EBADMSG;
        scan_blanks(s);
        if (!scan_hex64(s, &item->data))
                return -EBADMSG;
        scan_blanks(s);
        if (scan_at_end(s))
                return 0;
        if (!scan_lit(s, "pos:") || !scan_i64(s, &item->pos) || !scan_blanks_lit(s, "ino:") ||
            !scan_hex64(s, &item->ino) || !scan_named_hex(s, "sdev:", &item->sdev))
                return -EBADMSG;
        return 0;
}

static int parse_sigmask(struct scan *s, struct proc_fdinfo *info) {
        return scan_hex64(s, &info->signalfd.mask) ? 0 : -EBADMSG;
}

static int parse_clockid(struct scan *s, struct proc_fdinfo *info) {
        return scan_i32(s, &info->timerfd.clockid) ? 0 : -EBADMSG;
}

static int parse_ticks(struct scan *s, struct proc_fdinfo *info) {
        return scan_u64(s, &info->timerfd.ticks) ? 0 : -EBADMSG;
}

static int parse_settime_flags(struct scan *s, struct proc_fdinfo *info) {
        uint64_t v;

        if (!scan_oct64(s, &v) || v > UINT32_MAX)
                return -EBADMSG;
        info->timerfd.settime_flags = (uint32_t)v;
        return 0;
}

/* (99, 999969219): seconds, nanoseconds */
static int parse_timespec(struct scan *s, struct timespec *ret) {
        uint64_t sec, nsec;

        if (!scan_char(s, '(') || !scan_u64(s, &sec) || !scan_lit(s, ", ") || !scan_u64(s, &nsec) ||
            !scan_char(s, ')') || sec > INT64_MAX || nsec > 999999999)
                return -EBADMSG;
        *ret = (struct timespec){ .tv_sec = (time_t)sec, .tv_nsec = (long)nsec };
        return 0;
}

static int parse_it_value(struct scan *s, struct proc_fdinfo *info) {
        return parse_timespec(s, &info->timerfd.value);
}

static int parse_it_interval(struct scan *s, struct proc_fdinfo *info) {
        return parse_timespec(s, &info->timerfd.interval);
}

/* inotify wd:2 ino:3c51d sdev:fe00000 mask:2 ignored_mask:0 [handle] */
static int parse_inotify(struct scan *s, struct proc_fdinfo *info) {
        struct proc_inotify_watch *watch = proc_inotify_vec_add(&info->inotify);
        uint32_t wd, ignored;

        if (!watch)
                return -ENOMEM;
        if (!scan_hex32(s, &wd) || wd > INT32_MAX || !scan_blanks_lit(s, "ino:") ||
            !scan_hex64(s, &watch->ino) || !scan_named_hex(s, "sdev:", &watch->sdev) ||
            !scan_named_hex(s, "mask:", &watch->mask) || !scan_named_hex(s, "ignored_mask:", &ignored) ||
            !scan_fhandle(s, &watch->handle))
                return -EBADMSG;
        watch->wd = (int)wd;
        return 0;
}

static int parse_fanotify_flags(struct scan *s, struct proc_fdinfo *info) {
        if (!scan_hex32(s, &info->fanotify.flags) ||
            !scan_named_hex(s, "event-flags:", &info->fanotify.event_flags))
                return -EBADMSG;
        return 0;
}

/* What follows the object of a mark: mflags:0 mask:20 ignored_mask:0 [handle] */
static int parse_mark(struct scan *s, struct proc_fanotify_mark *mark) {
        if (!scan_named_hex(s, "mflags:", &mark->mflags) || !scan_named_hex(s, "mask:", &mark->mask) ||
            !scan_named_hex(s, "ignored_mask:", &mark->ignored_mask) || !scan_fhandle(s, &mark->handle))
                return -EBADMSG;
        return 0;
}

static int add_mark(struct proc_fdinfo *info, enum proc_fanotify_on on, struct proc_fanotify_mark **ret) {
        struct proc_fanotify_mark *mark = proc_fanotify_vec_add(&info->fanotify_marks);

        if (!mark)
                return -ENOMEM;
        mark->on = on;
        *ret = mark;
        return 0;
}

static int parse_mark_inode(struct scan *s, struct proc_fdinfo *info) {
        struct proc_fanotify_mark *mark;
        int r = add_mark(info, PROC_FANOTIFY_INODE, &mark);

        if (r < 0)
                return r;
        if (!scan_hex64(s, &mark->ino) || !scan_named_hex(s, "sdev:", &mark->sdev))
                return -EBADMSG;
        return parse_mark(s, mark);
}

static int parse_mark_mount(struct scan *s, struct proc_fdinfo *info) {
        struct proc_fanotify_mark *mark;
        int r = add_mark(info, PROC_FANOTIFY_MOUNT, &mark);

        if (r < 0)
                return r;
        return scan_hex32(s, &mark->mnt_id) ? parse_mark(s, mark) : -EBADMSG;
}

static int parse_mark_filesystem(struct scan *s, struct proc_fdinfo *info) {
        struct proc_fanotify_mark *mark;
        int r = add_mark(info, PROC_FANOTIFY_FILESYSTEM, &mark);

        if (r < 0)
                return r;
        return scan_hex32(s, &mark->sdev) ? parse_mark(s, mark) : -EBADMSG;
}

static int parse_mark_mntns(struct scan *s, struct proc_fdinfo *info) {
        struct proc_fanotify_mark *mark;
        int r = add_mark(info, PROC_FANOTIFY_MNTNS, &mark);

        if (r < 0)
                return r;
        return scan_hex32(s, &mark->mnt_id) ? parse_mark(s, mark) : -EBADMSG;
}

static int parse_pid(struct scan *s, struct proc_fdinfo *info) {
        return scan_i32(s, &info->pidfd.pid) ? 0 : -EBADMSG;
}

static int parse_nspid(struct scan *s, struct proc_fdinfo *info) {
        return proc_scan_ns_ids(s, &info->pidfd.nspid) ? 0 : -EBADMSG;
}

static int parse_scm_fds(struct scan *s, struct proc_fdinfo *info) {
        return scan_u32(s, &info->unix_socket.scm_fds) ? 0 : -EBADMSG;
}

/* First of its kind: the line that starts the kind and therefore comes before the others of it. */
enum { ANYWHERE, FIRST, LATER };

static const struct fdinfo_line {
        const char *key;
        int (*parse)(struct scan *s, struct proc_fdinfo *info);
        enum proc_fdinfo_kind kind;
        uint8_t place;
        bool once;
} lines[] = {
        { "pos:", parse_pos, PROC_FDINFO_PLAIN, ANYWHERE, true },
        { "flags:", parse_flags, PROC_FDINFO_PLAIN, ANYWHERE, true },
        { "mnt_id:", parse_mnt_id, PROC_FDINFO_PLAIN, ANYWHERE, true },
        { "ino:", parse_ino, PROC_FDINFO_PLAIN, ANYWHERE, true },
        { "lock:", parse_lock, PROC_FDINFO_PLAIN, ANYWHERE, false },
        { "eventfd-count:", parse_eventfd_count, PROC_FDINFO_EVENTFD, FIRST, true },
        { "eventfd-id:", parse_eventfd_id, PROC_FDINFO_EVENTFD, LATER, true },
        { "eventfd-semaphore:", parse_eventfd_semaphore, PROC_FDINFO_EVENTFD, LATER, true },
        { "tfd:", parse_epoll, PROC_FDINFO_EPOLL, FIRST, false },
        { "sigmask:", parse_sigmask, PROC_FDINFO_SIGNALFD, FIRST, true },
        { "clockid:", parse_clockid, PROC_FDINFO_TIMERFD, FIRST, true },
        { "ticks:", parse_ticks, PROC_FDINFO_TIMERFD, LATER, true },
        { "settime flags:", parse_settime_flags, PROC_FDINFO_TIMERFD, LATER, true },
        { "it_value:", parse_it_value, PROC_FDINFO_TIMERFD, LATER, true },
        { "it_interval:", parse_it_interval, PROC_FDINFO_TIMERFD, LATER, true },
        { "inotify wd:", parse_inotify, PROC_FDINFO_INOTIFY, FIRST, false },
        { "fanotify flags:", parse_fanotify_flags, PROC_FDINFO_FANOTIFY, FIRST, true },
        { "fanotify ino:", parse_mark_inode, PROC_FDINFO_FANOTIFY, LATER, false },
        { "fanotify mnt_id:", parse_mark_mount, PROC_FDINFO_FANOTIFY, LATER, false },
        { "fanotify sdev:", parse_mark_filesystem, PROC_FDINFO_FANOTIFY, LATER, false },
        { "fanotify mnt_ns:", parse_mark_mntns, PROC_FDINFO_FANOTIFY, LATER, false },
        { "Pid:", parse_pid, PROC_FDINFO_PIDFD, FIRST, true },
        { "NSpid:", parse_nspid, PROC_FDINFO_PIDFD, LATER, true },
        { "scm_fds:", parse_scm_fds, PROC_FDINFO_UNIX, FIRST, true },
};
_Static_assert(ELEMENTSOF(lines) <= 32, "one bit of `seen` per row");

/* The four timerfd lines after clockid: the timer means nothing without all of them. */
static bool complete(const struct proc_fdinfo *info, uint32_t seen) {
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                bool needed =
                        i < 2 || (info->kind == PROC_FDINFO_TIMERFD && lines[i].kind == PROC_FDINFO_TIMERFD);

                if (needed && !(seen >> i & 1))
                        return false;
        }
        return true;
}

/* Keep a line without a row. The newline behind it makes room for the NUL of its end. */
static int keep_line(struct scan line, struct proc_fdinfo *info) {
        struct proc_fdinfo_line *kept = proc_fdinfo_line_vec_add(&info->other);
        struct scan key;

        if (!kept)
                return -ENOMEM;
        *(char *)line.end = 0;
        kept->key = line.end;
        if (scan_until(&line, ':', &key)) {
                *(char *)key.end = 0;
                kept->key = key.p;
                scan_blanks(&line);
        }
        kept->value = line.p;
        return 0;
}

static int parse_line(struct scan line, uint32_t *seen, struct proc_fdinfo *info) {
        const struct scan whole = line;

        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                const struct fdinfo_line *row = &lines[i];
                int r;

                if (!scan_lit(&line, row->key))
                        continue;
                if (row->once && (*seen >> i & 1))
                        return -EBADMSG;
                *seen |= 1U << i;
                if (row->place != ANYWHERE) {
                        bool started = info->kind == row->kind;

                        if (!started && (row->place == LATER || info->kind != PROC_FDINFO_PLAIN))
                                return -EBADMSG;
                        info->kind = row->kind;
                }
                scan_blanks(&line);
                r = row->parse(&line, info);
                if (r < 0)
                        return r;
                scan_blanks(&line);
                return scan_at_end(&line) ? 0 : -EBADMSG;
        }
        return keep_line(whole, info);
}

int proc_fdinfo_parse(char *text, size_t len, struct proc_fdinfo *ret) {
        _cleanup_proc_fdinfo_ struct proc_fdinfo info = { .mnt_id = -1 };
        struct scan s = scan_text(text, len), line;
        uint32_t seen = 0;

        if (len && memchr(text, 0, len))
                return -EBADMSG;
        while (scan_line(&s, &line)) {
                int r = parse_line(line, &seen, &info);

                if (r < 0)
                        return r;
        }
        if (!scan_at_end(&s) || !complete(&info, seen))
                return -EBADMSG;
        if (info.kind == PROC_FDINFO_PLAIN && info.other.n)
                info.kind = PROC_FDINFO_OTHER;
        *ret = info;
        info = (struct proc_fdinfo){ 0 };
        return 0;
}

int proc_fdinfo_read(const struct proc_dir *dir, int fd, struct proc_buf *buf, struct proc_fdinfo *ret) {
        char path[sizeof("fdinfo/") + 11];
        int r;

        if (fd < 0)
                return -EINVAL;
        snprintf(path, sizeof(path), "fdinfo/%d", fd);
        r = proc_read_once(dir, path, buf);
        return r < 0 ? r : proc_fdinfo_parse(buf->data, buf->len, ret);
}

void proc_fdinfo_done(struct proc_fdinfo *info) {
        proc_epoll_vec_done(&info->epoll);
        proc_inotify_vec_done(&info->inotify);
        proc_fanotify_vec_done(&info->fanotify_marks);
        proc_lock_vec_done(&info->locks);
        proc_fdinfo_line_vec_done(&info->other);
}

const char *proc_fdinfo_find(const struct proc_fdinfo *info, const char *key) {
        for (size_t i = 0; i < info->other.n; i++)
                if (strcmp(info->other.v[i].key, key) == 0)
                        return info->other.v[i].value;
        return NULL;
}

int proc_fdinfo_find_u64(const struct proc_fdinfo *info, const char *key, uint64_t *ret) {
        const char *value = proc_fdinfo_find(info, key);
        struct scan s;
        uint64_t v;

        if (!value)
                return -ENOENT;
        s = scan_text(value, strlen(value));
        if (!(scan_lit(&s, "0x") ? scan_hex64(&s, &v) : scan_u64(&s, &v)) || !scan_at_end(&s))
                return -EBADMSG;
        *ret = v;
        return 0;
}
