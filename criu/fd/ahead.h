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

enum { AHEAD_OPEN_MAX = 1024 };

/* files[from] to files[to - 1] are to be taken now. */
typedef int (*ahead_take)(void *ctx, size_t from, size_t to, struct ckpt_error *err);

/*
 * Have files[0 .. n) taken, in order and by the calling thread, which may be there several times; n <= AHEAD_OPEN_MAX. Meanwhile
 * those that are of a kind with ahead(), and not open yet, are opened in several threads, as long as there are many; they are
 * noted as opened_ahead. Returns what the first call that failed has.
 */
int ahead_open(struct restore *r, struct restore_file *const *files, size_t n, ahead_take take, void *ctx,
               struct ckpt_error *err);
