/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pending signals, of the process and of each thread, oldest first: PTRACE_PEEKSIGINFO (Linux 3.10), and
 * rt_sigqueueinfo(2), by which a thread may send itself whatever it likes.
 */
#include <errno.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "image/wire_values.h"
#include "task/internal.h"
#include "task/timers.h"

enum {
        SIGINFO_SIZE = 128,
        PEEK_COUNT = 32,
        SET_SIZE = 8,
        SYS_PRIVATE_OFFSET =
                32, /* si_sys_private of SI_TIMER: between kernel and timer, of no meaning later */
};

DEFINE_VEC(siginfo_vec, siginfo_t);

_Static_assert(sizeof(siginfo_t) == SIGINFO_SIZE, "the format's siginfo is the kernel's");

#define SIGBIT(sig) (1ULL << ((sig)-1))

/* ---- dump ---- */

static int peek(const struct compel_thread *t, uint32_t flags, struct siginfo_vec *ret) {
        siginfo_t buf[PEEK_COUNT];
        int n;

        do {
                n = compel_peek_siginfo(t, flags, ret->n, buf, PEEK_COUNT);
                if (n < 0)
                        return n;
                for (int i = 0; i < n; i++)
                        if (siginfo_vec_push(ret, buf[i]) < 0)
                                return -ENOMEM;
        } while (n == PEEK_COUNT);
        return 0;
}

/* When memory or the limit of pending signals ran out, a signal is pending without its siginfo. */
static int add_bare(uint64_t pending, struct siginfo_vec *ret) {
        for (size_t i = 0; i < ret->n; i++)
                if (ret->v[i].si_signo >= 1 && ret->v[i].si_signo <= 64)
                        pending &= ~SIGBIT(ret->v[i].si_signo);
        for (int sig = 1; sig <= 64; sig++) {
                siginfo_t *si;

                if (!(pending & SIGBIT(sig)))
                        continue;
                si = siginfo_vec_add(ret);
                if (!si)
                        return -ENOMEM;
                si->si_signo = sig;
                si->si_code = SI_USER;
        }
        return 0;
}

static const Img__PosixTimer *find_timer(const struct dump_thread *t, const siginfo_t *si) {
        const Img__TaskTimers *timers = dump_task_core(t)->timers;

        for (size_t i = 0; i < timers->n_posix; i++)
                if (timers->posix[i]->it_id == (uint32_t)si->si_timerid)
                        return timers->posix[i];
        return NULL;
}

/*
 * A timer that has fired since the timers were read will do so again once restored: its signal came too late to be
 * seen.
 */
static bool came_later(const struct dump_thread *t, bool shared, const siginfo_t *si) {
        bool interval = si->si_code == SI_KERNEL &&
                        (si->si_signo == SIGALRM || si->si_signo == SIGVTALRM || si->si_signo == SIGPROF);
        const Img__PosixTimer *timer;

        if (!interval && si->si_code != SI_TIMER)
                return false;
        if (shared && !(t->task->sig_pending & SIGBIT(si->si_signo)))
                return true;
        timer = interval ? NULL : find_timer(t, si);
        return timer && timer->isec == 0 && timer->insec == 0 && (timer->vsec || timer->vnsec);
}

static Img__SignalQueue *queue_to_image(const struct dump_thread *t, bool shared,
                                        const struct siginfo_vec *queue) {
        struct arena *a = t->arena;
        Img__SignalQueue *image = arena_message(a, Img__SignalQueue, img__signal_queue__init);

        image->signals = arena_new_array(a, Img__Siginfo *, queue->n);
        for (size_t i = 0; i < queue->n; i++) {
                Img__Siginfo *si;

                if (came_later(t, shared, &queue->v[i]))
                        continue;
                si = arena_message(a, Img__Siginfo, img__siginfo__init);
                si->siginfo.data = arena_copy(a, &queue->v[i], SIGINFO_SIZE);
                si->siginfo.len = SIGINFO_SIZE;
                image->signals[image->n_signals++] = si;
        }
        return image;
}

static int read_queue(struct dump_thread *t, uint64_t pending, bool shared, Img__SignalQueue **ret,
                      struct ckpt_error *err) {
        _cleanup_(siginfo_vec_done) struct siginfo_vec queue = { 0 };
        int r;

        r = peek(&t->stop, shared ? PTRACE_PEEKSIGINFO_SHARED : 0, &queue);
        if (r == 0)
                r = add_bare(pending, &queue);
        /* A SIGSTOP that came while ptrace held the process; it is to stop when it runs on. */
        if (r == 0 && shared && t->stop.stop_pending)
                r = add_bare(SIGBIT(SIGSTOP), &queue);
        if (r < 0)
                return ckpt_error_errno(err, r, "%s: cannot read its pending signals", dump_thread_name(t));
        *ret = queue_to_image(t, shared, &queue);
        return 0;
}

/* Behind the timers, which the first passage through the agent has read. */
static int answer_shared(struct dump_thread *t, struct compel_batch *b __attribute__((unused)),
                         void *asked __attribute__((unused)), struct ckpt_error *err) {
        return read_queue(t, t->status.shd_pnd, true, &dump_task_core(t)->signals_s, err);
}

static int answer_private(struct dump_thread *t, struct compel_batch *b __attribute__((unused)),
                          void *asked __attribute__((unused)), struct ckpt_error *err) {
        return read_queue(t, t->status.sig_pnd, false, &dump_thread_core(t)->signals_p, err);
}

/* ---- restore ---- */

static siginfo_t siginfo_of(const Img__Siginfo *image) {
        siginfo_t si;

        memcpy(&si, image->siginfo.data, sizeof(si));
        return si;
}

static int check_queue(struct restore_thread *t, const Img__SignalQueue *queue, struct ckpt_error *err) {
        for (size_t i = 0; queue && i < queue->n_signals; i++) {
                const Img__Siginfo *si = queue->signals[i];
                int signo = si->siginfo.len == SIGINFO_SIZE ? siginfo_of(si).si_signo : 0;

                if (signo < 1 || signo > 64 || signo == SIGKILL)
                        return ckpt_error(err, -EBADMSG, "%s has a pending signal that makes no sense",
                                          restore_thread_name(t));
                /* Nothing blocks it: pending, it is about to stop the process. */
                if (signo == SIGSTOP) {
                        restore_task_core(t)->task_state = WIRE_TASK_STOPPED;
                        restore_task_core(t)->has_stop_signo = true;
                        restore_task_core(t)->stop_signo = SIGSTOP;
                }
        }
        return 0;
}

static int check_shared(struct restore_thread *t, struct ckpt_error *err) {
        return check_queue(t, restore_task_core(t)->signals_s, err);
}

static int check_private(struct restore_thread *t, struct ckpt_error *err) {
        return check_queue(t, restore_thread_core(t)->signals_p, err);
}

bool signal_is_pending(const struct restore_task *t, int signo) {
        const Img__SignalQueue *queue = t->threads[0].core->tc->signals_s;

        for (size_t i = 0; queue && i < queue->n_signals; i++)
                if (siginfo_of(queue->signals[i]).si_signo == signo)
                        return true;
        return false;
}

static void queue_signal(pid_t tgid, pid_t tid, const Img__Siginfo *image, struct compel_batch *b) {
        siginfo_t si = siginfo_of(image);
        raddr_t at;

        if (si.si_signo == SIGSTOP)
                return;
        if (si.si_code == SI_TIMER)
                memset((char *)&si + SYS_PRIVATE_OFFSET, 0, sizeof(int));
        at = compel_copy(b, &si, sizeof(si));
        if (tid)
                compel_call(b, "queue its pending signals", SYS_rt_tgsigqueueinfo, (uint64_t)tgid,
                            (uint64_t)tid, (uint64_t)si.si_signo, at);
        else
                compel_call(b, "queue its pending signals", SYS_rt_sigqueueinfo, (uint64_t)tgid,
                            (uint64_t)si.si_signo, at);
}

/* While the tree was built, children died: the parents have been told, as nobody else has to know. */
static void forget_sigchld(struct compel_batch *b) {
        const uint64_t set = SIGBIT(SIGCHLD), zero[2] = { 0, 0 };
        struct compel_op *op;
        raddr_t at_set, at_zero;

        compel_room(b, 1, 2 * sizeof(zero) + sizeof(set));
        at_set = compel_copy(b, &set, sizeof(set));
        at_zero = compel_copy(b, zero, sizeof(zero));
        op = compel_call(b, "forget signals of the restore", SYS_rt_sigtimedwait, at_set, 0, at_zero,
                         SET_SIZE);
        op->check = COMPEL_CHECK_NOTHING;
}

/* Timers whose signal is pending for a thread fire from here, too; the kernel knows where it belongs. */
static void fire_for_threads(const struct restore_task *task, struct compel_batch *b) {
        for (size_t i = task->leader_dead ? 1 : 0; i < task->nr_threads; i++) {
                const Img__SignalQueue *queue = task->threads[i].core->thread_core->signals_p;

                for (size_t j = 0; queue && j < queue->n_signals; j++) {
                        const Img__PosixTimer *timer = timer_of_signal(task, queue->signals[j]);

                        if (timer)
                                timer_fire(task->restore, timer, b);
                }
        }
}

/*
 * A thread may queue signals that the kernel has made only to itself, and rt_sigqueueinfo(2) takes the leader's
 * number: a leader that is to be dead is still there and does it.
 */
static int restore_shared(struct restore_thread *t, struct compel_batch *b __attribute__((unused)),
                          struct ckpt_error *err __attribute__((unused))) {
        const Img__SignalQueue *queue = restore_task_core(t)->signals_s;
        struct compel_batch *leader = task_lane(t->task);

        forget_sigchld(leader);
        for (size_t i = 0; queue && i < queue->n_signals; i++) {
                const Img__PosixTimer *timer = timer_of_signal(t->task, queue->signals[i]);

                if (timer)
                        timer_fire(t->task->restore, timer, leader);
                else
                        queue_signal(t->task->pid, 0, queue->signals[i], leader);
        }
        fire_for_threads(t->task, leader);
        return 0;
}

static int restore_private(struct restore_thread *t, struct compel_batch *b,
                           struct ckpt_error *err __attribute__((unused))) {
        const Img__SignalQueue *queue = restore_thread_core(t)->signals_p;

        for (size_t i = 0; queue && i < queue->n_signals; i++)
                if (!timer_of_signal(t->task, queue->signals[i]))
                        queue_signal(t->task->pid, t->tid, queue->signals[i], b);
        return 0;
}

const struct task_kind kind_sigpending = {
        .name = "pending signals of the process",
        .phase = TASK_PHASE_LAST,
        .answer = answer_shared,
        .check = check_shared,
        .restore = restore_shared,
};

const struct task_kind kind_sigpending_thread = {
        .name = "pending signals",
        .per_thread = true,
        .phase = TASK_PHASE_LAST,
        .answer = answer_private,
        .check = check_private,
        .restore = restore_private,
};
