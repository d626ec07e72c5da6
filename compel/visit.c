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
 *
 * Other threads go in and out as guests, by the same kind of steps: one at a time, or as many as there are slots in
 * the foothold if several threads of ckpt trace them. Whoever does not come back under control (it hangs in the
 * kernel) is left to the way out that the death of ckpt would take.
 */
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
#include "compel/tracer.h"
#include "compel/visit.h"
#include "compel/visits.h"
#include "macro.h"

/* Whoever traces these threads in our place has to know where they are not in code of their own. */
static void note_region(const struct compel_visit *v) {
        struct compel_region region = {
                .stub = foothold_start(&v->foothold),
                .stub_end = v->foothold.end,
                .map = v->remote,
                .map_end = v->remote ? v->remote + v->size : 0,
        };

        compel_tracer_note(v->driver, &region);
}

/*
 * One system call of the driver, at `entry` in the stub. It leaves it in an event stop behind that by way of
 * compel_remote_enter() and compel_remote_end().
 */
static int inject_start(struct compel_visit *v, const char *entry, uint64_t nr, const uint64_t arg[6]) {
        struct user_regs_struct regs = v->driver->regs;
        int r;

        arch_set_syscall(&regs, foothold_entry(&v->foothold, FOOTHOLD_DRIVER, entry), nr, arg);
        r = compel_set_regs(v->driver, &regs);
        if (r < 0)
                return r;
        if (!v->entered) {
                v->entered = true;
                r = compel_set_sigmask(v->driver, ~0ULL);
        }
        return r < 0 ? r : compel_to_syscall_later(v->driver);
}

static int inject(struct compel_visit *v, const char *entry, uint64_t nr, const uint64_t arg[6],
                  int64_t *ret) {
        int r;

        r = inject_start(v, entry, nr, arg);
        if (r == 0)
                r = compel_remote_enter(v->driver);
        return r < 0 ? r : compel_remote_end(v->driver, ret);
}

static int mmap_start(struct compel_visit *v, int prot) {
        const uint64_t arg[6] = {
                0, v->size, (uint64_t)prot, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1, 0
        };

        return inject_start(v, compel_stub, SYS_mmap, arg);
}

static int mmap_end(struct compel_visit *v) {
        int64_t addr = 0;
        int r;

        r = compel_remote_end(v->driver, &addr);
        if (r < 0)
                return r;
        if ((uint64_t)addr >= (uint64_t)-4095)
                return (int)addr == -EAGAIN ? -ENOMEM : (int)addr; /* of mmap: RLIMIT_MEMLOCK */
        v->remote = (raddr_t)addr;
        note_region(v);
        return foothold_note_mapping(&v->foothold, v->remote);
}

static int mmap_again(struct compel_visit *v, int prot) {
        int r;

        r = mmap_start(v, prot);
        if (r == 0)
                r = compel_remote_enter(v->driver);
        return r < 0 ? r : mmap_end(v);
}

/* The same pages, here: /proc/PID/map_files names the memory behind a mapping (Linux 3.3). */
static int map_shared(struct compel_visit *v) {
        _cleanup_close_ int fd = -EBADF;
        char path[96];

        snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", v->driver->tid,
                 (unsigned long long)v->remote, (unsigned long long)v->remote + v->size);
        fd = open(path, O_RDWR | O_CLOEXEC);
        return fd < 0 ? -errno : compel_visits_map(v->visits, fd, v->size, &v->local);
}

/*
 * The end of a first attempt, with all rights. Memory that is writable and executable is refused to targets with
 * PR_SET_MDWE or a policy to that effect.
 */
static int map_agent(struct compel_visit *v) {
        int64_t result = 0;
        bool strict;
        int r;

        r = mmap_end(v);
        strict = r == -EACCES || r == -EPERM;
        if (strict)
                r = mmap_again(v, PROT_READ | PROT_EXEC);
        if (r == 0)
                r = map_shared(v);
        if (r == 0 && strict) {
                const uint64_t arg[6] = { v->remote + agent_room(), v->size - agent_room(),
                                          PROT_READ | PROT_WRITE };

                r = inject(v, compel_stub_protect, SYS_mprotect, arg, &result);
        }
        return r < 0 ? r : (int)result;
}

static void init_lane(const struct compel_visit *v, struct compel_lane *lane, enum foothold_slot slot,
                      const char *leave) {
        unsigned int guest = slot == FOOTHOLD_DRIVER ? 0 : slot - FOOTHOLD_GUEST;
        raddr_t inside = remote_of(v, &head_of(v)->inside[guest]);

        *lane = (struct compel_lane){
                .mode = COMPEL_MODE_VISIT,
                .guard = remote_of(v, v->guard.word),
                .leave = foothold_entry(&v->foothold, slot, leave),
                .leave_arg = slot == FOOTHOLD_DRIVER ? v->remote : inside,
                .inside = inside,
                .nr_inside = v->guests,
                .is_guest = slot != FOOTHOLD_DRIVER,
                .map_len = v->size,
        };
}

/* The stacks are touched here, so that it is not the target's memory cgroup that has to pay for them. */
static void init_guest(struct compel_visit *v, unsigned int guest) {
        struct compel_batch *b = guest > 0 ? &v->others[guest - 1] : NULL;

        v->local[guest_stack_end(v, guest) - 1] = 0;
        if (b)
                compel_batch_init(b, v->local + seat_of(guest), v->remote + seat_of(guest), SEAT_SIZE);
        init_lane(v, &head_of(v)->guest[guest], FOOTHOLD_GUEST + guest, compel_stub_guest);
}

static int prepare_shared(struct compel_visit *v) {
        size_t start = guest_stack_end(v, 0);
        int r;

        memcpy(v->local, compel_blob, compel_blob_size());
        v->local[driver_stack_end(v) - 1] = 0;
        r = compel_guard_take(&v->guard, v->local + v->size);
        if (r < 0)
                return r;
        init_lane(v, &head_of(v)->driver, FOOTHOLD_DRIVER, compel_stub_leave);
        for (unsigned int i = 0; i < v->guests; i++)
                init_guest(v, i);
        compel_batch_init(&v->batch, v->local + start, v->remote + start, v->size - start);
        v->batch.tid = v->driver->tid;
        return 0;
}

int visit_refuse(const struct compel_thread *t, const char *reason, struct ckpt_error *err) {
        return ckpt_error(err, -ENOTSUP, "pid %d: ckpt cannot enter it: %s; the process continues unchanged",
                          t->tid, reason);
}

/* -EAGAIN means something else to the caller. */
static int fail_begin(struct compel_visit *v, int r, struct ckpt_error *err) {
        int r2;

        v->next = NULL;
        r2 = compel_visit_end(v, err);
        if (r2 < 0)
                return r2;
        ckpt_error_errno(err, r, "pid %d continues unchanged, because the agent cannot be mapped in it",
                         v->driver->tid);
        if (r == -ENOMEM)
                ckpt_error_hint(err, "Raise its limit on address space for the dump (prlimit --as)");
        return r == -EAGAIN ? -EIO : r;
}

static int begin_end(struct compel_visit *v, struct ckpt_error *err) {
        int r;

        v->next = NULL;
        r = map_agent(v);
        if (r == 0)
                r = prepare_shared(v);
        return r < 0 ? fail_begin(v, r, err) : 0;
}

static int begin_enter(struct compel_visit *v, struct ckpt_error *err) {
        int r = compel_remote_enter(v->driver);

        v->next = begin_end;
        return r < 0 ? fail_begin(v, r, err) : 1;
}

/* How a visit is made. */
struct manner {
        struct compel_visits *visits;
        bool alone;          /* nobody else is visited at this moment */
        unsigned int guests; /* at once */
};

/*
 * Nobody else looks for unused bytes before the stub is there. The errors of foothold_open(); *ret_result is what
 * came of the writing.
 */
static int take_foothold(struct compel_visit *v, const struct compel_thread *threads, size_t nr_threads,
                         const struct manner *how, int *ret_result) {
        int r;

        compel_visits_lock(how->visits);
        r = foothold_open(&v->foothold, threads, nr_threads, how->alone);
        if (r == 0) {
                v->guests = MIN(how->guests, v->foothold.slots - FOOTHOLD_GUEST);
                v->size = SHARED_SIZE + (v->guests - 1) * (size_t)SEAT_SIZE;
                note_region(v);
                *ret_result = foothold_write(&v->foothold, FOOTHOLD_DRIVER, v->driver, v->size);
        }
        compel_visits_unlock(how->visits);
        return r;
}

static int begin(struct compel_visit *v, int r) {
        v->next = begin_enter;
        return r < 0 ? r : mmap_start(v, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static int start(struct compel_thread *threads, size_t nr_threads, const struct manner *how,
                 struct compel_visit **ret, struct ckpt_error *err) {
        _cleanup_(compel_visit_free) struct compel_visit *v = calloc(1, sizeof(*v));
        const char *reason;
        int r, written = 0;

        if (!v)
                return ckpt_error_errno(err, -ENOMEM, "cannot visit pid %d", threads[0].tid);
        ckpt_assert(nr_threads > 0 && threads[0].stopped);
        v->driver = &threads[0];
        v->visits = how->visits;
        v->foothold.mem_fd = -EBADF;
        reason = compel_unenterable(v->driver);
        if (reason)
                return visit_refuse(v->driver, reason, err);
        r = take_foothold(v, threads, nr_threads, how, &written);
        if (r == -EAGAIN || r == -EBUSY)
                return r;
        if (r == -ENOENT)
                return visit_refuse(v->driver,
                                    "no executable page of it has the few hundred unused bytes that takes",
                                    err);
        if (r == 0)
                r = begin(v, written);
        if (r < 0)
                return fail_begin(v, r, err);
        *ret = TAKE_PTR(v);
        return 1;
}

int compel_visit_start(struct compel_visits *visits, struct compel_thread *threads, size_t nr_threads,
                       struct compel_visit **ret, struct ckpt_error *err) {
        const struct manner how = { .visits = visits, .guests = 1 };

        return start(threads, nr_threads, &how, ret, err);
}

int compel_visit_go(struct compel_visit *v, struct ckpt_error *err) {
        return v->next ? v->next(v, err) : 0;
}

int visit_finish(struct compel_visit *v, int r, struct ckpt_error *err) {
        while (r > 0)
                r = compel_visit_go(v, err);
        return r;
}

int compel_visit_begin_many(struct compel_thread *threads, size_t nr_threads, unsigned int guests,
                            struct compel_visit **ret, struct ckpt_error *err) {
        _cleanup_(compel_visit_free) struct compel_visit *v = NULL;
        const struct manner how = { .alone = true, .guests = guests };
        int r;

        ckpt_assert(guests > 0 && guests <= COMPEL_GUESTS_MAX);
        r = start(threads, nr_threads, &how, &v, err);
        if (r > 0)
                r = visit_finish(v, r, err);
        if (r == 0)
                *ret = TAKE_PTR(v);
        return r;
}

int compel_visit_begin(struct compel_thread *threads, size_t nr_threads, struct compel_visit **ret,
                       struct ckpt_error *err) {
        return compel_visit_begin_many(threads, nr_threads, 1, ret, err);
}

unsigned int compel_visit_guests(const struct compel_visit *v) {
        return v->guests;
}

struct compel_batch *compel_visit_batch(struct compel_visit *v) {
        return &v->batch;
}

struct compel_batch *compel_visit_guest_batch(struct compel_visit *v, unsigned int guest) {
        ckpt_assert(guest < v->guests);
        return guest > 0 ? &v->others[guest - 1] : &v->batch;
}

int visit_to_stub(const struct compel_visit *v, struct compel_thread *t, enum foothold_slot slot,
                  const char *label, uint64_t value) {
        struct user_regs_struct regs = t->regs;

        arch_set_stub(&regs, foothold_entry(&v->foothold, slot, label), value);
        return compel_set_regs(t, &regs);
}

int visit_put_back(struct compel_thread *t) {
        int r;

        r = compel_set_sigmask(t, t->sigmask);
        if (r == 0)
                r = compel_set_regs(t, &t->regs);
        return r;
}

static void free_shared(struct compel_visit *v) {
        compel_guard_drop(&v->guard);
        if (v->local)
                compel_visits_unmap(v->visits, v->local, v->size);
        v->local = NULL;
}

/* Where threads still are, or may be, is left as it is: they find their way out by themselves. */
static int end_result(struct compel_visit *v, int r, struct ckpt_error *err) {
        pid_t pid = v->driver->tid;

        v->lost |= r == -ETIMEDOUT;
        if (v->foothold.mem_fd >= 0)
                foothold_close(&v->foothold, v->lost);
        if (!v->lost)
                compel_tracer_note(v->driver, &(struct compel_region){ 0 });
        free_shared(v);
        if (r == -ETIMEDOUT) {
                ckpt_error(err, r, "pid %d: cannot take the agent out of it in time; it leaves by itself",
                           pid);
                return ckpt_error_hint(err, "If its cgroup is frozen, thaw it before the next dump");
        }
        if (r == -ESRCH)
                return ckpt_error(err, r, "pid %d died while it was being looked at", pid);
        if (r < 0)
                return ckpt_error_errno(err, r, "pid %d: cannot take the agent out again", pid);
        return 0;
}

/* `r` is what came of the munmap. A fault on the way is no reason to keep it from its own work. */
static int left(struct compel_visit *v, int r, struct ckpt_error *err) {
        struct compel_thread *t = v->driver;
        int r2 = 0;

        v->next = NULL;
        if (r == 0)
                v->remote = 0;
        if (r == -EFAULT)
                r2 = compel_park(t);
        if (r2 == 0 && t->stopped)
                r2 = visit_put_back(t);
        return end_result(v, r < 0 ? r : r2, err);
}

static int leave_end(struct compel_visit *v, struct ckpt_error *err) {
        return left(v, compel_await_stop(v->driver), err);
}

static int leave_enter(struct compel_visit *v, struct ckpt_error *err) {
        int r = compel_remote_enter(v->driver);

        v->next = leave_end;
        return r < 0 ? left(v, r, err) : 1;
}

/* The driver leaves through the stub, but ptrace stops it behind the munmap. */
static int leave_start(struct compel_visit *v, struct ckpt_error *err) {
        int r;

        if (!v->remote)
                return left(v, 0, err);
        r = visit_to_stub(v, v->driver, FOOTHOLD_DRIVER, compel_stub_unmap, v->remote);
        if (r == 0)
                r = compel_to_syscall_later(v->driver);
        v->next = leave_enter;
        return r < 0 ? left(v, r, err) : 1;
}

int compel_visit_end_start(struct compel_visit *v, struct ckpt_error *err) {
        int r = 0;

        /* What it has been sent to do must be over first. */
        visit_finish(v, 1, NULL);
        if (v->entered) {
                v->entered = false;
                if (v->driver->stopped && !v->lost)
                        return leave_start(v, err);
                r = v->lost || compel_tid_alive(v->driver->tid) ? -ETIMEDOUT : -ESRCH;
        }
        return end_result(v, r, err);
}

int compel_visit_end(struct compel_visit *v, struct ckpt_error *err) {
        return visit_finish(v, compel_visit_end_start(v, err), err);
}

void compel_visit_free(struct compel_visit **v) {
        if (!*v)
                return;
        compel_visit_end(*v, NULL);
        compel_batch_done(&(*v)->batch);
        for (size_t i = 0; i < ELEMENTSOF((*v)->others); i++)
                compel_batch_done(&(*v)->others[i]);
        free(*v);
        *v = NULL;
}
