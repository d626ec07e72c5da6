/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every parser of /proc has to survive: a good text cut off at each byte, with each byte
 * replaced, with each number made enormous, and noise. The text ends at an unmapped page, so
 * that reading or writing one byte too far is fatal in every build.
 */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

/* Parse, free the result, return what the parser returned. */
typedef int (*hostile_parse)(char *text, size_t len);

#define HOSTILE_ROOM (64UL << 10)

struct hostile {
        char *area;
        hostile_parse parse;
};

static inline int hostile_run(const struct hostile *h, const char *text, size_t len) {
        char *at = h->area + HOSTILE_ROOM - len;
        int r;

        assert_true(len <= HOSTILE_ROOM);
        if (len)
                memcpy(at, text, len);
        r = h->parse(at, len);
        if (r != 0 && r != -EBADMSG && r != -EAGAIN && r != -ENOENT)
                fail_msg("unexpected result %d", r);
        return r;
}

static inline void hostile_bytes(const struct hostile *h, const char *good, size_t len) {
        static const char evil[] = { 0, '\n', ' ', '\t', '-', '9', 'f', ':', ')', '\\', '/', (char)0xff };
        char *copy = test_malloc(len + 1);

        memcpy(copy, good, len);
        for (size_t i = 0; i < len; i++) {
                for (size_t k = 0; k < sizeof(evil); k++) {
                        copy[i] = evil[k];
                        hostile_run(h, copy, len);
                }
                copy[i] = good[i];
        }
        test_free(copy);
}

static inline void hostile_numbers(const struct hostile *h, const char *good, size_t len) {
        static const char *const huge[] = { "18446744073709551616",
                                            "99999999999999999999999999999999",
                                            "9223372036854775808",
                                            "4294967296",
                                            "-1",
                                            "-99999999999999999999" };
        char *copy = test_malloc(len + 64);

        for (size_t i = 0; i < len; i++) {
                size_t n = strspn(good + i, "0123456789");

                for (size_t k = 0; n && k < sizeof(huge) / sizeof(huge[0]); k++) {
                        size_t m = strlen(huge[k]);

                        memcpy(copy, good, i);
                        memcpy(copy + i, huge[k], m);
                        memcpy(copy + i + m, good + i + n, len - i - n);
                        hostile_run(h, copy, len - n + m);
                }
                i += n;
        }
        test_free(copy);
}

static inline void hostile_noise(const struct hostile *h, const char *good, size_t len) {
        char noise[512];
        uint64_t x = 88172645463325252ULL;

        for (unsigned round = 0; round < 3000; round++) {
                size_t n = 0;

                for (; n < sizeof(noise); n++) {
                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                        /* Half of the rounds use letters of the good text, which get further. */
                        noise[n] = round % 2 && len ? good[x % len] : (char)(x >> 32);
                        if (n > 8 && x % 97 == 0)
                                break;
                }
                hostile_run(h, noise, n);
        }
}

/*
 * `whole_lines`: a text cut off anywhere but behind a newline must be refused.
 * good[len] must be a NUL.
 */
static inline void hostile_check(hostile_parse parse, const char *good, size_t len, bool whole_lines) {
        char *area =
                mmap(NULL, HOSTILE_ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct hostile h = { area, parse };

        assert_ptr_not_equal(area, MAP_FAILED);
        assert_int_equal(mprotect(area + HOSTILE_ROOM, 4096, PROT_NONE), 0);
        assert_int_equal(hostile_run(&h, good, len), 0);
        for (size_t n = 0; n < len; n++) {
                int r = hostile_run(&h, good, n);

                if (whole_lines && n && good[n - 1] != '\n' && r != -EBADMSG)
                        fail_msg("cut off after %zu bytes: %d", n, r);
        }
        hostile_bytes(&h, good, len);
        hostile_numbers(&h, good, len);
        hostile_noise(&h, good, len);
        munmap(area, HOSTILE_ROOM + 4096);
}
