/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/stat.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "macro.h"
#include "proc/scan.h"

enum field_type { I32, U32, U64 };

/* The fields we keep, by their number in proc(5), ascending. */
static const struct {
        uint8_t number;
        uint8_t type;
        uint16_t offset;
} fields[] = {
#define F(number, type, name) \
        { number, type, offsetof(struct proc_stat, name) }
        F(4, I32, ppid),         F(5, I32, pgid),         F(6, I32, sid),        F(7, I32, tty_nr),
        F(8, I32, tpgid),        F(9, U32, flags),        F(14, U64, utime),     F(15, U64, stime),
        F(16, U64, cutime),      F(17, U64, cstime),      F(19, I32, nice),      F(20, I32, num_threads),
        F(22, U64, start_time),  F(26, U64, start_code),  F(27, U64, end_code),  F(28, U64, start_stack),
        F(38, I32, exit_signal), F(40, U32, rt_priority), F(41, U32, policy),    F(45, U64, start_data),
        F(46, U64, end_data),    F(47, U64, start_brk),   F(48, U64, arg_start), F(49, U64, arg_end),
        F(50, U64, env_start),   F(51, U64, env_end),     F(52, I32, exit_code),
#undef F
};

static bool scan_field(struct scan *s, enum field_type type, void *into) {
        switch (type) {
        case I32:
                return scan_i32(s, into);
        case U32:
                return scan_u32(s, into);
        case U64:
                return scan_u64(s, into);
        }
        return false;
}

static bool parse_comm(struct scan *s, struct proc_stat *st) {
        const char *close;
        size_t n;

        if (!scan_char(s, '('))
                return false;
        close = scan_left(s) ? memrchr(s->p, ')', scan_left(s)) : NULL;
        if (!close)
                return false;
        n = (size_t)(close - s->p);
        if (n >= sizeof(st->comm) || (n && memchr(s->p, 0, n)))
                return false;
        memcpy(st->comm, s->p, n);
        s->p = close + 1;
        return true;
}

int proc_stat_parse(const char *text, size_t len, struct proc_stat *ret) {
        struct scan s = scan_text(text, len);
        struct proc_stat st = { 0 };
        size_t next = 0;

        if (!scan_i32(&s, &st.pid) || st.pid <= 0 || !scan_char(&s, ' ') || !parse_comm(&s, &st))
                return -EBADMSG;
        if (!scan_char(&s, ' ') || scan_at_end(&s))
                return -EBADMSG;
        st.state = *s.p++;
        if (!st.state || !strchr("RSDTtZXxKWPI", st.state))
                return -EBADMSG;
        for (unsigned number = 4; next < ELEMENTSOF(fields); number++) {
                uint64_t skipped;

                if (!scan_char(&s, ' '))
                        return -EBADMSG;
                if (fields[next].number == number) {
                        if (!scan_field(&s, fields[next].type, (char *)&st + fields[next].offset))
                                return -EBADMSG;
                        next++;
                } else {
                        scan_char(&s, '-');
                        if (!scan_u64(&s, &skipped))
                                return -EBADMSG;
                }
        }
        /* More fields may come one day, but the last one we know must be complete. */
        if (scan_at_end(&s) || (*s.p != ' ' && *s.p != '\n'))
                return -EBADMSG;
        *ret = st;
        return 0;
}

int proc_stat_read(const struct proc_dir *dir, struct proc_buf *buf, struct proc_stat *ret) {
        int r = proc_read_once(dir, "stat", buf);

        return r < 0 ? r : proc_stat_parse(buf->data, buf->len, ret);
}

int proc_wait_stopped(const struct proc_dir *dir, unsigned int timeout_ms) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        uint64_t deadline = clock_us(CLOCK_MONOTONIC) + (uint64_t)timeout_ms * 1000;
        struct timespec pause = { .tv_nsec = 200 * 1000 };
        struct proc_stat stat;

        for (;;) {
                int r = proc_stat_read(dir, &buf, &stat);

                if (r == -ESRCH || r == -ENOENT)
                        return 0;
                if (r < 0)
                        return r;
                if (!strchr("Rt", stat.state))
                        return 0;
                if (clock_us(CLOCK_MONOTONIC) >= deadline)
                        return -ETIMEDOUT;
                nanosleep(&pause, NULL);
        }
}
