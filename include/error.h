/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Errors as a person needs them.
 *
 * A function that can fail for a reason the user has to know takes a
 * `struct ckpt_error *err` as its last parameter, fills it once, where the cause
 * is known, and returns a negative errno. Callers pass both on unchanged; they
 * add context (ckpt_error_prefix) only when they know something that the callee
 * did not. main() prints the error once, or puts it into the RPC answer.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

struct ckpt_error {
        int code;   /* negative errno, 0 while nothing is wrong */
        char *what; /* owned; the object, why, and what is true now */
        char *hint; /* owned, may be NULL; what the user can do */
};

#define CKPT_ERROR_INIT ((struct ckpt_error){ 0 })

/*
 * Fill *err (NULL is allowed: the caller does not care) and return `code`, so that
 * `return ckpt_error(err, -ENOENT, ...)` reads as one step. `code` must be a negative
 * errno. An error that is filled already is kept: the first cause wins. When memory is
 * short, `code` is still set and ckpt_error_message() has a text for it.
 */
int ckpt_error(struct ckpt_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As ckpt_error(), with ": <text of errno>" appended to the message. */
int ckpt_error_errno(struct ckpt_error *err, int code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* Put "text: " in front of what is already recorded. Returns err->code. */
int ckpt_error_prefix(struct ckpt_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Record what the user can do; replaces an earlier hint. Returns err->code. */
int ckpt_error_hint(struct ckpt_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * Hand over what *from holds, which is empty then. As ckpt_error(): `to` may be NULL, and an error that it has already is
 * kept. Returns the code of *from as it was, 0 if there was no error.
 */
int ckpt_error_move(struct ckpt_error *to, struct ckpt_error *from);

/* The message, never NULL. Valid until the error is cleared or filled again. */
const char *ckpt_error_message(const struct ckpt_error *err);

static inline bool ckpt_error_is_set(const struct ckpt_error *err) {
        return err->code != 0;
}

/* Free what *err owns and make it empty again. */
void ckpt_error_clear(struct ckpt_error *err);

#define _cleanup_error_ __attribute__((cleanup(ckpt_error_clear)))
