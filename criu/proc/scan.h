/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A scanner over a bounded piece of text, for the parsers of /proc.
 *
 * Every function moves s->p forward and returns true, or leaves *s as it was and returns
 * false. Nothing reads at or beyond s->end, nothing needs a terminating NUL, and numbers
 * that do not fit their type are refused rather than wrapped. No allocation, no locale.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct scan {
        const char *p;
        const char *end;
};

/* The scanner over text[0..len). */
static inline struct scan scan_text(const char *text, size_t len) {
        return (struct scan){ .p = text, .end = text + len };
}

static inline bool scan_at_end(const struct scan *s) {
        return s->p == s->end;
}

static inline size_t scan_left(const struct scan *s) {
        return (size_t)(s->end - s->p);
}

/* Exactly the character c. */
static inline bool scan_char(struct scan *s, char c) {
        if (s->p == s->end || *s->p != c)
                return false;
        s->p++;
        return true;
}

/* Exactly the text `lit`. */
static inline bool scan_lit(struct scan *s, const char *lit) {
        size_t n = strlen(lit);

        if (scan_left(s) < n || memcmp(s->p, lit, n) != 0)
                return false;
        s->p += n;
        return true;
}

/* Any number of spaces and tabs, also none. */
static inline void scan_blanks(struct scan *s) {
        while (s->p < s->end && (*s->p == ' ' || *s->p == '\t'))
                s->p++;
}

/* `lit` after any number of blanks. */
static inline bool scan_blanks_lit(struct scan *s, const char *lit) {
        struct scan t = *s;

        scan_blanks(&t);
        if (!scan_lit(&t, lit))
                return false;
        *s = t;
        return true;
}

/*
 * The next line, without its newline. False at the end and for a last line that lacks the
 * newline (the kernel ends every line, so that is a truncated text): tell the two apart
 * with scan_at_end().
 */
static inline bool scan_line(struct scan *s, struct scan *ret) {
        const char *nl = scan_left(s) ? memchr(s->p, '\n', scan_left(s)) : NULL;

        if (!nl)
                return false;
        *ret = (struct scan){ .p = s->p, .end = nl };
        s->p = nl + 1;
        return true;
}

/* Characters up to the next `stop` (which is consumed too); `ret` may be empty. */
static inline bool scan_until(struct scan *s, char stop, struct scan *ret) {
        const char *at = scan_left(s) ? memchr(s->p, stop, scan_left(s)) : NULL;

        if (!at)
                return false;
        *ret = (struct scan){ .p = s->p, .end = at };
        s->p = at + 1;
        return true;
}

/* One or more characters that are neither blank nor newline. */
static inline bool scan_word(struct scan *s, struct scan *ret) {
        const char *p = s->p;

        while (p < s->end && *p != ' ' && *p != '\t' && *p != '\n')
                p++;
        if (p == s->p)
                return false;
        *ret = (struct scan){ .p = s->p, .end = p };
        s->p = p;
        return true;
}

/* Is the whole of *s the text `lit`? */
static inline bool scan_equal(const struct scan *s, const char *lit) {
        size_t n = strlen(lit);

        return scan_left(s) == n && memcmp(s->p, lit, n) == 0;
}

/* Decimal, 0 to 2^64-1, no sign. */
static inline bool scan_u64(struct scan *s, uint64_t *ret) {
        const char *p = s->p;
        uint64_t v = 0;

        for (; p < s->end && *p >= '0' && *p <= '9'; p++)
                if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
                        return false;
        if (p == s->p)
                return false;
        s->p = p;
        *ret = v;
        return true;
}

/* The value of a hexadecimal digit, or -1. */
static inline int scan_hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

/* Hexadecimal without 0x, any number of leading zeros. */
static inline bool scan_hex64(struct scan *s, uint64_t *ret) {
        const char *p = s->p;
        uint64_t v = 0;
        int d;

        for (; p < s->end && (d = scan_hex_digit(*p)) >= 0; p++) {
                if (v >> 60)
                        return false;
                v = v << 4 | (uint64_t)d;
        }
        if (p == s->p)
                return false;
        s->p = p;
        *ret = v;
        return true;
}

/* Octal, any number of leading zeros. */
static inline bool scan_oct64(struct scan *s, uint64_t *ret) {
        const char *p = s->p;
        uint64_t v = 0;

        for (; p < s->end && *p >= '0' && *p <= '7'; p++) {
                if (v >> 61)
                        return false;
                v = v << 3 | (uint64_t)(*p - '0');
        }
        if (p == s->p)
                return false;
        s->p = p;
        *ret = v;
        return true;
}

/* Decimal with an optional minus sign. */
static inline bool scan_i64(struct scan *s, int64_t *ret) {
        struct scan t = *s;
        bool negative = scan_char(&t, '-');
        uint64_t v;

        if (!scan_u64(&t, &v) || v > (uint64_t)INT64_MAX + negative)
                return false;
        *s = t;
        *ret = negative ? (int64_t)(0 - v) : (int64_t)v;
        return true;
}

static inline bool scan_u32(struct scan *s, uint32_t *ret) {
        struct scan t = *s;
        uint64_t v;

        if (!scan_u64(&t, &v) || v > UINT32_MAX)
                return false;
        *s = t;
        *ret = (uint32_t)v;
        return true;
}

static inline bool scan_i32(struct scan *s, int32_t *ret) {
        struct scan t = *s;
        int64_t v;

        if (!scan_i64(&t, &v) || v < INT32_MIN || v > INT32_MAX)
                return false;
        *s = t;
        *ret = (int32_t)v;
        return true;
}

static inline bool scan_hex32(struct scan *s, uint32_t *ret) {
        struct scan t = *s;
        uint64_t v;

        if (!scan_hex64(&t, &v) || v > UINT32_MAX)
                return false;
        *s = t;
        *ret = (uint32_t)v;
        return true;
}
