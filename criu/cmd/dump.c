/* SPDX-License-Identifier: GPL-2.0-only */
#include "dump/dump.h"

#include <errno.h>

#include "cli/interrupt.h"
#include "cli/pidfile.h"
#include "cmd/cmd.h"
#include "log.h"

static int check_options(struct ckpt_run *run) {
        const struct ckpt_options *opts = run->opts;

        if (!option_given(opts, OPTION_tree_pid)) {
                ckpt_error(&run->err, -EINVAL, "dump needs the root of a process tree");
                return ckpt_error_hint(&run->err, "Name its pid with -t/--tree");
        }
        if (opts->leave_running && opts->leave_stopped)
                return ckpt_error(&run->err, -EINVAL,
                                  "-R/--leave-running and -s/--leave-stopped exclude each other");
        return pidfile_check(run, &run->err);
}

int cmd_dump(struct ckpt_run *run) {
        int r;

        r = check_options(run);
        if (r < 0)
                return r;
        /* The pid is known and the tree not yet touched: the last chance to fail for this. */
        r = pidfile_write(run, run->opts->tree_pid, &run->err);
        if (r < 0)
                return r;

        interrupt_says_tree_runs_on();
        progress_start(&run->progress, "dumping", !run->log_on_stderr || !log_enabled(LOG_LEVEL_INFO));
        r = dump_run(run);
        progress_stop(&run->progress);
        if (r < 0) {
                pidfile_undo(run);
                return r;
        }
        status_ready(run);
        return 0;
}
