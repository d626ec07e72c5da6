/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/user.h> /* PAGE_SIZE, PAGE_SHIFT */

#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))

#define MIN(a, b)                                      \
        ({                                             \
                __typeof__(a) _min_a_ = (a);           \
                __typeof__(b) _min_b_ = (b);           \
                _min_a_ < _min_b_ ? _min_a_ : _min_b_; \
        })
#define MAX(a, b)                                      \
        ({                                             \
                __typeof__(a) _max_a_ = (a);           \
                __typeof__(b) _max_b_ = (b);           \
                _max_a_ > _max_b_ ? _max_a_ : _max_b_; \
        })

static inline uint64_t page_align_up(uint64_t v) {
        return (v + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
}

/* Stays on in release builds: a broken invariant must not go on to touch a task. */
#define ckpt_assert(cond)                                                                                  \
        do {                                                                                               \
                if (__builtin_expect(!(cond), 0)) {                                                        \
                        fprintf(stderr, "ckpt: %s:%d: broken invariant: %s\n", __FILE__, __LINE__, #cond); \
                        abort();                                                                           \
                }                                                                                          \
        } while (0)
