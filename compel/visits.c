/* SPDX-License-Identifier: GPL-2.0-only */
/* What the visits of one thread of ckpt, side by side, have in common. */
#include "compel/visits.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "compel/internal.h"
#include "macro.h"

/*
 * Removing a mapping interrupts the other CPUs on which ckpt runs. So the mappings of several visits stand next to each
 * other, and go together when the last of these visits has ended.
 */
enum { WINDOWS = 16 };

struct compel_visits {
        pthread_mutex_t *starting;
        char *base;         /* WINDOWS times `window` bytes; NULL: nothing */
        size_t window;      /* a mapping and the page behind it */
        unsigned int taken; /* since it was made */
        unsigned int open;  /* of these, mapped now */
};

int compel_visits_new(pthread_mutex_t *starting, struct compel_visits **ret) {
        struct compel_visits *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        s->starting = starting;
        *ret = s;
        return 0;
}

static void forget(struct compel_visits *s) {
        if (s->base)
                munmap(s->base, WINDOWS * s->window);
        s->base = NULL;
        s->taken = 0;
}

void compel_visits_free(struct compel_visits **visits) {
        struct compel_visits *s = *visits;

        if (!s)
                return;
        ckpt_assert(s->open == 0);
        forget(s);
        free(s);
        *visits = NULL;
}

void compel_visits_lock(struct compel_visits *s) {
        if (s && s->starting)
                pthread_mutex_lock(s->starting);
}

void compel_visits_unlock(struct compel_visits *s) {
        if (s && s->starting)
                pthread_mutex_unlock(s->starting);
}

static char *reserve(size_t size) {
        void *p =
                mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        return p == MAP_FAILED ? NULL : p;
}

/* NULL: there is none left, or none of this size. */
static char *take_window(struct compel_visits *s, size_t size) {
        if (!s->base) {
                s->window = size + PAGE_SIZE;
                s->base = reserve(WINDOWS * s->window);
        }
        if (!s->base || s->taken == WINDOWS || s->window != size + PAGE_SIZE)
                return NULL;
        s->open++;
        return s->base + s->taken++ * s->window;
}

static bool is_window(const struct compel_visits *s, const char *p) {
        return s && s->base && p >= s->base && p < s->base + WINDOWS * s->window;
}

int compel_visits_map(struct compel_visits *s, int fd, size_t size, char **ret) {
        char *p = s ? take_window(s, size) : NULL;

        if (!p)
                p = reserve(size + PAGE_SIZE);
        if (!p)
                return -ENOMEM;
        *ret = p;
        if (mmap(p, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
                return -errno;
        return 0;
}

void compel_visits_unmap(struct compel_visits *s, char *p, size_t size) {
        if (!is_window(s, p))
                munmap(p, size + PAGE_SIZE);
        else if (--s->open == 0)
                forget(s);
}
