/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Thousands of plain files, or connections, on restore: looking at paths and opening them, spread over threads. What
 * goes wrong is left to the one who goes through the files in order and knows how to say it. Without a pool nothing
 * is done ahead.
 */
#pragma once

#include "fd/kind.h"

/*
 * Compare a file, whose message lives on, with what is there now (reg_check_path()): at the latest in ahead_checked(), which
 * has to be called, and earlier by another thread while the main thread goes on reading images.
 */
void ahead_check(struct restore *r, const Img__RegFile *reg);
void ahead_checked(struct restore *r);

/*
 * Open those of `files[order[i]]`, i < n, that are plain files, or of a kind with ahead(), and not open yet; they are
 * noted as opened_ahead.
 */
void ahead_open(struct restore *r, struct restore_file **files, const uint32_t *order, size_t n);
