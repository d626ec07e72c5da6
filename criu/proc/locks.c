/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/locks.h"

#include <fcntl.h>

#include "macro.h"
#include "proc/scan.h"

static const struct {
        const char *word;
        enum proc_lock_type type;
} types[] = {
        { "POSIX", PROC_LOCK_POSIX },     { "OFDLCK", PROC_LOCK_OFD },  { "FLOCK", PROC_LOCK_FLOCK },
        { "LEASE", PROC_LOCK_LEASE },     { "DELEG", PROC_LOCK_DELEG }, { "ACCESS", PROC_LOCK_ACCESS },
        { "UNKNOWN", PROC_LOCK_UNKNOWN },
};

static const struct {
        const char *word;
        enum proc_lock_mode mode;
} modes[] = {
        { "READ", PROC_LOCK_READ }, { "WRITE", PROC_LOCK_WRITE }, { "UNLCK", PROC_LOCK_UNLOCK },
        { "RW", PROC_LOCK_RW },     { "NONE", PROC_LOCK_NONE },
};

/* The second word: how binding the lock is, or for a lease, whether it is being broken. */
static bool scan_state(struct scan *s, struct proc_lock *lock) {
        static const char *const words[] = { "ADVISORY", "MANDATORY", "ACTIVE",    "BREAKING",
                                             "BREAKER",  "MSNFS",     "*NOINODE*", "UNKNOWN" };
        struct scan word;

        scan_blanks(s);
        if (!scan_word(s, &word))
                return false;
        lock->mandatory = scan_equal(&word, "MANDATORY");
        lock->breaking = scan_equal(&word, "BREAKING");
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (scan_equal(&word, words[i]))
                        return true;
        return false;
}

static bool scan_type(struct scan *s, struct proc_lock *lock) {
        struct scan word;

        scan_blanks(s);
        lock->blocked = scan_lit(s, "->");
        scan_blanks(s);
        if (!scan_word(s, &word))
                return false;
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                if (scan_equal(&word, types[i].word)) {
                        lock->type = types[i].type;
                        return true;
                }
        return false;
}

static bool scan_mode(struct scan *s, struct proc_lock *lock) {
        struct scan word;

        scan_blanks(s);
        if (!scan_word(s, &word))
                return false;
        for (size_t i = 0; i < ELEMENTSOF(modes); i++)
                if (scan_equal(&word, modes[i].word)) {
                        lock->mode = modes[i].mode;
                        return true;
                }
        return false;
}

static bool scan_file(struct scan *s, struct proc_lock *lock) {
        scan_blanks(s);
        if (scan_lit(s, "<none>:0")) {
                lock->no_inode = true;
                return true;
        }
        return scan_hex32(s, &lock->dev_major) && scan_char(s, ':') && scan_hex32(s, &lock->dev_minor) &&
               scan_char(s, ':') && scan_u64(s, &lock->ino);
}

static bool scan_range(struct scan *s, struct proc_lock *lock) {
        if (!scan_char(s, ' ') || !scan_i64(s, &lock->start) || !scan_char(s, ' '))
                return false;
        if (scan_lit(s, "EOF"))
                lock->end = INT64_MAX;
        else if (!scan_i64(s, &lock->end))
                return false;
        return lock->start >= 0 && lock->end >= lock->start && scan_at_end(s);
}

int proc_lock_parse_line(struct scan *s, struct proc_lock *ret) {
        struct proc_lock lock = { 0 };

        if (!scan_u64(s, &lock.id) || !scan_char(s, ':') || !scan_type(s, &lock) || !scan_state(s, &lock) ||
            !scan_mode(s, &lock))
                return -EBADMSG;
        scan_blanks(s);
        if (!scan_i32(s, &lock.pid) || !scan_file(s, &lock) || !scan_range(s, &lock))
                return -EBADMSG;
        *ret = lock;
        return 0;
}

int proc_locks_parse(const char *text, size_t len, struct proc_lock_vec *ret) {
        _cleanup_(proc_lock_vec_done) struct proc_lock_vec vec = { 0 };
        struct scan s = scan_text(text, len), line;

        while (scan_line(&s, &line)) {
                struct proc_lock *lock = proc_lock_vec_add(&vec);
                int r;

                if (!lock)
                        return -ENOMEM;
                r = proc_lock_parse_line(&line, lock);
                if (r < 0)
                        return r;
        }
        if (!scan_at_end(&s))
                return -EBADMSG;
        proc_lock_vec_done(ret);
        *ret = vec;
        vec = (struct proc_lock_vec){ 0 };
        return 0;
}

int proc_locks_read(struct proc_buf *buf, struct proc_lock_vec *ret) {
        int r = proc_read_at(AT_FDCWD, "/proc/locks", buf);

        return r < 0 ? r : proc_locks_parse(buf->data, buf->len, ret);
}
