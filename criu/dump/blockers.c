/* SPDX-License-Identifier: GPL-2.0-only */
#include "dump/blockers.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "macro.h"
#include "vec.h"

struct blocker {
        char *message, *hint;
};

DEFINE_VEC(blocker_vec, struct blocker);

struct blockers {
        pthread_mutex_t lock; /* blocker_add() */
        struct blocker_vec list;
};

struct blockers *blockers_new(void) {
        struct blockers *b = calloc(1, sizeof(*b));

        ckpt_assert(b);
        pthread_mutex_init(&b->lock, NULL);
        return b;
}

void blockers_free(struct blockers **blockers) {
        struct blockers *b = *blockers;

        if (!b)
                return;
        for (size_t i = 0; i < b->list.n; i++) {
                free(b->list.v[i].message);
                free(b->list.v[i].hint);
        }
        blocker_vec_done(&b->list);
        pthread_mutex_destroy(&b->lock);
        free(b);
        *blockers = NULL;
}

static bool known(const struct blockers *b, const char *message) {
        for (size_t i = 0; i < b->list.n; i++)
                if (strcmp(b->list.v[i].message, message) == 0)
                        return true;
        return false;
}

static void add_locked(struct blockers *b, char *message, const char *hint) {
        struct blocker *blocker;

        if (known(b, message)) {
                free(message);
                return;
        }
        blocker = blocker_vec_add(&b->list);
        ckpt_assert(blocker);
        blocker->message = message;
        blocker->hint = hint ? strdup(hint) : NULL;
}

void blocker_add(struct blockers *b, const char *hint, const char *fmt, ...) {
        char *message;
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vasprintf(&message, fmt, ap);
        va_end(ap);
        ckpt_assert(n >= 0);
        /* Names in it are the target's choice, and a terminal obeys some of them. */
        for (char *p = message; *p; p++)
                if ((unsigned char)*p < ' ' || *p == 0x7f)
                        *p = '?';
        pthread_mutex_lock(&b->lock);
        add_locked(b, message, hint);
        pthread_mutex_unlock(&b->lock);
}

size_t blockers_count(struct blockers *b) {
        size_t n;

        pthread_mutex_lock(&b->lock);
        n = b->list.n;
        pthread_mutex_unlock(&b->lock);
        return n;
}

const char *blocker_message(const struct blockers *b, size_t i, const char **ret_hint) {
        ckpt_assert(i < b->list.n);
        *ret_hint = b->list.v[i].hint;
        return b->list.v[i].message;
}

static bool hint_seen_before(const struct blockers *b, size_t i) {
        for (size_t j = 0; j < i; j++)
                if (b->list.v[j].hint && strcmp(b->list.v[j].hint, b->list.v[i].hint) == 0)
                        return true;
        return false;
}

int blockers_to_error(const struct blockers *b, const char *state, struct ckpt_error *err) {
        _cleanup_free_ char *messages = NULL, *hints = NULL;
        size_t messages_len, hints_len;
        FILE *m, *h;

        if (b->list.n == 0)
                return 0;
        m = open_memstream(&messages, &messages_len);
        h = open_memstream(&hints, &hints_len);
        ckpt_assert(m && h);
        for (size_t i = 0; i < b->list.n; i++) {
                fprintf(m, "%s%s", i > 0 ? "\n" : "", b->list.v[i].message);
                if (b->list.v[i].hint && !hint_seen_before(b, i))
                        fprintf(h, "%s%s", ftell(h) > 0 ? "\n" : "", b->list.v[i].hint);
        }
        fclose(m);
        fclose(h);
        ckpt_error(err, -ENOTSUP, "%s\n%s", messages, state);
        if (hints_len > 0)
                ckpt_error_hint(err, "%s", hints);
        return -ENOTSUP;
}

int blockers_to_retry(const struct blockers *b, struct ckpt_error *err) {
        if (blockers_to_error(b, "the tree runs on as before", err) == 0)
                return 0;
        err->code = -EAGAIN;
        return -EAGAIN;
}
