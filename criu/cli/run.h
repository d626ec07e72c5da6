/* SPDX-License-Identifier: GPL-2.0-only */
/* One run of a command: what main() prepares and every stage gets. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "cli/options.h"
#include "cli/progress.h"
#include "error.h"

struct ckpt_run {
        const struct ckpt_options *opts;
        const char *images_dir; /* absolute path of images_dirfd, for messages and action scripts */
        int images_dirfd;       /* -EBADF only where a command works without images */
        int work_dirfd;         /* for the log, the pid file, the statistics */
        bool log_on_stderr;     /* no --log-file: log lines and progress share the terminal */

        struct ckpt_error err;    /* why the command failed; main() prints it once */
        struct progress progress; /* dump and restore: bytes of memory */

        bool pidfile_written, status_sent; /* see cli/pidfile.h */

        /* Set by restore_run(): the root task as ckpt sees it, a child of the calling process
         * unless --restore-sibling was given. */
        pid_t root_pid;
};
