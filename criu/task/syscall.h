/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * System calls that the dump interrupted; for the finish stage.
 *
 * Most are simply made again: the registers say so (-ERESTARTSYS, -ERESTARTNOINTR, -ERESTARTNOHAND in rax) and the kernel
 * does it when the thread is let go, or answers EINTR if a signal handler comes first. Those with a time that
 * runs (nanosleep, clock_nanosleep, poll, futex: -ERESTART_RESTARTBLOCK) need state in the kernel that only
 * the call itself makes. So the thread, still in the agent, makes the call again with what is left of its time,
 * the seize of the finish stage interrupts it there, and it gets its own registers with that result:
 *
 *   for each thread: if (syscall_must_reissue(t)) syscall_start(t)   returns once it waits in the call
 *   for each thread: compel_seize(&t->stop), compel_wait_stop(&t->stop)
 *   for each thread: regs_restore_thread(t)                          looks at t->stop.regs and the lane
 *
 * Nothing may be added to a lane after syscall_start(), and compel_wait() is not called for it.
 */
#pragma once

#include <sys/user.h>

#include "compel/compel.h"
#include "restore/model.h"

bool syscall_must_reissue(const struct restore_thread *t);

/* Have the thread make its call and wait until it sleeps in it or has finished. */
int syscall_start(struct restore_thread *t, struct ckpt_error *err);

/* Put what is to become of the interrupted call into the registers of the image. For regs_restore_thread(). */
void syscall_apply(const struct restore_thread *t, struct user_regs_struct *regs);
