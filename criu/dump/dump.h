/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

#include "cli/run.h"
#include "dump/blockers.h"

/*
 * Checkpoint the tree opts->tree_pid into run->images_dirfd and kill it, or leave it as
 * opts->leave_running and opts->leave_stopped say. Returns 0, or a negative errno with run->err
 * filled; then the tree runs on as before and the directory is as it was.
 */
int dump_run(struct ckpt_run *run);

/*
 * The look stage alone: what stands against dumping the tree of `root`. Nothing is stopped. *ret is the caller's
 * (blockers_free()), and empty if the tree can be dumped. An error means that it could not be looked at.
 */
int dump_look(struct ckpt_run *run, pid_t root, struct blockers **ret);
