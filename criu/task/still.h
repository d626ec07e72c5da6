/* SPDX-License-Identifier: GPL-2.0-only */
/* Has a process done anything between the look and the freeze? */
#pragma once

#include "dump/model.h"

/*
 * Frozen: does every thread stand in the system call in which it stood when it was looked at, with the same arguments, so
 * that what was read after that (t->calls) still holds? false where it is not known, as of processes with very many
 * threads.
 */
bool task_stood_still(const struct dump_task *t);
