/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of compel share among themselves. */
#pragma once

#include <pthread.h>

#include "compel/compel.h"

/* blob.S: the linked agent. */
extern const char compel_blob[], compel_blob_end[];

static inline size_t compel_blob_size(void) {
        return (size_t)(compel_blob_end - compel_blob);
}

/* Lay a batch out over a lane of `size` bytes, mapped at `local` here and at `remote` there. */
void compel_batch_init(struct compel_batch *b, void *local, raddr_t remote, size_t size);

/* Address in the task of something inside the lane. */
raddr_t compel_remote(const struct compel_batch *b, const void *local);

/* What came of a batch that has been carried out. */
int compel_batch_result(const struct compel_batch *b, struct ckpt_error *err);

/*
 * A guard: a robust futex in shared memory. While the thread that took it lives, its word holds
 * the tid; when it dies, the kernel sets FUTEX_OWNER_DIED and wakes a waiter
 * (Documentation/locking/robust-futex-ABI.rst). Taken and dropped by the same thread.
 */
int compel_guard_take(pthread_mutex_t *guard);
void compel_guard_drop(pthread_mutex_t *guard);

/* FUTEX_WAIT on a shared word for at most `timeout_us`; FUTEX_WAKE. Errors are of no interest: callers check words. */
void compel_futex_wait(uint32_t *word, uint32_t value, unsigned int timeout_us);
void compel_futex_wake(uint32_t *word);

/* Spin, then sleep, until the lane's agent has answered `command`. -ESRCH when `alive` says no. */
int compel_await(struct compel_lane *lane, uint32_t command, bool (*alive)(void *), void *arg);

/* Resume a thread in a ptrace stop; it runs freely. */
int compel_resume(struct compel_thread *t);

/* Stop a running thread with an event stop, in which the kernel has still to look at interrupted calls. */
int compel_interrupt(struct compel_thread *t);

/* From any ptrace stop to an event stop without letting it run any code of its own. */
int compel_park(struct compel_thread *t);

/* Resume until the entry or the exit of a system call. */
int compel_to_syscall_stop(struct compel_thread *t);

int compel_get_regs(const struct compel_thread *t, struct user_regs_struct *ret);

/*
 * A thread that should be running reports something. A SIGSTOP, which cannot be blocked, is kept for later
 * and the thread goes on; anything else is an error: -ESRCH it died, -EFAULT it faulted.
 */
int compel_hold_stop_signal(struct compel_thread *t);

/* Is a thread that was resumed neither dead nor stopped again? */
bool compel_is_running(const struct compel_thread *t);
