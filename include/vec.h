/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Growing arrays. DEFINE_VEC(pid_vec, pid_t) makes `struct pid_vec { pid_t *v; size_t n,
 * cap; }` with
 *   pid_vec_push(&vec, value)   0 or -ENOMEM
 *   pid_vec_add(&vec)           pointer to a new zeroed element, or NULL (invalidates
 *                               earlier element pointers)
 *   pid_vec_done(&vec)          free; also as _cleanup_(pid_vec_done)
 * An all-zero struct is an empty vector.
 */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFINE_VEC(name, type)                                                                \
        struct name {                                                                         \
                type *v;                                                                      \
                size_t n, cap;                                                                \
        };                                                                                    \
        __attribute__((unused)) static inline type *name##_add(struct name *vec) {            \
                if (vec->n == vec->cap) {                                                     \
                        size_t cap = vec->cap ? vec->cap * 2 : 16;                            \
                        type *v = reallocarray(vec->v, cap, sizeof(type));                    \
                                                                                              \
                        if (!v)                                                               \
                                return NULL;                                                  \
                        vec->v = v;                                                           \
                        vec->cap = cap;                                                       \
                }                                                                             \
                memset(&vec->v[vec->n], 0, sizeof(type));                                     \
                return &vec->v[vec->n++];                                                     \
        }                                                                                     \
        __attribute__((unused)) static inline int name##_push(struct name *vec, type value) { \
                type *p = name##_add(vec);                                                    \
                                                                                              \
                if (!p)                                                                       \
                        return -ENOMEM;                                                       \
                *p = value;                                                                   \
                return 0;                                                                     \
        }                                                                                     \
        __attribute__((unused)) static inline void name##_done(struct name *vec) {            \
                free(vec->v);                                                                 \
                *vec = (struct name){ 0 };                                                    \
        }                                                                                     \
        struct name

DEFINE_VEC(pid_vec, pid_t);
