/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

#include <sys/types.h>

#include "cli/run.h"

/*
 * `ckpt check`: say on standard output what this kernel and these capabilities allow (or whether
 * the tree opts->tree_pid can be dumped, or whether each of opts->feature is there). Returns 0
 * when all that is needed is there, or a negative errno with run->err filled: -EOPNOTSUPP when
 * something is missing, -EINVAL for a feature that ckpt has never heard of.
 */
int check_run(struct ckpt_run *run);

/*
 * `ckpt check -t PID` (check_tree.c): look at the tree of `pid` without stopping anything, and
 * print every blocker on standard output, a line each, or that it can be dumped. Returns 0 when
 * it can, or a negative errno with run->err filled.
 */
int check_tree(struct ckpt_run *run, pid_t pid);
