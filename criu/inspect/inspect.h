/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

#include "cli/run.h"

/*
 * Print the checkpoint in run->images_dirfd on standard output, as a tree or as JSON (opts->json).
 * Returns 0, or a negative errno with run->err filled.
 */
int inspect_run(struct ckpt_run *run);
