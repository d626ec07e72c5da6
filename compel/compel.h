/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compel: stop, drive and release tasks.
 *
 * A task is driven by the agent, a position-independent blob that carries out batches of
 * system calls found in memory it shares with ckpt (lane.h). There are two ways to use it:
 *
 *  - A visit (compel_visit_*) to somebody else's process, stopped by ptrace: the agent is
 *    mapped in, threads are sent through it, each for one batch, and everything is removed.
 *    At every moment of it, the death of ckpt, SIGKILL included, leaves a process that goes
 *    on by itself with the registers, signal mask, memory map and descriptors it had.
 *  - A host (compel_host_*) for processes that ckpt makes: they are born in the agent, carry
 *    out batch after batch and die with ckpt, until they are given registers of their own.
 *
 * ptrace belongs to the thread that seized: everything that takes a struct compel_thread is called from that one, but
 * for compel_wait_end(). A visit belongs to the thread that traces its driver, and other threads of ckpt may send
 * guests of their own (compel_visit_run_guest()). Batches of a host may be run by any one thread at a time.
 */
#pragma once

#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "compel/lane.h"
#include "error.h"

/* An address in another task. An integer, so that nobody dereferences it here. */
typedef uint64_t raddr_t;

/* ---- stopping ------------------------------------------------------------------------- */

/*
 * A thread stopped by ptrace and what it was doing then. Whoever stops it releases it, with
 * compel_release() or by dying: the kernel detaches what a dead tracer traced.
 */
struct compel_thread {
        pid_t tid;
        struct compel_tracer *tracer; /* who traces it; NULL: the calling thread */
        bool seized;                  /* attached by the calling thread, or by that process */
        bool stopped;                 /* in a ptrace stop now */
        bool plain;                   /* known to have neither syscall user dispatch nor a shadow stack */
        bool dies;         /* with its tracer, which may take its signals away before it resumes it */
        bool stop_pending; /* a SIGSTOP came while it was ours: released, it stops for job control */
        int stop_signal;   /* the signal of the job-control stop it is in, 0 if in none */
        uint64_t sigmask;  /* blocked signals when it was stopped, as bits signo - 1 */
        struct user_regs_struct regs; /* when it was stopped */
};

/*
 * Attach to a thread and ask it to stop (PTRACE_SEIZE, PTRACE_INTERRUPT; Linux 3.4), without
 * waiting for it, so that many can be asked before the first is waited for. `options` are
 * PTRACE_O_* in addition to PTRACE_O_TRACESYSGOOD. Errors: -ESRCH the thread is gone or a
 * zombie, -EPERM no privileges or somebody traces it already; neither fills *err.
 */
int compel_seize(struct compel_thread *t, pid_t tid, unsigned long options);

/*
 * Threads under seccomp are unfiltered while they are traced with PTRACE_O_SUSPEND_SECCOMP (Linux 4.3), and they
 * could not leave a visit by themselves once the death of their tracer ends that. So they are traced by a process of
 * ckpt that outlives it until they are out. To be freed when everything that it traces has been released; whatever it
 * still traces goes on.
 */
struct compel_tracer;
int compel_tracer_start(struct compel_tracer **ret, struct ckpt_error *err);
void compel_tracer_free(struct compel_tracer **t);

/* As the kernel tells who traces a thread. NULL: the calling thread. */
pid_t compel_tracer_pid(const struct compel_tracer *t);

/*
 * A word in memory shared with it: as long as that is not 0, it keeps what it traces stopped after the death of ckpt, 10 s
 * at most. For a process that ckpt has forked since, and that has something to put in order before the threads run. It
 * sets the word first, and only then makes sure that ckpt lives. NULL: `t` is.
 */
uint32_t *compel_tracer_hold(struct compel_tracer *t);

/* As compel_seize(), by that process; NULL: by ckpt. */
int compel_seize_by(struct compel_tracer *tracer, struct compel_thread *t, pid_t tid, unsigned long options);

/* Attach without asking it to stop. compel_interrupt_later() does that. */
int compel_attach(struct compel_thread *t, pid_t tid, unsigned long options);
int compel_interrupt_later(struct compel_thread *t);

/*
 * ptrace(2) by whoever traces `t`. `data`, of `size` bytes, is the last argument and is copied both ways. Returns
 * what ptrace does, or a negative errno.
 */
long compel_ptrace(const struct compel_thread *t, unsigned int request, uint64_t addr, void *data,
                   size_t size);

/* PTRACE_GETREGSET, PTRACE_SETREGSET. `size` in: room; out: bytes used. */
int compel_regset(const struct compel_thread *t, unsigned int request, uint64_t type, void *buf,
                  size_t *size);

/* PTRACE_PEEKSIGINFO: up to `n` siginfos from number `off` on. Returns how many, or a negative errno. */
int compel_peek_siginfo(const struct compel_thread *t, uint32_t flags, uint64_t off, siginfo_t *buf,
                        size_t n);

/* Wait for the end of a thread that has been killed, and reap it as its tracer. From any thread of ckpt. */
void compel_wait_end(struct compel_thread *t);

/*
 * Wait until a seized thread has stopped and read its registers and signal mask. Signals that
 * arrive first are delivered. `timeout_ms` bounds the wait: -ETIMEDOUT means that it is in a
 * sleep that nothing interrupts (its vfork child has not called exec yet, a disk does not
 * answer); it stays seized. -ESRCH: it has exited. Neither fills *err.
 *
 * A call that the stop alone made fail with EINTR is to be made again when the thread goes on.
 *
 * A thread in a restartable sequence (rseq(2)) is moved to the abort handler of that
 * sequence, as the kernel does with a thread that it preempts there.
 */
int compel_wait_stop(struct compel_thread *t, unsigned int timeout_ms);

/* The same for a thread that gets other registers and another signal mask anyway: what it has is not read. */
int compel_wait_stop_only(struct compel_thread *t, unsigned int timeout_ms);

/*
 * Let a thread go on from the registers that it has now. Safe to call on one that died or was never
 * seized. The leader of a process comes last: if the process was killed, it cannot be waited for
 * before its threads.
 */
void compel_release(struct compel_thread *t);

/*
 * Put a whole process, all living threads of which stand in an event stop with every signal blocked, into
 * the job-control stop of SIGSTOP without letting it run any code of its own. The threads stay
 * traced, in event stops; released, the process is stopped until SIGCONT. `timeout_ms` bounds the wait for
 * each thread: -ETIMEDOUT, it may be running. -ESRCH: it died.
 */
int compel_job_stop(pid_t pid, struct compel_thread **threads, size_t nr_threads, unsigned int timeout_ms);

/*
 * The extended processor state (PTRACE_GETREGSET, NT_X86_XSTATE): the XSAVE area in the
 * standard format. `size` in: room; out: bytes used.
 */
int compel_get_xstate(const struct compel_thread *t, void *buf, size_t *size);
int compel_set_xstate(const struct compel_thread *t, const void *buf, size_t size);
int compel_set_regs(const struct compel_thread *t, const struct user_regs_struct *regs);
int compel_set_sigmask(const struct compel_thread *t, uint64_t sigmask);
int compel_get_sigmask(const struct compel_thread *t, uint64_t *ret);

/*
 * Have a stopped thread carry out one system call at `insn`, the address of a system call
 * instruction in its memory. Registers are changed and not put back; afterwards the thread is in
 * a stop from which the kernel restarts interrupted calls. For tasks that die with ckpt:
 * the death of ckpt in the middle leaves the thread behind that instruction.
 */
int compel_remote_syscall(struct compel_thread *t, raddr_t insn, uint64_t nr, const uint64_t arg[6],
                          int64_t *ret, struct ckpt_error *err);

/*
 * The same for a system call that does not sleep, in three steps, each of which can be taken for many threads before
 * the next, so that they work side by side and none is waited for. -EFAULT, -ESRCH, -ETIMEDOUT: it does not get
 * there.
 */
int compel_remote_start(struct compel_thread *t, raddr_t insn, uint64_t nr, const uint64_t arg[6]);
int compel_remote_enter(struct compel_thread *t);
int compel_remote_end(struct compel_thread *t, int64_t *ret);

/*
 * The address of a system call instruction in the vDSO of a process, for compel_remote_syscall().
 * -ENOENT: it has no vDSO, or it was unmapped.
 */
int compel_find_syscall_insn(pid_t pid, raddr_t *ret);

/* ---- batches --------------------------------------------------------------------------- */

/*
 * Operations to be carried out by one thread, in memory shared with it. Adding never fails
 * where it stands: when the memory does not suffice, a host's batch is run and started again,
 * a visit's remembers -E2BIG, and the next compel_run() or compel_wait() returns it.
 */
struct compel_batch {
        struct compel_lane *lane; /* our mapping of it */
        struct compel_op *ops;    /* ours, too; ops[i].ret are the results after a run */
        uint32_t n;
        const char **what; /* of each operation; here, because the target could change it there */
        uint32_t what_cap;
        void *spill;             /* what compel_data() returns once `error` is set */
        char *data_start, *data; /* data grows downwards towards the operations */
        raddr_t lane_remote;
        pid_t tid; /* who carries it out */
        int error; /* sticky, negative errno */
        bool started;
        struct ckpt_error failure;               /* of a run that adding made necessary */
        int (*overflow)(struct compel_batch *b); /* NULL in a visit */
        struct compel_op scratch;                /* what operations are written to once `error` is set */
        uint32_t command;                        /* of the run that has been started */
        uint32_t reserved_ops;                   /* promised by compel_room() ... */
        size_t reserved_bytes;                   /* ... and not used yet */
};

/* Forget all operations and data. */
void compel_reset(struct compel_batch *b);

/* Free what the batch owns (not the lane). */
void compel_batch_done(struct compel_batch *b);

/*
 * Add system call `nr`. `what` says in an error message what was tried ("map the heap"): a string that
 * outlives the batch. The result must be no error; change op->check, ->want, ->refs,
 * ->store of the returned operation for anything else. The pointer is valid until the next
 * call that adds. Six arguments at the most; use compel_call().
 */
struct compel_op *compel_add(struct compel_batch *b, const char *what, uint32_t nr, const uint64_t *args,
                             unsigned int nr_args);

#define compel_call(b, what, nr, ...)                                             \
        compel_add((b), (what), (nr), (const uint64_t[]){ 0, ##__VA_ARGS__ } + 1, \
                   sizeof((const uint64_t[]){ 0, ##__VA_ARGS__ }) / sizeof(uint64_t) - 1)

/* For arguments that are our pointers into the batch's data, or any other pointer value. */
#define compel_arg(p) ((uint64_t)(uintptr_t)(p))

/* Index of an operation, for `refs`. */
static inline uint32_t compel_index(const struct compel_batch *b, const struct compel_op *op) {
        return op == &b->scratch ? 0 : (uint32_t)(op - b->ops);
}

/*
 * Reserve `size` zeroed bytes for an operation to read or write; returns our address of it and
 * the task's in *ret. Valid until the batch is reset or overflows; reserving also
 * makes sure of room for eight operations, so that what belongs to the data follows it in
 * the same batch. Ask with compel_room() first when an operation needs more than one area.
 */
void *compel_data(struct compel_batch *b, size_t size, raddr_t *ret);
void compel_room(struct compel_batch *b, unsigned int nr_ops, size_t size);

/* As compel_data(), filled with a copy. Returns the task's address. */
raddr_t compel_copy(struct compel_batch *b, const void *data, size_t size);

/* How many bytes one batch of this size can carry besides its operations. */
size_t compel_capacity(const struct compel_batch *b);

/* ---- visiting -------------------------------------------------------------------------- */

struct compel_visit;

/* How many threads besides the driver can be in the agent at once, at the most. */
enum { COMPEL_GUESTS_MAX = 4 };

/*
 * Map the agent into the process of `threads`, all of which are stopped. The first of them becomes
 * the driver: it stays inside until the end of the visit. compel_visit_free() ends it in any
 * case, also half way through. -EAGAIN (and no message): a thread is still on its way out of the visit of a
 * ckpt that died; let them run a moment and stop them again.
 */
int compel_visit_begin(struct compel_thread *threads, size_t nr_threads, struct compel_visit **ret,
                       struct ckpt_error *err);

/* Why a stopped thread cannot be visited; NULL if it can. */
const char *compel_unenterable(const struct compel_thread *t);

/* The batch of the visit; fill, run, read the results, reset. */
struct compel_batch *compel_visit_batch(struct compel_visit *v);

/* Send `t`, the driver or another stopped thread of the same process, through the batch. */
int compel_visit_run(struct compel_visit *v, struct compel_thread *t, struct ckpt_error *err);

/*
 * For processes with many threads that several threads of ckpt trace. As compel_visit_begin(), with room for up to
 * `guests` threads at once besides the driver; compel_visit_guests() tells for how many there is, at least one. While
 * the driver has nothing to do, each of them, from 0 on, can be sent through a batch of its own by the thread that
 * traces it (the first one's is compel_visit_batch()).
 */
int compel_visit_begin_many(struct compel_thread *threads, size_t nr_threads, unsigned int guests,
                            struct compel_visit **ret, struct ckpt_error *err);
unsigned int compel_visit_guests(const struct compel_visit *v);
struct compel_batch *compel_visit_guest_batch(struct compel_visit *v, unsigned int guest);
int compel_visit_run_guest(struct compel_visit *v, unsigned int guest, struct compel_thread *t,
                           struct ckpt_error *err);

/*
 * What the visits that one thread of ckpt makes side by side have in common; all of them must be freed before. If
 * several threads do so at a time, they have a mutex in common, too, which must outlive this.
 */
struct compel_visits;
int compel_visits_new(pthread_mutex_t *starting, struct compel_visits **ret);
void compel_visits_free(struct compel_visits **visits);

/*
 * The same in steps, so that many processes can be visited side by side: what one of them does for its step, it does
 * while the others are sent on. The _start functions return 1 when there are steps to go; compel_visit_go() takes the
 * next one and returns 1 until it was the last, then 0. An error is the end of that operation; of
 * compel_visit_start(), of the visit. The visits must be freed before their threads, in any order. `visits` may be
 * NULL for the only one.
 *
 * compel_visit_start() knows one error more, also without a message. -EBUSY: there is a stub, which may be that of a
 * process under a visit right now that shares this memory; ask again when nobody is visited.
 */
int compel_visit_start(struct compel_visits *visits, struct compel_thread *threads, size_t nr_threads,
                       struct compel_visit **ret, struct ckpt_error *err);
int compel_visit_run_start(struct compel_visit *v, struct ckpt_error *err); /* the driver */
int compel_visit_end_start(struct compel_visit *v, struct ckpt_error *err);
int compel_visit_go(struct compel_visit *v, struct ckpt_error *err);

/* Unmap the agent and put everything back; the driver is stopped as it was found. */
int compel_visit_end(struct compel_visit *v, struct ckpt_error *err);
void compel_visit_free(struct compel_visit **v);

/* ---- hosting --------------------------------------------------------------------------- */

struct compel_host;

/*
 * Reserve `size` bytes at `addr` (page aligned, free in ckpt and in every task to be made) for the
 * agent and the lanes. The calling thread becomes the guard: its death is that of
 * everything in the agent. compel_host_free() unmaps the region here and is for after the
 * last task has left it, or been killed.
 */
int compel_host_create(raddr_t addr, size_t size, struct compel_host **ret, struct ckpt_error *err);
void compel_host_free(struct compel_host **host);

/*
 * Have everything that waits in the agent exit, as if ckpt had died. What is inside a system call does
 * not notice.
 */
void compel_host_kill(struct compel_host *host);

/* Bytes to reserve for the agent itself, on top of the lanes. */
size_t compel_host_overhead(void);

/* Where the region is, as every task sees it. */
raddr_t compel_host_addr(const struct compel_host *host);
size_t compel_host_size(const struct compel_host *host);

/* Give a thread to be made a lane of `size` bytes (at least 8192, a multiple of a page). */
int compel_host_lane(struct compel_host *host, size_t size, struct compel_batch *ret,
                     struct ckpt_error *err);

/*
 * Clone the first process from ckpt (clone3, args without stack) into the agent on `lane`. It starts
 * with a copy of ckpt's address space and descriptors, and with all signals blocked, as everything
 * does that is cloned from it.
 */
int compel_host_clone(struct compel_host *host, struct compel_batch *lane, struct clone_args *args,
                      pid_t *ret, struct ckpt_error *err);

/*
 * Add the making of a process or thread to the batch of its parent. `args` is copied; the stack and
 * the lane are filled in here. `child` may be run as soon as this batch has been.
 */
struct compel_op *compel_add_clone(struct compel_batch *b, const char *what, const struct clone_args *args,
                                   struct compel_batch *child);

/* Hand the operations over and return; nothing may be added before compel_wait(). */
void compel_start(struct compel_batch *b);

/*
 * Wait for the end of what compel_start() began. The error names the pid, `what`, and the cause.
 * -ESRCH: the task died.
 */
int compel_wait(struct compel_batch *b, struct ckpt_error *err);

/* Start, wait, and reset if it went well. An empty batch costs nothing. */
int compel_run(struct compel_batch *b, struct ckpt_error *err);
