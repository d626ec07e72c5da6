/* SPDX-License-Identifier: GPL-2.0-only */
/* What tests of options have in common: words are parsed, or refused with a message. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "cli/options.h"
#include "macro.h"

static const struct option_env no_env __attribute__((unused)) = { 0 };

static inline int parse_words(struct ckpt_options *ret, struct ckpt_error *err, const struct option_env *env,
                              const char *const *words) {
        int argc = 0;

        while (words[argc])
                argc++;
        return ckpt_options_parse(argc, (char *const *)words, env, ret, err);
}

/* Parse a NULL-terminated list of words after "ckpt". */
#define parse(ret, err, env, ...) parse_words(ret, err, env, (const char *const[]){ "ckpt", __VA_ARGS__ })

#define assert_parses(opts, ...)                                         \
        do {                                                             \
                struct ckpt_error err_ = CKPT_ERROR_INIT;                \
                                                                         \
                if (parse(opts, &err_, &no_env, __VA_ARGS__, NULL) != 0) \
                        fail_msg("%s", ckpt_error_message(&err_));       \
                ckpt_error_clear(&err_);                                 \
        } while (0)

/* Refused, and the message has the text. */
#define assert_refused(text, env, ...)                                                \
        do {                                                                          \
                struct ckpt_error err_ = CKPT_ERROR_INIT;                             \
                struct ckpt_options opts_;                                            \
                                                                                      \
                memset(&opts_, 0x5a, sizeof(opts_));                                  \
                assert_true(parse(&opts_, &err_, env, __VA_ARGS__, NULL) < 0);        \
                if (!strstr(ckpt_error_message(&err_), text))                         \
                        fail_msg("'%s' lacks '%s'", ckpt_error_message(&err_), text); \
                assert_int_equal(((unsigned char *)&opts_)[0], 0x5a);                 \
                ckpt_error_clear(&err_);                                              \
        } while (0)

static inline int check(const char *const *words, struct ckpt_error *err, const struct option_env *env) {
        _cleanup_options_ struct ckpt_options opts;
        int r;

        ckpt_options_init(&opts);
        r = parse_words(&opts, err, env, words);
        return r < 0 ? r : ckpt_options_check(&opts, err);
}
