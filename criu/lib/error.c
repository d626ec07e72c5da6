/* SPDX-License-Identifier: GPL-2.0-only */
#include "error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "macro.h"

static const char *errno_text(int code) {
        const char *text = strerrordesc_np(-code);

        return text ? text : "the kernel gave an unknown reason";
}

static char *format_text(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));
static char *format_text(const char *fmt, va_list ap) {
        char *text;

        return vasprintf(&text, fmt, ap) < 0 ? NULL : text;
}

int ckpt_error(struct ckpt_error *err, int code, const char *fmt, ...) {
        int saved = errno;
        va_list ap;

        ckpt_assert(code < 0);
        if (!err || err->code)
                return code;

        va_start(ap, fmt);
        err->what = format_text(fmt, ap);
        va_end(ap);
        err->code = code;
        errno = saved;
        return code;
}

int ckpt_error_errno(struct ckpt_error *err, int code, const char *fmt, ...) {
        int saved = errno;
        va_list ap;
        char *text;

        ckpt_assert(code < 0);
        if (!err || err->code)
                return code;

        va_start(ap, fmt);
        text = format_text(fmt, ap);
        va_end(ap);
        if (text && asprintf(&err->what, "%s: %s", text, errno_text(code)) < 0)
                err->what = NULL;
        free(text);
        err->code = code;
        errno = saved;
        return code;
}

int ckpt_error_prefix(struct ckpt_error *err, const char *fmt, ...) {
        int saved = errno;
        char *text, *joined;
        va_list ap;

        /* Callers return this value as their failure: it may not turn into success. */
        if (!err)
                return -EINVAL;
        if (!err->code)
                return 0;

        va_start(ap, fmt);
        text = format_text(fmt, ap);
        va_end(ap);
        /* When memory is short, the message without its context is better than none. */
        if (text && asprintf(&joined, "%s: %s", text, ckpt_error_message(err)) >= 0) {
                free(err->what);
                err->what = joined;
        }
        free(text);
        errno = saved;
        return err->code;
}

int ckpt_error_hint(struct ckpt_error *err, const char *fmt, ...) {
        int saved = errno;
        va_list ap;
        char *text;

        if (!err)
                return -EINVAL;
        if (!err->code)
                return 0;

        va_start(ap, fmt);
        text = format_text(fmt, ap);
        va_end(ap);
        if (text) {
                free(err->hint);
                err->hint = text;
        }
        errno = saved;
        return err->code;
}

int ckpt_error_move(struct ckpt_error *to, struct ckpt_error *from) {
        int code = from->code;

        if (to && !to->code) {
                *to = *from;
                *from = CKPT_ERROR_INIT;
        }
        ckpt_error_clear(from);
        return code;
}

const char *ckpt_error_message(const struct ckpt_error *err) {
        if (err->what)
                return err->what;
        return err->code ? errno_text(err->code) : "no error";
}

void ckpt_error_clear(struct ckpt_error *err) {
        free(err->what);
        free(err->hint);
        *err = CKPT_ERROR_INIT;
}
