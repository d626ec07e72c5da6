/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Visiting a process that is not ours. The order of steps is what keeps it alive if ckpt dies
 * between any two of them:
 *
 *   write the stub into the foothold     nothing runs it yet
 *   registers of the driver -> stub      it would try the mmap, undo it and go on
 *   block signals                        the stub's way out puts the mask back
 *   mmap                                 the stub's way out unmaps it
 *   registers -> agent, batch, wait      the agent sees the guard die and jumps to the stub
 *   registers -> stub, munmap
 *   mask, registers as found             it goes on as if nothing had been
 *   clear the foothold
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "compel/arch.h"
#include "compel/foothold.h"
#include "compel/internal.h"
#include "macro.h"

enum {
        SHARED_SIZE = 128 * 1024,
        HEAD_SIZE = PAGE_SIZE,
};

/* The page in front of the blob. */
struct head {
        pthread_mutex_t guard;
        uint32_t inside;
        struct compel_lane driver;
        struct compel_lane guest;
};

_Static_assert(sizeof(struct head) <= HEAD_SIZE, "the head of a visit outgrew its page");

struct compel_visit {
        struct compel_thread *driver;
        struct foothold foothold;
        struct head *head;  /* our mapping of the shared memory */
        raddr_t remote;     /* the target's; 0: not mapped */
        bool guarded;
        bool entered; /* the driver's registers are not its own */
        struct compel_batch batch;
};

/* Layout of the shared memory: head, agent, stack of the driver, stack of the guest, batch. */
static raddr_t agent_of(const struct compel_visit *v) {
        return v->remote + HEAD_SIZE;
}

static size_t stacks_offset(void) {
        return HEAD_SIZE + page_align_up(compel_blob_size());
}

static raddr_t remote_of(const struct compel_visit *v, const void *local) {
        return v->remote + (uint64_t)((const char *)local - (const char *)v->head);
}

static int inject_mmap(struct compel_visit *v) {
        const uint64_t arg[6] = { 0, SHARED_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                                  MAP_SHARED | MAP_ANONYMOUS, (uint64_t)-1, 0 };
        struct user_regs_struct regs = v->driver->regs;
        int r;

        arch_set_syscall(&regs, foothold_entry(&v->foothold, FOOTHOLD_DRIVER, compel_stub), SYS_mmap, arg);
        r = compel_set_regs(v->driver, &regs);
        if (r < 0)
                return r;
        v->entered = true;
        r = compel_set_sigmask(v->driver, ~0ULL);
        if (r == 0)
                r = compel_to_syscall_stop(v->driver);
        if (r == 0)
                r = compel_to_syscall_stop(v->driver);
        if (r == 0)
                r = compel_get_regs(v->driver, &regs);
        if (r < 0)
                return r;
        if ((uint64_t)arch_result(&regs) >= (uint64_t)-4095)
                return (int)arch_result(&regs);
        v->remote = (raddr_t)arch_result(&regs);
        return foothold_note_mapping(&v->foothold, v->remote);
}

/* The same pages, here: /proc/PID/map_files names the memory behind a mapping (Linux 3.3). */
static int map_shared(struct compel_visit *v) {
        _cleanup_close_ int fd = -EBADF;
        char path[96];
        void *p;

        snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", v->driver->tid, (unsigned long long)v->remote,
                 (unsigned long long)v->remote + SHARED_SIZE);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        p = mmap(NULL, SHARED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return -errno;
        v->head = p;
        return 0;
}

static void init_lane(const struct compel_visit *v, struct compel_lane *lane, raddr_t leave, uint64_t leave_arg) {
        *lane = (struct compel_lane){
                .mode = COMPEL_MODE_VISIT,
                .guard = remote_of(v, &v->head->guard.__data.__lock),
                .leave = leave,
                .leave_arg = leave_arg,
        };
}

static int prepare_shared(struct compel_visit *v) {
        char *base = (char *)v->head;
        size_t start = stacks_offset() + 2 * COMPEL_LANE_STACK;
        int r;

        memcpy(base + HEAD_SIZE, compel_blob, compel_blob_size());
        init_lane(v, &v->head->driver, foothold_entry(&v->foothold, FOOTHOLD_DRIVER, compel_stub_leave), v->remote);
        v->head->driver.inside = remote_of(v, &v->head->inside);
        init_lane(v, &v->head->guest, foothold_entry(&v->foothold, FOOTHOLD_GUEST, compel_stub_guest),
                  remote_of(v, &v->head->inside));
        compel_batch_init(&v->batch, base + start, v->remote + start, SHARED_SIZE - start);
        v->batch.tid = v->driver->tid;
        r = compel_guard_take(&v->head->guard);
        v->guarded = r == 0;
        return r;
}

static int begin(struct compel_visit *v, struct compel_thread *threads, size_t nr_threads) {
        int r;

        r = foothold_open(&v->foothold, threads, nr_threads);
        if (r < 0)
                return r;
        r = foothold_write(&v->foothold, FOOTHOLD_DRIVER, v->driver, SHARED_SIZE);
        if (r == 0)
                r = inject_mmap(v);
        if (r == 0)
                r = map_shared(v);
        if (r == 0)
                r = prepare_shared(v);
        return r;
}

int compel_visit_begin(struct compel_thread *threads, size_t nr_threads, struct compel_visit **ret,
                       struct ckpt_error *err) {
        _cleanup_(compel_visit_free) struct compel_visit *v = calloc(1, sizeof(*v));
        int r;

        if (!v)
                return ckpt_error_errno(err, -ENOMEM, "cannot visit pid %d", threads[0].tid);
        ckpt_assert(nr_threads > 0 && threads[0].stopped);
        v->driver = &threads[0];
        v->foothold.mem_fd = -EBADF;
        r = begin(v, threads, nr_threads);
        if (r == -EAGAIN)
                return r;
        if (r == -ENOENT)
                return ckpt_error(err, -ENOTSUP,
                                  "pid %d: no executable page of it has the few hundred unused bytes that ckpt needs "
                                  "to enter it; the process continues unchanged",
                                  threads[0].tid);
        if (r < 0)
                return ckpt_error_errno(err, r, "pid %d: cannot bring the agent in; the process continues unchanged",
                                        threads[0].tid);
        *ret = TAKE_PTR(v);
        return 0;
}

struct compel_batch *compel_visit_batch(struct compel_visit *v) {
        return &v->batch;
}

static bool still_there(void *arg) {
        const struct compel_thread *t = arg;

        /* A tracee that is gone, or has been stopped by a fault, has something to report. */
        return compel_is_running(t);
}

/* Run the batch on `t`, which stands in a ptrace stop, and stop it again inside the agent. */
static int pass_through(struct compel_visit *v, struct compel_thread *t, struct compel_lane *lane, raddr_t stack) {
        struct user_regs_struct regs = t->regs;
        uint32_t command = lane->done + 1;
        int r;

        v->batch.lane = lane;
        lane->ops = remote_of(v, v->batch.ops);
        lane->nr_ops = v->batch.n;
        lane->nr_done = 0;
        lane->command = command;
        arch_set_call(&regs, agent_of(v), remote_of(v, lane), stack);
        r = compel_set_regs(t, &regs);
        if (r == 0)
                r = compel_set_sigmask(t, ~0ULL);
        if (r == 0)
                r = compel_resume(t);
        if (r < 0)
                return r;
        while ((r = compel_await(lane, command, still_there, t)) == -ESRCH) {
                r = compel_hold_stop_signal(t);
                if (r < 0)
                        return r;
        }
        return compel_interrupt(t);
}

static int put_back(struct compel_thread *t) {
        int r;

        r = compel_set_sigmask(t, t->sigmask);
        if (r == 0)
                r = compel_set_regs(t, &t->regs);
        return r;
}

static int pass_guest(struct compel_visit *v, struct compel_thread *t) {
        int r, r2;

        r = foothold_write(&v->foothold, FOOTHOLD_GUEST, t, 0);
        if (r < 0)
                return r;
        __atomic_add_fetch(&v->head->inside, 1, __ATOMIC_SEQ_CST);
        r = pass_through(v, t, &v->head->guest, v->remote + stacks_offset() + 2 * COMPEL_LANE_STACK);
        r2 = t->stopped ? put_back(t) : 0;
        __atomic_sub_fetch(&v->head->inside, 1, __ATOMIC_SEQ_CST);
        return r < 0 ? r : r2;
}

int compel_visit_run(struct compel_visit *v, struct compel_thread *t, struct ckpt_error *err) {
        int r = v->batch.error;

        if (r == 0 && t == v->driver)
                r = pass_through(v, t, &v->head->driver, v->remote + stacks_offset() + COMPEL_LANE_STACK);
        else if (r == 0)
                r = pass_guest(v, t);
        if (r < 0)
                return ckpt_error_errno(err, r, "pid %d: cannot have it carry out system calls", t->tid);
        return compel_batch_result(&v->batch, err);
}

/* The driver leaves through the stub, but ptrace stops it behind the munmap. */
static int leave(struct compel_visit *v) {
        struct compel_thread *t = v->driver;
        struct user_regs_struct regs = t->regs;
        int r = 0;

        if (v->remote) {
                arch_set_stub(&regs, foothold_entry(&v->foothold, FOOTHOLD_DRIVER, compel_stub_leave), v->remote);
                r = compel_set_regs(t, &regs);
                if (r == 0)
                        r = compel_to_syscall_stop(t);
                if (r == 0)
                        r = compel_to_syscall_stop(t);
                if (r == 0)
                        v->remote = 0;
        }
        if (r == 0)
                r = compel_park(t);
        if (r == 0)
                r = put_back(t);
        return r;
}

int compel_visit_end(struct compel_visit *v, struct ckpt_error *err) {
        pid_t pid = v->driver->tid;
        int r = 0;

        if (v->entered) {
                v->entered = false;
                r = v->driver->stopped ? leave(v) : -ESRCH;
        }
        if (v->foothold.mem_fd >= 0)
                foothold_close(&v->foothold);
        if (v->guarded)
                compel_guard_drop(&v->head->guard);
        v->guarded = false;
        if (v->head)
                munmap(v->head, SHARED_SIZE);
        v->head = NULL;
        if (r < 0)
                return ckpt_error_errno(err, r, "pid %d: cannot take the agent out again", pid);
        return 0;
}

void compel_visit_free(struct compel_visit **v) {
        if (!*v)
                return;
        compel_visit_end(*v, NULL);
        compel_batch_done(&(*v)->batch);
        free(*v);
        *v = NULL;
}
