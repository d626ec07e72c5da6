/* SPDX-License-Identifier: GPL-2.0-only */
#include "fd/near.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "cleanup.h"

static int open_dir(const char *path, size_t len) {
        char name[PATH_MAX];

        if (len >= sizeof(name))
                return -EBADF;
        memcpy(name, path, len);
        name[len] = '\0';
        return open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int near_dir_find(struct near_dir *d, const char *path, const char **ret) {
        const char *slash = strrchr(path, '/');
        size_t len = slash ? (size_t)(slash - path) + 1 : 0;

        *ret = path;
        if (!d || len <= 1 || slash[1] == '\0')
                return AT_FDCWD;
        if (d->len != len || memcmp(d->path, path, len) != 0) {
                safe_close(d->fd);
                *d = (struct near_dir){ .path = path, .len = len, .fd = -EBADF };
                return AT_FDCWD;
        }
        if (!d->tried) {
                d->fd = open_dir(path, len);
                d->tried = true;
        }
        if (d->fd < 0) /* the whole path will say why */
                return AT_FDCWD;
        *ret = slash + 1;
        return d->fd;
}

void near_dir_done(struct near_dir *d) {
        d->fd = safe_close(d->fd);
}
