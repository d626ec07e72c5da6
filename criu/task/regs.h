/* SPDX-License-Identifier: GPL-2.0-only */
/* Registers of a restored thread; for the finish stage. */
#pragma once

#include "restore/model.h"

/*
 * Give a thread the registers (general, extended) and the signal mask of its image. It stands in a ptrace stop of the
 * calling thread (t->stop, as compel_wait_stop() left it) from which the kernel restarts interrupted
 * system calls, and nothing but release may follow: from here on it is the restored thread.
 */
int regs_restore_thread(struct restore_thread *t, struct ckpt_error *err);
