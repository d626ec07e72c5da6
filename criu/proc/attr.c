/* SPDX-License-Identifier: GPL-2.0-only */
#include "proc/attr.h"

#include <errno.h>

#include "proc/scan.h"

int proc_attr_parse_dec(const char *text, size_t len, int64_t *ret) {
        struct scan s = scan_text(text, len);
        int64_t v;

        if (!scan_i64(&s, &v))
                return -EBADMSG;
        scan_char(&s, '\n');
        if (!scan_at_end(&s))
                return -EBADMSG;
        *ret = v;
        return 0;
}

int proc_attr_parse_hex(const char *text, size_t len, uint64_t *ret) {
        struct scan s = scan_text(text, len);
        uint64_t v;

        if (!scan_hex64(&s, &v))
                return -EBADMSG;
        scan_char(&s, '\n');
        if (!scan_at_end(&s))
                return -EBADMSG;
        *ret = v;
        return 0;
}

static int read_dec(const struct proc_dir *dir, const char *path, struct proc_buf *buf, int64_t min,
                    int64_t max, int64_t *ret) {
        int r = proc_read_once(dir, path, buf);
        int64_t v;

        if (r < 0)
                return r;
        r = proc_attr_parse_dec(buf->data, buf->len, &v);
        if (r < 0)
                return r;
        if (v < min || v > max)
                return -EBADMSG;
        *ret = v;
        return 0;
}

static int read_hex32(const struct proc_dir *dir, const char *path, struct proc_buf *buf, uint32_t *ret) {
        int r = proc_read_once(dir, path, buf);
        uint64_t v;

        if (r < 0)
                return r;
        r = proc_attr_parse_hex(buf->data, buf->len, &v);
        if (r < 0)
                return r;
        if (v > UINT32_MAX)
                return -EBADMSG;
        *ret = (uint32_t)v;
        return 0;
}

int proc_personality_read(const struct proc_dir *dir, struct proc_buf *buf, uint32_t *ret) {
        return read_hex32(dir, "personality", buf, ret);
}

int proc_coredump_filter_read(const struct proc_dir *dir, struct proc_buf *buf, uint32_t *ret) {
        return read_hex32(dir, "coredump_filter", buf, ret);
}

int proc_timerslack_read(const struct proc_dir *dir, struct proc_buf *buf, uint64_t *ret) {
        int64_t v;
        int r = read_dec(dir, "timerslack_ns", buf, 0, INT64_MAX, &v);

        if (r < 0)
                return r;
        *ret = (uint64_t)v;
        return 0;
}

int proc_autogroup_read(const struct proc_dir *dir, struct proc_buf *buf, int *ret) {
        int r = proc_read_once(dir, "autogroup", buf);
        struct scan s;
        uint64_t id;
        int64_t v;

        if (r < 0)
                return r;
        if (buf->len == 0)
                return -ENOENT;
        s = scan_text(buf->data, buf->len);
        if (!scan_lit(&s, "/autogroup-") || !scan_u64(&s, &id) || !scan_lit(&s, " nice ") ||
            !scan_i64(&s, &v) || v < -20 || v > 19)
                return -EBADMSG;
        *ret = (int)v;
        return 0;
}

int proc_oom_score_adj_read(const struct proc_dir *dir, struct proc_buf *buf, int *ret) {
        int64_t v;
        int r = read_dec(dir, "oom_score_adj", buf, -1000, 1000, &v);

        if (r < 0)
                return r;
        *ret = (int)v;
        return 0;
}

int proc_loginuid_read(const struct proc_dir *dir, struct proc_buf *buf, uid_t *ret) {
        int64_t v;
        int r = read_dec(dir, "loginuid", buf, 0, UINT32_MAX, &v);

        if (r < 0)
                return r;
        *ret = (uid_t)v;
        return 0;
}

int proc_wchan_read(const struct proc_dir *dir, struct proc_buf *buf, const char **ret) {
        int r = proc_read_once(dir, "wchan", buf);

        if (r < 0)
                return r;
        if (!buf->len || memchr(buf->data, 0, buf->len) || memchr(buf->data, '\n', buf->len))
                return -EBADMSG;
        *ret = buf->data;
        return 0;
}
