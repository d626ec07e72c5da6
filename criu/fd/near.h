/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Paths one after the other mostly lead into one directory. It is walked to once: from the second path on, the last name is
 * looked up from there. For the caller it makes no difference.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

struct near_dir {
        const char *path; /* of the file before; lives on */
        size_t len;       /* of the directory in it, with the slash */
        bool tried;
        int fd; /* O_PATH; -EBADF: it is not open */
};

#define NEAR_DIR_INIT \
        { .fd = -EBADF }

/*
 * The directory descriptor and the path that lead where the absolute `path` does, which has to live for as long as *d; d may be
 * NULL. *ret is in `path`. The descriptor stays valid until the next call.
 */
int near_dir_find(struct near_dir *d, const char *path, const char **ret);

void near_dir_done(struct near_dir *d);
