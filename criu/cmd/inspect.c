/* SPDX-License-Identifier: GPL-2.0-only */
#include "inspect/inspect.h"

#include "cli/pidfile.h"
#include "cmd/cmd.h"

int cmd_inspect(struct ckpt_run *run) {
        int r;

        r = inspect_run(run);
        if (r == 0)
                status_ready(run);
        return r;
}
