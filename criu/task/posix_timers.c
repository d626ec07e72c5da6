/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * POSIX timers: timer_create(2), /proc/PID/timers; and the reading of all timers. They are made while the task has ckpt's credentials (alarm clocks need
 * a capability) and limits, and armed at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kernel/process_facts.h"
#include "kernel/uapi.h"
#include "log.h"
#include "macro.h"
#include "ns/time.h"
#include "proc/timers.h"
#include "task/internal.h"
#include "task/timers.h"

#define NS_PER_S 1000000000ULL

enum {
        TIMERS_MAX = 512, /* what a visit can ask for at once */
        ID_MAX_ONE_BY_ONE =
                65536, /* without PR_TIMER_CREATE_RESTORE_IDS, each lower id costs two system calls */
        THREAD_CPU_CLOCK = -2, /* the kernel's name for the CPU time of the thread that made the timer */
        BOOT_ID_SIZE = 37,
};

/* The kernel's struct sigevent. */
struct kernel_sigevent {
        uint64_t value;
        int32_t signo, notify, tid;
        int32_t pad[11];
};

/* ---- dump ---- */

static void read_boot_id(char ret[BOOT_ID_SIZE]) {
        _cleanup_close_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, ret, BOOT_ID_SIZE - 1);

        ret[n > 0 ? n : 0] = '\0';
}

static bool is_cpu_clock(int32_t clock_id) {
        return clock_id < 0 || clock_id == CLOCK_PROCESS_CPUTIME_ID || clock_id == CLOCK_THREAD_CPUTIME_ID;
}

/* The clock that a timer runs on. Those of alarms show nothing on machines without one that wakes them. */
static clockid_t readable_clock(int32_t clock_id) {
        return clock_id == CLOCK_REALTIME_ALARM   ? CLOCK_REALTIME
               : clock_id == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME
                                                  : clock_id;
}

static uint64_t to_ns(const struct timespec *ts) {
        return (uint64_t)ts->tv_sec * NS_PER_S + (uint64_t)ts->tv_nsec;
}

/* What it says to the restored tree. False for the clocks of a task's CPU time and for those this kernel does not have. */
static bool clock_now(const struct restore *r, int32_t clock_id, uint64_t *ret) {
        struct timespec ts;

        if (is_cpu_clock(clock_id) || clock_gettime(readable_clock(clock_id), &ts) < 0)
                return false;
        *ret = to_ns(&ts) + (uint64_t)time_put_ahead(r, clock_id);
        return true;
}

static Img__PosixTimer *timer_to_image(struct dump_thread *t, const struct proc_timer *timer) {
        Img__PosixTimer *image = arena_message(&t->task->arena, Img__PosixTimer, img__posix_timer__init);

        image->it_id = (uint32_t)timer->id;
        image->clock_id = (uint32_t)timer->clock_id;
        image->si_signo = (uint32_t)timer->signo;
        image->it_sigev_notify = (uint32_t)timer->notify;
        image->sival_ptr = timer->sival_ptr;
        if (timer->by_tid) {
                image->has_notify_thread_id = true;
                image->notify_thread_id = timer->target;
        } else if (timer->clock_id == THREAD_CPU_CLOCK && t->task->nr_threads > 1)
                log_info(
                        "%s: timer %d runs on the CPU time of one of %zu threads, and the kernel does not tell which; the "
                        "restored one runs on that of the first",
                        dump_task_name(t->task), timer->id, t->task->nr_threads);
        return image;
}

static int read_timers(struct dump_thread *t, struct ckpt_error *err) {
        _cleanup_(proc_timer_vec_done) struct proc_timer_vec timers = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct arena *a = &t->task->arena;
        Img__TaskTimers *image;
        int r = 0, some;

        /* Mostly there are none, which may be known. */
        if (!process_fact_value(t->task->fact, PROCESS_TIMERS, &some) || some)
                r = proc_timers_read(&t->task->proc, &buf, &timers);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its POSIX timers", dump_task_name(t->task));
        if (timers.n > TIMERS_MAX)
                return ckpt_error(err, -ENOTSUP, "%s has %zu POSIX timers; more than %d are not supported",
                                  dump_task_name(t->task), timers.n, TIMERS_MAX);
        image = arena_message(a, Img__TaskTimers, img__task_timers__init);
        image->posix = arena_new_array(a, Img__PosixTimer *, timers.n);
        for (; image->n_posix < timers.n; image->n_posix++)
                image->posix[image->n_posix] = timer_to_image(t, &timers.v[image->n_posix]);
        if (timers.n > 0) {
                char boot_id[BOOT_ID_SIZE];

                read_boot_id(boot_id);
                image->boot_id = arena_strdup(a, boot_id);
        }
        dump_task_core(t)->timers = image;
        return 0;
}

/*
 * Time goes on while a process is stopped, so a timer may fire at any moment: what it shows and the signal that it
 * queues must belong together. The pending signals are therefore read before and behind the timers.
 */
struct asked_timers {
        const uint64_t *before, *behind; /* in the batch, like all these */
        const struct itimerval *intervals;
        const struct itimerspec *values;
        const struct timespec *clocks; /* behind each value, so that no timer's end is earlier than it was */
        uint32_t first_overrun;        /* operation */
};

static const uint64_t *ask_pending(struct compel_batch *b) {
        raddr_t at;
        uint64_t *set;

        compel_room(b, 1, sizeof(*set));
        set = compel_data(b, sizeof(*set), &at);
        compel_call(b, "read its pending signals", SYS_rt_sigpending, at, sizeof(*set));
        return set;
}

static void ask_posix(const Img__TaskTimers *timers, struct compel_batch *b, struct asked_timers *asked) {
        size_t n = timers->n_posix;
        raddr_t at, at_clock;

        compel_room(b, (unsigned int)n * 3, n * (sizeof(*asked->values) + sizeof(*asked->clocks)));
        asked->values = compel_data(b, n * sizeof(*asked->values), &at);
        asked->clocks = compel_data(b, n * sizeof(*asked->clocks), &at_clock);
        for (size_t i = 0; i < n; i++) {
                int32_t clock_id = (int32_t)timers->posix[i]->clock_id;

                compel_call(b, "read its POSIX timers", SYS_timer_gettime, timers->posix[i]->it_id,
                            at + i * sizeof(*asked->values));
                if (!is_cpu_clock(clock_id))
                        compel_call(b, "read the clocks of its POSIX timers", SYS_clock_gettime,
                                    (uint64_t)readable_clock(clock_id),
                                    at_clock + i * sizeof(*asked->clocks));
        }
        for (size_t i = 0; i < timers->n_posix; i++) {
                struct compel_op *op = compel_call(b, "read its POSIX timers", SYS_timer_getoverrun,
                                                   timers->posix[i]->it_id);

                if (i == 0)
                        asked->first_overrun = compel_index(b, op);
        }
}

static void *ask(struct dump_thread *t, struct compel_batch *b) {
        const Img__TaskTimers *timers = dump_task_core(t)->timers;
        struct asked_timers *asked = arena_new(&t->task->arena, struct asked_timers);

        asked->before = ask_pending(b);
        asked->intervals = itimers_ask(b);
        if (timers->n_posix > 0)
                ask_posix(timers, b, asked);
        asked->behind = ask_pending(b);
        return asked;
}

/* Both stand in memory that the target shares: they may say anything. */
static bool is_time(const struct timespec *ts) {
        return ts->tv_sec >= 0 && ts->tv_nsec >= 0 && (uint64_t)ts->tv_nsec < NS_PER_S;
}

static int value_to_image(const struct dump *d, const struct itimerspec *value, const struct timespec *now,
                          Img__PosixTimer *image) {
        int64_t ahead;

        if (!is_time(&value->it_value) || !is_time(&value->it_interval) || !is_time(now))
                return -EIO;
        image->isec = (uint64_t)value->it_interval.tv_sec;
        image->insec = (uint64_t)value->it_interval.tv_nsec;
        image->vsec = (uint64_t)value->it_value.tv_sec;
        image->vnsec = (uint64_t)value->it_value.tv_nsec;
        image->has_expires_ns = (image->vsec || image->vnsec) && image->vsec < INT64_MAX / NS_PER_S / 2 &&
                                now->tv_sec < INT64_MAX / (int64_t)NS_PER_S / 2 &&
                                !is_cpu_clock((int32_t)image->clock_id) &&
                                time_ahead(d, (int32_t)image->clock_id, &ahead);
        if (image->has_expires_ns)
                image->expires_ns = (int64_t)(to_ns(now) + to_ns(&value->it_value));
        return 0;
}

static int answer(struct dump_thread *t, struct compel_batch *b, void *asked_, struct ckpt_error *err) {
        Img__TaskTimers *timers = dump_task_core(t)->timers;
        const struct asked_timers *asked = asked_;

        if (*asked->before != *asked->behind)
                return 1;
        t->task->sig_pending = *asked->behind;
        itimers_to_image(asked->intervals, &t->task->arena, timers);
        for (size_t i = 0; i < timers->n_posix; i++) {
                const struct itimerspec value = asked->values[i];
                const struct timespec now = asked->clocks[i];

                if (value_to_image(t->task->dump, &value, &now, timers->posix[i]) < 0)
                        return ckpt_error(err, -EIO, "%s: the answer of its agent makes no sense",
                                          dump_task_name(t->task));
                timers->posix[i]->overrun = (uint32_t)task_asked(b, asked->first_overrun + (uint32_t)i);
        }
        return 0;
}

/* ---- check ---- */

static bool has_thread(const struct restore_task *t, pid_t tid) {
        for (size_t i = t->leader_dead ? 1 : 0; i < t->nr_threads; i++)
                if (t->threads[i].tid == tid)
                        return true;
        return false;
}

static int compare_ids(const void *a, const void *b) {
        const Img__PosixTimer *x = *(Img__PosixTimer *const *)a, *y = *(Img__PosixTimer *const *)b;

        return (x->it_id > y->it_id) - (x->it_id < y->it_id);
}

static bool makes_sense(const Img__PosixTimer *timer) {
        return timer->it_id <= INT32_MAX && timer->isec < INT64_MAX / NS_PER_S &&
               timer->vsec < INT64_MAX / NS_PER_S && timer->insec < NS_PER_S && timer->vnsec < NS_PER_S &&
               timer->si_signo <= 64 &&
               (timer->it_sigev_notify & ~(uint32_t)SIGEV_THREAD_ID) <= SIGEV_THREAD;
}

static int check(struct restore_thread *t, struct ckpt_error *err) {
        Img__TaskTimers *timers = restore_task_core(t)->timers;

        if (!timers || timers->n_posix == 0)
                return 0;
        qsort(timers->posix, timers->n_posix, sizeof(timers->posix[0]), compare_ids);
        for (size_t i = 0; i < timers->n_posix; i++)
                if (!makes_sense(timers->posix[i]) ||
                    (i > 0 && timers->posix[i]->it_id == timers->posix[i - 1]->it_id))
                        return ckpt_error(err, -EBADMSG, "%s: POSIX timer %u makes no sense",
                                          restore_task_name(t->task), timers->posix[i]->it_id);
        if (timers->posix[timers->n_posix - 1]->it_id > ID_MAX_ONE_BY_ONE &&
            !kernel_has(&t->task->restore->kernel, KERNEL_TIMER_CR_IDS))
                return ckpt_error(
                        err, -ENOTSUP,
                        "%s: its POSIX timer has number %u, and this kernel can only count up to it "
                        "one by one (Linux 6.15 can do more)",
                        restore_task_name(t->task), timers->posix[timers->n_posix - 1]->it_id);
        return 0;
}

/* ---- restore ---- */

static void add_create(const struct restore_thread *t, const Img__PosixTimer *timer,
                       struct compel_batch *b) {
        struct kernel_sigevent ev = { .value = timer->sival_ptr,
                                      .signo = (int32_t)timer->si_signo,
                                      .notify = (int32_t)timer->it_sigev_notify };
        int32_t clock_id = (int32_t)timer->clock_id, id = (int32_t)timer->it_id;
        raddr_t at_ev, at_id;

        if (ev.notify & SIGEV_THREAD_ID) {
                ev.tid = timer->has_notify_thread_id ? timer->notify_thread_id : t->task->pid;
                if (!has_thread(t->task, ev.tid)) {
                        /* The thread has ended before the dump: the signal goes nowhere. */
                        ev.notify = SIGEV_NONE;
                        ev.tid = 0;
                } else if (clock_id == THREAD_CPU_CLOCK && ev.tid != t->tid)
                        clock_id = (int32_t)(~(uint32_t)ev.tid << 3 |
                                             6); /* CLOCK_THREAD_CPUTIME_ID of that thread */
        }
        compel_room(b, 2, sizeof(ev) + sizeof(id));
        at_ev = compel_copy(b, &ev, sizeof(ev));
        at_id = compel_copy(b, &id, sizeof(id));
        compel_call(b, "create its POSIX timers", SYS_timer_create, (uint64_t)clock_id, at_ev, at_id);
        /* Has it got that number? */
        compel_call(b, "give its POSIX timers their numbers", SYS_timer_getoverrun, (uint64_t)id);
}

/* The kernel counts upwards: use up the numbers in between. */
static void skip_ids(uint32_t from, uint32_t to, struct compel_batch *b) {
        const struct kernel_sigevent none = { .notify = SIGEV_NONE };

        for (uint32_t id = from; id < to; id++) {
                raddr_t at_ev, at_id;

                compel_room(b, 2, sizeof(none) + sizeof(id));
                at_ev = compel_copy(b, &none, sizeof(none));
                at_id = compel_copy(b, &id, sizeof(id));
                compel_call(b, "count up to the numbers of its POSIX timers", SYS_timer_create,
                            CLOCK_MONOTONIC, at_ev, at_id);
                compel_call(b, "count up to the numbers of its POSIX timers", SYS_timer_delete, id);
        }
}

static int restore(struct restore_thread *t, struct compel_batch *b,
                   struct ckpt_error *err __attribute__((unused))) {
        const Img__TaskTimers *timers = restore_task_core(t)->timers;
        uint32_t next = 0;
        bool by_id;

        if (!timers || timers->n_posix == 0)
                return 0;
        by_id = kernel_has(&t->task->restore->kernel, KERNEL_TIMER_CR_IDS);
        if (by_id)
                compel_call(b, "choose numbers of POSIX timers", SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS,
                            PR_TIMER_CREATE_RESTORE_IDS_ON, 0, 0, 0);
        for (size_t i = 0; i < timers->n_posix; i++) {
                if (!by_id)
                        skip_ids(next, timers->posix[i]->it_id, b);
                add_create(t, timers->posix[i], b);
                next = timers->posix[i]->it_id + 1;
        }
        if (by_id)
                compel_call(b, "choose numbers of POSIX timers", SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS,
                            PR_TIMER_CREATE_RESTORE_IDS_OFF, 0, 0, 0);
        return 0;
}

const Img__PosixTimer *timer_of_signal(const struct restore_task *t, const Img__Siginfo *image) {
        const Img__TaskTimers *timers = t->threads[0].core->tc->timers;
        siginfo_t si;

        memcpy(&si, image->siginfo.data, sizeof(si));
        if (!timers || si.si_code != SI_TIMER)
                return NULL;
        for (size_t i = 0; i < timers->n_posix; i++) {
                const Img__PosixTimer *timer = timers->posix[i];

                if (timer->it_id == (uint32_t)si.si_timerid && timer->si_signo == (uint32_t)si.si_signo &&
                    (timer->it_sigev_notify & ~(uint32_t)SIGEV_THREAD_ID) != SIGEV_NONE)
                        return timer;
        }
        return NULL;
}

static bool queue_has(const struct restore_task *t, const Img__SignalQueue *queue,
                      const Img__PosixTimer *timer) {
        for (size_t i = 0; queue && i < queue->n_signals; i++)
                if (timer_of_signal(t, queue->signals[i]) == timer)
                        return true;
        return false;
}

bool timer_is_pending(const struct restore_task *t, const Img__PosixTimer *timer) {
        if (queue_has(t, t->threads[0].core->tc->signals_s, timer))
                return true;
        for (size_t i = t->leader_dead ? 1 : 0; i < t->nr_threads; i++)
                if (queue_has(t, t->threads[i].core->thread_core->signals_p, timer))
                        return true;
        return false;
}

static uint64_t interval_of(const Img__PosixTimer *timer) {
        return timer->isec * NS_PER_S + timer->insec;
}

static void add_settime(const Img__PosixTimer *timer, int flags, uint64_t value, struct compel_batch *b) {
        const struct itimerspec its = {
                .it_interval = { (time_t)timer->isec, (long)timer->insec },
                .it_value = { (time_t)(value / NS_PER_S), (long)(value % NS_PER_S) },
        };

        compel_call(b, "set its POSIX timers", SYS_timer_settime, timer->it_id, (uint64_t)flags,
                    compel_copy(b, &its, sizeof(its)), 0);
}

void timer_fire(const struct restore *r, const Img__PosixTimer *timer, struct compel_batch *b) {
        uint64_t now, interval = interval_of(timer), when = 1, next;

        /* Due since the last regular moment; the next one is then where it has to be. */
        if (interval > 0 && clock_now(r, (int32_t)timer->clock_id, &now)) {
                next = now + timer->vsec * NS_PER_S + timer->vnsec;
                when = next > interval && next - interval < now ? next - interval : now;
        }
        add_settime(timer, TIMER_ABSTIME, when, b);
}

/*
 * A timer's end is a moment on its clock. During the same boot that moment is kept, as for a process that was
 * stopped for a while, and so it is where the clock goes on from where it was; other boots have other clocks, and what
 * was left is left.
 */
static int arm(struct restore_thread *t, struct compel_batch *b,
               struct ckpt_error *err __attribute__((unused))) {
        const Img__TaskTimers *timers = restore_task_core(t)->timers;
        char boot_id[BOOT_ID_SIZE] = "";
        bool same_boot;

        if (!timers || timers->n_posix == 0)
                return 0;
        if (timers->boot_id)
                read_boot_id(boot_id);
        same_boot = *boot_id && strcmp(boot_id, timers->boot_id) == 0;
        for (size_t i = 0; i < timers->n_posix; i++) {
                const Img__PosixTimer *timer = timers->posix[i];
                uint64_t left = timer->vsec * NS_PER_S + timer->vnsec;

                if (left == 0 || timer_is_pending(t->task, timer))
                        continue;
                if (timer->has_expires_ns && timer->expires_ns > 0 &&
                    (same_boot || time_put_ahead(t->task->restore, (int32_t)timer->clock_id) > 0))
                        add_settime(timer, TIMER_ABSTIME, (uint64_t)timer->expires_ns, b);
                else
                        add_settime(timer, 0, left, b);
        }
        return 0;
}

const struct task_kind kind_posix_timers = {
        .name = "POSIX timers",
        .phase = TASK_PHASE_PROCESS,
        .read = read_timers,
        .ask = ask,
        .answer = answer,
        .check = check,
        .restore = restore,
};

const struct task_kind kind_posix_timers_arm = {
        .name = "POSIX timers, armed",
        .phase = TASK_PHASE_LAST,
        .restore = arm,
};
