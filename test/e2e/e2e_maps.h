/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

/* A picture of the whole address space as /proc/self/smaps shows it, to be compared with a later one. */
#include "e2e.h"

struct area {
        uint64_t start, end, off;
        char perms[8], path[128], flags[96];
};

struct maps {
        size_t n;
        struct area a[512];
};

/* Neither soft-dirty (whatever reads it resets it) nor the accounting flag, which depends on the way that a
 * mapping got its protection, belongs to what a program can see of itself. */
static inline void add_flags(struct area *a, const char *line) {
        char flags[128], *save = NULL;

        if (sscanf(line, "VmFlags: %127[^\n]", flags) != 1)
                return;
        for (char *f = strtok_r(flags, " ", &save); f; f = strtok_r(NULL, " ", &save)) {
                size_t len = strlen(a->flags);

                if (strcmp(f, "sd") != 0 && strcmp(f, "ac") != 0)
                        snprintf(a->flags + len, sizeof(a->flags) - len, "%s ", f);
        }
}

/* Anonymous neighbours of one kind are one area: whether the kernel merged them is no state. */
static inline void merge_last(struct maps *m) {
        struct area *b = &m->a[m->n - 1], *a = b - 1;

        if (m->n >= 2 && a->end == b->start && strcmp(a->perms, b->perms) == 0 && b->path[0] == 0 &&
            a->path[0] == 0 && strcmp(a->flags, b->flags) == 0) {
                a->end = b->end;
                m->n--;
        }
}

static inline void maps_read(struct maps *m) {
        /* Not the heap: reading must not change what is read. */
        static char buf[1 << 20];
        void *volatile first = malloc(16); /* now, so that a later user of the heap changes nothing */
        char *save = NULL;

        free(first);
        CHECK(read_file("/proc/self/smaps", buf, sizeof(buf)) > 0, "read smaps: %m");
        CHECK(strlen(buf) < sizeof(buf) - 1, "smaps is too long for this test");
        m->n = 0;
        for (char *line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                struct area a = { 0 };
                char path[256] = "";

                if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %255[^\n]", &a.start,
                           &a.end, a.perms, &a.off, path) >= 4) {
                        CHECK(m->n < ELEMENTS(m->a), "too many areas for this test");
                        /* By chance, one in 8192, the heap begins right behind the data, and may become one with them. */
                        if (strcmp(path, "[heap]") != 0)
                                snprintf(a.path, sizeof(a.path), "%s", path);
                        if (m->n > 0)
                                merge_last(m);
                        m->a[m->n++] = a;
                } else if (m->n > 0) {
                        add_flags(&m->a[m->n - 1], line);
                }
        }
        merge_last(m);
}

static inline void maps_check_same(const struct maps *was) {
        static struct maps now;

        maps_read(&now);
        for (size_t i = 0; i < was->n && i < now.n; i++) {
                const struct area *a = &was->a[i], *b = &now.a[i];

                CHECK(a->start == b->start && a->end == b->end && a->off == b->off &&
                              strcmp(a->perms, b->perms) == 0 && strcmp(a->path, b->path) == 0 &&
                              strcmp(a->flags, b->flags) == 0,
                      "area %zu was %" PRIx64 "-%" PRIx64 " %s %" PRIx64 " '%s' %s, is now %" PRIx64
                      "-%" PRIx64 " %s %" PRIx64 " '%s' %s",
                      i, a->start, a->end, a->perms, a->off, a->path, a->flags, b->start, b->end, b->perms,
                      b->off, b->path, b->flags);
        }
        CHECK(was->n == now.n, "%zu areas became %zu", was->n, now.n);
}
