/* SPDX-License-Identifier: GPL-2.0-only */
/* Releasing resources by scope, as systemd does it. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Close and return -EBADF, for `fd = safe_close(fd)`. Keeps errno. */
static inline int safe_close(int fd) {
        if (fd >= 0) {
                int saved = errno;

                close(fd);
                errno = saved;
        }
        return -EBADF;
}

static inline void cleanup_close(int *fd) {
        *fd = safe_close(*fd);
}
static inline void cleanup_free(void *p) {
        free(*(void **)p);
}
static inline void cleanup_fclose(FILE **f) {
        if (*f)
                fclose(*f);
}
static inline void cleanup_closedir(DIR **d) {
        if (*d)
                closedir(*d);
}

#define _cleanup_close_    _cleanup_(cleanup_close)
#define _cleanup_free_     _cleanup_(cleanup_free)
#define _cleanup_fclose_   _cleanup_(cleanup_fclose)
#define _cleanup_closedir_ _cleanup_(cleanup_closedir)

/* Hand a resource over: yields the value and leaves the "nothing" value behind. */
#define TAKE_PTR(p)                          \
        ({                                   \
                __typeof__(p) _taken_ = (p); \
                (p) = NULL;                  \
                _taken_;                     \
        })
#define TAKE_FD(fd)              \
        ({                       \
                int _fd_ = (fd); \
                (fd) = -EBADF;   \
                _fd_;            \
        })
