/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The commands. Each checks its combination of options and calls the function that does the
 * work. Returns the exit status (0 or more), or a negative errno with run->err filled.
 */
#pragma once

#include "cli/run.h"

int cmd_dump(struct ckpt_run *run);
int cmd_restore(struct ckpt_run *run);
int cmd_check(struct ckpt_run *run);
int cmd_inspect(struct ckpt_run *run);
