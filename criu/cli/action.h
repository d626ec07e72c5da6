/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * --action-script: programs of the user's that run at the stages of an operation. A script is
 * started directly (no shell), with ckpt's environment, standard descriptors and directory, and
 * finds in its environment
 *   CRTOOLS_SCRIPT_ACTION  the stage
 *   CRTOOLS_IMAGE_DIR      the absolute path of the images directory
 *   CRTOOLS_INIT_PID       the pid of the root task, where there is one already
 */
#pragma once

#include "cli/run.h"

enum action {
        ACTION_PRE_DUMP,              /* before the tree is stopped */
        ACTION_NETWORK_LOCK,          /* the tree is stopped: hold its packets back */
        ACTION_NETWORK_UNLOCK,        /* let its packets through again */
        ACTION_POST_DUMP,             /* images complete, tree still stopped, nothing killed */
        ACTION_PRE_RESTORE,           /* before anything is created */
        ACTION_SETUP_NAMESPACES,      /* the root task exists in its namespaces */
        ACTION_POST_SETUP_NAMESPACES, /* the namespaces are filled */
        ACTION_POST_RESTORE,          /* everything is there, nothing runs */
        ACTION_PRE_RESUME,            /* the last one before the tasks run */
        ACTION_POST_RESUME,           /* the tasks run */
        ACTION_MAX,
        ACTION_INVALID = -1,
};

/* "pre-dump" and so on. */
const char *action_name(enum action action);

/*
 * Run all action scripts for a stage, one after the other, and wait for them. `root_pid` is 0
 * where there is no root task yet. Returns 0, or a negative errno when a script could not be
 * started, was killed or exited with another status than 0; the scripts after it are not
 * run. After the commit (ACTION_POST_RESUME) a failure is logged as a warning and 0 returned.
 * Costs nothing without scripts. Only waits for its own children. posix_spawn(3).
 */
int action_run(const struct ckpt_run *run, enum action action, pid_t root_pid, struct ckpt_error *err);
