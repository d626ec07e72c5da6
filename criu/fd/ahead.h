/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Thousands of plain files, or connections, on restore: looking at paths and opening them, spread over threads. What
 * goes wrong is left to the one who goes through the files in order and knows how to say it. Without a pool nothing
 * is done ahead.
 */
#pragma once

#include "fd/kind.h"

/* Compare the files that wait for it (path_waits) with what is there now: reg_check_path(). */
void ahead_check(struct restore *r);

/*
 * Open those of `files[order[i]]`, i < n, that are plain files, or of a kind with ahead(), and not open yet; they are
 * noted as opened_ahead.
 */
void ahead_open(struct restore *r, struct restore_file **files, const uint32_t *order, size_t n);
