/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel/check.h"

#include <errno.h>

#include "cli/pidfile.h"
#include "cmd/cmd.h"
#include "sock/leftover.h"

int cmd_check(struct ckpt_run *run) {
        int r;

        if (run->opts->feature.n > 0 && option_given(run->opts, OPTION_tree_pid))
                return ckpt_error(&run->err, -EINVAL, "--feature and -t/--tree exclude each other");
        r = check_run(run);
        if (run->opts->feature.n == 0 && !option_given(run->opts, OPTION_tree_pid))
                sock_show_leftovers(stdout);
        if (r == 0)
                status_ready(run);
        return r;
}
