/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

#include "cli/run.h"

/*
 * Restore the checkpoint in run->images_dirfd. Writes the pid file (cli/pidfile.h) before its
 * commit and leaves run->root_pid, a child of the calling process unless opts->restore_sibling.
 * Returns 0 when the tree runs, or a negative errno with run->err filled; then no process is left.
 */
int restore_run(struct ckpt_run *run);
