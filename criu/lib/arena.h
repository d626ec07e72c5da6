/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory that is freed all at once: what is collected of a task, and the messages made of it. An arena
 * belongs to one thread at a time. Running out of memory ends the program (every dump or
 * restore survives that), so callers need not check.
 */
#pragma once

#include <stddef.h>
#include <string.h>

struct arena_block;

struct arena {
        struct arena_block *blocks;
        char *next, *end;
};

/* Zeroed, aligned to 16 bytes. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_copy(struct arena *a, const void *data, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What `from` has is `a`'s from now on; `from` is empty. */
void arena_join(struct arena *a, struct arena *from);
void arena_done(struct arena *a);

/* A zeroed object, or an array of them. */
#define arena_new(a, type)          ((type *)arena_alloc((a), sizeof(type)))
#define arena_new_array(a, type, n) ((type *)arena_alloc((a), sizeof(type) * (n)))

/* A protobuf message with its defaults: arena_message(a, Img__Sa, img__sa__init). */
#define arena_message(a, type, init)              \
        ({                                        \
                type *_msg_ = arena_new(a, type); \
                init(_msg_);                      \
                _msg_;                            \
        })
