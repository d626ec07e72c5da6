/* SPDX-License-Identifier: GPL-2.0-only */
/* Has a process done anything between the look and the freeze? */
#pragma once

#include "dump/model.h"

/*
 * Frozen, and the status of the threads has been read since, before any visit: does every thread stand in the system call in
 * which it stood when it was looked at (t->calls), and has not left it? What was read after t->calls still holds. false
 * where it is not known, as of processes with very many threads.
 */
bool task_stood_still(const struct dump_task *t);
