/* SPDX-License-Identifier: GPL-2.0-only */
#include "lib/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "macro.h"

struct arena_block {
        struct arena_block *next;
        uint64_t align;
        char data[];
};

enum { ALIGN = 16, BLOCK_SIZE = 16 * 1024 - sizeof(struct arena_block) };

void *arena_alloc(struct arena *a, size_t size) {
        void *p;

        ckpt_assert(size < SIZE_MAX / 2);
        size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
        if (size > (size_t)(a->end - a->next)) {
                size_t room = MAX(size, (size_t)BLOCK_SIZE);
                struct arena_block *block = calloc(1, sizeof(*block) + room);

                ckpt_assert(block);
                block->next = a->blocks;
                a->blocks = block;
                a->next = block->data;
                a->end = block->data + room;
        }
        p = a->next;
        a->next += size;
        return p;
}

void *arena_copy(struct arena *a, const void *data, size_t size) {
        void *p = arena_alloc(a, size);

        if (size > 0)
                memcpy(p, data, size);
        return p;
}

char *arena_strdup(struct arena *a, const char *s) {
        return arena_copy(a, s, strlen(s) + 1);
}

char *arena_printf(struct arena *a, const char *fmt, ...) {
        va_list ap;
        char *p;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(NULL, 0, fmt, ap);
        va_end(ap);
        ckpt_assert(n >= 0);
        p = arena_alloc(a, (size_t)n + 1);
        va_start(ap, fmt);
        vsnprintf(p, (size_t)n + 1, fmt, ap);
        va_end(ap);
        return p;
}

void arena_join(struct arena *a, struct arena *from) {
        struct arena_block **last = &from->blocks;

        while (*last)
                last = &(*last)->next;
        *last = a->blocks;
        a->blocks = from->blocks;
        if (from->end - from->next > a->end - a->next) {
                a->next = from->next;
                a->end = from->end;
        }
        *from = (struct arena){ 0 };
}

void arena_done(struct arena *a) {
        while (a->blocks) {
                struct arena_block *block = a->blocks;

                a->blocks = block->next;
                free(block);
        }
        *a = (struct arena){ 0 };
}
