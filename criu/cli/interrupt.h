/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once

/*
 * Ctrl-C and its relatives (SIGINT, SIGTERM, SIGHUP, SIGQUIT) end ckpt wherever it is: that is safe, because the
 * kernel lets a dumped tree go on, and a tree being restored dies with ckpt. These add the line that says so.
 */
void interrupt_says_tree_runs_on(void);
void interrupt_says_nothing_left(void);

/* The last, short step cannot be taken back: it is not interrupted any more. */
void interrupt_not_now(void);

/* It is done. What came meanwhile is discarded; from now on a signal does what it does to any program. */
void interrupt_over(void);
