/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fault points for tests: named moments of a dump or restore at which the environment can make
 * ckpt die, fail or wait, so that a test can look at what is left behind.
 *
 *   CKPT_FAULT="NAME[:N]=ACTION[,NAME[:N]=ACTION...]"
 *
 * NAME is one of faults.def, N the passage at which it acts (from 1, the default; * for every one), ACTION one of
 *   kill    SIGKILL to the process that passes the point
 *   fail    the point returns -EIO
 *   enospc  the point returns -ENOSPC
 *   again   the point returns -EAGAIN: what a dump meets that the next attempt may not
 *   stop    the passing thread waits until its process is killed
 *   pause   SIGSTOP to the passing process; it goes on at SIGCONT
 * kill, stop and pause first write "ckpt: fault point NAME: pid P ACTION" to stderr, in one
 * write(2), so that a test knows when the moment has come. CKPT_FAULT=list makes main() print
 * all names and exit.
 *
 * The parsed table is file-level state of fault.c, set once by main() before any thread or
 * process is started and only read afterwards, as the log sink is; the passages are counted
 * atomically. A process forked later counts on from its parent's number, by itself.
 */
#pragma once

#include <stdio.h>

#include "error.h"

enum fault {
#define FAULT(id, name, when) FAULT_##id,
#include "lib/faults.def"
#undef FAULT
        FAULT_MAX,
        FAULT_INVALID = -1,
};

/*
 * Take the value of CKPT_FAULT (NULL or "": no faults). The caller passes what secure_getenv(3)
 * gave. Returns 0, 1 when the names are asked for (call fault_list() and exit), or -EINVAL with
 * *err filled for a value that cannot be understood; then no fault is set.
 */
int fault_init(const char *env, struct ckpt_error *err);

/* Print each name and its moment to `f`, a line each, the name first, separated by a tab. */
void fault_list(FILE *f);

/*
 * Pass a fault point. Returns 0 unless a fault set for this passage says otherwise: -EIO or
 * -ENOSPC, which the caller handles as if the step at hand had failed so. Costs one load when no
 * fault is set. Callable from any thread.
 */
int fault_point(enum fault fault);

/* As fault_point(), and record in *err that it was this fault point that failed. */
int fault_point_error(enum fault fault, struct ckpt_error *err);

/* The name as in faults.def. `fault` must be valid. */
const char *fault_name(enum fault fault);
