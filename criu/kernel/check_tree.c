/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <stdio.h>

#include "cleanup.h"
#include "dump/dump.h"
#include "kernel/check.h"

int check_tree(struct ckpt_run *run, pid_t pid) {
        _cleanup_(blockers_free) struct blockers *blockers = NULL;
        size_t n;
        int r;

        r = dump_look(run, pid, &blockers);
        if (r < 0)
                return r;
        n = blockers_count(blockers);
        for (size_t i = 0; i < n; i++) {
                const char *hint, *message = blocker_message(blockers, i, &hint);

                printf("%s%s%s\n", message, hint ? ". " : "", hint ? hint : "");
        }
        if (n > 0)
                return ckpt_error(&run->err, -ENOTSUP,
                                  "the tree of pid %d cannot be dumped: %zu %s against it", pid, n,
                                  n == 1 ? "thing stands" : "things stand");
        printf("The tree of pid %d can be dumped.\n", pid);
        return 0;
}
