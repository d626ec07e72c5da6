/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of compel share among themselves. */
#pragma once

#include <linux/futex.h>

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
 * A guard: a robust futex in shared memory. While the thread that took it lives, its word holds the tid;
 * when it dies, the kernel sets FUTEX_OWNER_DIED and wakes a waiter
 * (Documentation/locking/robust-futex-ABI.rst). The kernel finds the word at a fixed distance from the
 * node of a list. The node is private: whoever can write to it can write anywhere in ckpt.
 */
struct compel_guard {
        struct robust_list *node; /* NULL: not taken */
        struct robust_list_head *head;
        uint32_t *word;
};

/*
 * Take a guard around `boundary`, a page boundary with a shared page before and a private one after
 * it, which stays until the guard is dropped. The last 8 bytes of the shared page and the start of
 * the private one become the guard's. The calling thread must own no robust mutex of the C library,
 * and can own some two thousand guards (ROBUST_LIST_LIMIT); it is the one to drop it, which looks to
 * the others as if it had died.
 */
int compel_guard_take(struct compel_guard *guard, void *boundary);
void compel_guard_drop(struct compel_guard *guard);

/*
 * FUTEX_WAIT on a shared word for at most `timeout_us`; FUTEX_WAKE. Errors are of no interest: callers
 * check words.
 */
void compel_futex_wait(uint32_t *word, uint32_t value, unsigned int timeout_us);
void compel_futex_wake(uint32_t *word);

/*
 * Spin, then sleep, until the lane's agent has answered `command`. -ESRCH when `alive` says no. `yield`: others want
 * the CPUs, so give way rather than spin.
 */
int compel_await(struct compel_lane *lane, uint32_t command, bool yield, bool (*alive)(void *), void *arg);

/* Is there a thread `tid`, and is it not a zombie? */
bool compel_tid_alive(pid_t tid);

/* ... and does no tracer hold it? One of ours that stopped by itself has got a signal that would have killed it. */
bool compel_tid_works(pid_t tid);

/* Resume a thread in a ptrace stop with a signal, 0: none. */
int compel_cont(struct compel_thread *t, int sig);

/* What it reports next, as of waitpid(2). -ESRCH: it died; -ETIMEDOUT: nothing, it runs on, traced. */
int compel_next_report(struct compel_thread *t, unsigned int timeout_ms, int *ret_status);

/* Resume a thread in a ptrace stop; it runs freely. */
int compel_resume(struct compel_thread *t);

/*
 * Wait for the event stop that compel_interrupt_later() has asked for, in which the kernel has still to look at
 * interrupted calls. As of the two functions below, errors: -ESRCH it died, -EFAULT it stopped for a fault,
 * -ETIMEDOUT it runs on, traced.
 */
int compel_await_stop(struct compel_thread *t);

/*
 * From any ptrace stop to an event stop without letting it run any code of its own. At the entry of
 * a system call, that is carried out first, as if a signal were pending: one that sleeps does not.
 */
int compel_park(struct compel_thread *t);

/* Resume until the entry or the exit of a system call. */
int compel_to_syscall_stop(struct compel_thread *t);

/* Resume it on its way there; compel_remote_enter() and compel_remote_end() take it on. */
int compel_to_syscall_later(struct compel_thread *t);

int compel_get_regs(const struct compel_thread *t, struct user_regs_struct *ret);

/*
 * A thread that should be running reports something. SIGSTOP, which cannot be blocked, is delivered,
 * so that the kernel keeps account of it, and the thread goes on nevertheless: ptrace allows that.
 * Errors as above.
 */
int compel_go_on(struct compel_thread *t);

/* Is a thread that was resumed neither dead nor stopped again? */
bool compel_is_running(const struct compel_thread *t);

/*
 * Let others run, as long as that takes hardly any time. false: somebody else has had the CPU for long. Whoever waits had
 * better sleep from now on: it is woken at once, but who yields comes behind all that compute, by some ms each time.
 */
bool compel_yield(void);

/* A value of the auxiliary vector of a process (/proc/PID/auxv), 0 if it has none of this type. */
uint64_t compel_read_auxv(pid_t pid, uint64_t type);
