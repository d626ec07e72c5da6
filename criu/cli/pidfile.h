/* SPDX-License-Identifier: GPL-2.0-only */
/* What others wait for: --pidfile and --status-fd. */
#pragma once

#include "cli/run.h"

/*
 * --pidfile: create the file (it must not exist; relative to the work directory) with `pid` and
 * a newline in it, complete from the moment it has its name. To be called before the commit, so
 * that a failure can still be undone. Does nothing without the option or when it was written
 * already. Returns 0 or a negative errno, -EEXIST when the file exists.
 */
int pidfile_write(struct ckpt_run *run, pid_t pid, struct ckpt_error *err);

/* Would pidfile_write() fail because the file exists? For an early refusal. */
int pidfile_check(const struct ckpt_run *run, struct ckpt_error *err);

/* The operation failed after all: remove the file if pidfile_write() made it. */
void pidfile_undo(struct ckpt_run *run);

/* --status-fd: is the descriptor open, before anything starts? 0 or -EBADF. */
int status_check(const struct ckpt_run *run, struct ckpt_error *err);

/* --status-fd: write one zero byte, once. Nobody can undo the operation any more: a failure is
 * only logged. */
void status_ready(struct ckpt_run *run);
