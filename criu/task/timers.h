/* SPDX-License-Identifier: GPL-2.0-only */
/* What signals and timers of task/ have to know of each other. */
#pragma once

#include <sys/time.h>

#include "dump/model.h"
#include "restore/model.h"

/*
 * The timer of this process that queued a pending signal (si_code SI_TIMER), or NULL. Such a signal comes back by the
 * timer firing again, so that it is the timer's own and counts what it stands for (timer_getoverrun(2)).
 */
const Img__PosixTimer *timer_of_signal(const struct restore_task *t, const Img__Siginfo *image);

/* Have the timer fire at once, with its next regular moment where it would have been. */
void timer_fire(const struct restore *r, const Img__PosixTimer *timer, struct compel_batch *b);

/* Is a signal of this timer among the pending ones of the process or of a thread of it? */
bool timer_is_pending(const struct restore_task *t, const Img__PosixTimer *timer);

/* Is this signal pending for the process as a whole? */
bool signal_is_pending(const struct restore_task *t, int signo);

/* Dump: add the reading of the three interval timers; the values stand in the batch. */
const struct itimerval *itimers_ask(struct compel_batch *b);
void itimers_to_image(const struct itimerval *values, struct arena *a, Img__TaskTimers *ret);
