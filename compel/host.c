/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Processes made by ckpt. The region has the same address in ckpt and in all of them, so that pointers
 * into it mean the same everywhere:
 *
 *   agent (read, execute) | guard | private page of the guard | lanes ...
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "compel/arch.h"
#include "compel/internal.h"
#include "macro.h"

/* Lanes whose threads spin before they sleep. With more of them than CPUs they would keep each other from working. */
enum { FEW = 2 };

struct compel_host {
        char *base;
        size_t size, used;
        unsigned int nr_lanes;
        struct compel_guard guard;
};

static size_t blob_room(void) {
        return page_align_up(compel_blob_size());
}

size_t compel_host_overhead(void) {
        return blob_room() + 2 * PAGE_SIZE;
}

raddr_t compel_host_addr(const struct compel_host *host) {
        return compel_arg(host->base);
}

size_t compel_host_size(const struct compel_host *host) {
        return host->size;
}

static int set_up_region(struct compel_host *host) {
        char *edge = host->base + blob_room() + PAGE_SIZE;

        memcpy(host->base, compel_blob, compel_blob_size());
        if (mprotect(host->base, blob_room(), PROT_READ | PROT_EXEC) < 0)
                return -errno;
        if (mmap(edge, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
            MAP_FAILED)
                return -errno;
        host->used = compel_host_overhead();
        return compel_guard_take(&host->guard, edge);
}

int compel_host_create(raddr_t addr, size_t size, struct compel_host **ret, struct ckpt_error *err) {
        _cleanup_(compel_host_free) struct compel_host *host = calloc(1, sizeof(*host));
        void *p;
        int r;

        if (!host)
                return ckpt_error_errno(err, -ENOMEM, "cannot reserve memory for the agent");
        ckpt_assert(size >= compel_host_overhead());
        p = mmap((void *)(uintptr_t)addr, size, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (p == MAP_FAILED)
                return ckpt_error_errno(err, -errno, "cannot reserve %zu bytes at %#llx for the agent", size,
                                        (unsigned long long)addr);
        host->base = p;
        host->size = size;
        r = set_up_region(host);
        if (r < 0)
                return ckpt_error_errno(err, r, "cannot set up the agent's memory at %#llx",
                                        (unsigned long long)addr);
        *ret = TAKE_PTR(host);
        return 0;
}

void compel_host_free(struct compel_host **host) {
        if (!*host)
                return;
        compel_guard_drop(&(*host)->guard);
        if ((*host)->base)
                munmap((*host)->base, (*host)->size);
        free(*host);
        *host = NULL;
}

void compel_host_kill(struct compel_host *host) {
        compel_guard_drop(&host->guard);
}

static bool task_alive(void *arg) {
        const struct compel_batch *b = arg;

        return b->tid <= 0 || compel_tid_works(b->tid);
}

static int run_full_batch(struct compel_batch *b) {
        compel_start(b);
        return compel_wait(b, &b->failure);
}

int compel_host_lane(struct compel_host *host, size_t size, struct compel_batch *ret,
                     struct ckpt_error *err) {
        char *lane = host->base + host->used;

        ckpt_assert(size >= 2 * PAGE_SIZE && size % PAGE_SIZE == 0);
        if (size > host->size - host->used)
                return ckpt_error_errno(err, -ENOSPC, "the memory reserved for the agent is used up");
        host->used += size;
        compel_batch_init(ret, lane, compel_arg(lane), size);
        ret->overflow = run_full_batch;
        ret->lane->mode = COMPEL_MODE_HOST;
        ret->lane->few = ++host->nr_lanes <= FEW;
        ret->lane->guard = compel_arg(host->guard.word);
        return 0;
}

static uint64_t lane_stack(const struct compel_batch *b) {
        return compel_arg(b->data_start) + COMPEL_LANE_STACK;
}

/*
 * The child inherits the registration of its memory with rseq(2), which the kernel writes to whenever it
 * schedules the thread: fatal once that memory is unmapped. The length must be the registered one, which is
 * 32 or, with a C library newer than this kernel's first users, the size of its own area.
 */
static void unregister_rseq(void) {
        uint64_t area = compel_arg(__builtin_thread_pointer()) + (uint64_t)__rseq_offset;

        if (__rseq_size > 0 && syscall(SYS_rseq, area, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) < 0)
                syscall(SYS_rseq, area, (__rseq_size + 31) & ~31U, RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
}

/*
 * Runs in the new process, on a copy of ckpt's stack, until it is in the agent. No library call: ckpt has
 * other threads, and one of them could have held a lock of the library.
 */
static void __attribute__((noreturn))
enter_agent(const struct compel_host *host, const struct compel_batch *b) {
        unregister_rseq();
        compel_enter(compel_arg(host->base), compel_arg(b->lane), lane_stack(b));
}

int compel_host_clone(struct compel_host *host, struct compel_batch *lane, struct clone_args *args,
                      pid_t *ret, struct ckpt_error *err) {
        uint64_t all = ~0ULL, saved = 0;
        long pid;

        /* In the agent every signal is blocked. */
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &saved, sizeof(all));
        pid = syscall(SYS_clone3, args, sizeof(*args));
        if (pid == 0)
                enter_agent(host, lane);
        if (pid < 0)
                pid = -errno;
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &saved, NULL, sizeof(saved));
        if (pid < 0)
                return ckpt_error_errno(err, (int)pid, "cannot create the root process");
        lane->tid = (pid_t)pid;
        *ret = (pid_t)pid;
        return 0;
}

struct compel_op *compel_add_clone(struct compel_batch *b, const char *what, const struct clone_args *args,
                                   struct compel_batch *child) {
        struct clone_args copy = *args;
        raddr_t set_tid = 0;
        struct compel_op *op;

        compel_room(b, 1, sizeof(copy) + args->set_tid_size * sizeof(pid_t));
        if (args->set_tid_size > 0)
                set_tid = compel_copy(b, (const void *)(uintptr_t)args->set_tid,
                                      args->set_tid_size * sizeof(pid_t));
        copy.set_tid = set_tid;
        copy.stack = lane_stack(child) - COMPEL_LANE_STACK;
        copy.stack_size = COMPEL_LANE_STACK;
        op = compel_call(b, what, SYS_clone3, compel_copy(b, &copy, sizeof(copy)), sizeof(copy));
        op->arg[5] = compel_arg(child->lane);
        return op;
}

void compel_start(struct compel_batch *b) {
        struct compel_lane *lane = b->lane;

        ckpt_assert(!b->started);
        b->started = true;
        lane->nr_ops = b->n;
        lane->nr_done = 0;
        lane->ops = compel_arg(b->ops);
        b->command++;
        __atomic_store_n(&lane->command, b->command, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&lane->asleep, __ATOMIC_SEQ_CST))
                compel_futex_wake(&lane->command);
}

int compel_wait(struct compel_batch *b, struct ckpt_error *err) {
        int r;

        ckpt_assert(b->started);
        r = compel_await(b->lane, b->command, false, task_alive, b);
        b->started = false;
        if (r < 0)
                return ckpt_error(err, r, "pid %d died while it was being restored", b->tid);
        return compel_batch_result(b, err);
}
