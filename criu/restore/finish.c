/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The last stage. Every thread waits in the agent; ptrace stops it there, takes the agent's memory
 * away, gives it the registers it had, and lets it go. While ptrace holds a thread, it dies with
 * ckpt (PTRACE_O_EXITKILL, Linux 3.8).
 */
#include <errno.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "image/wire_values.h"
#include "lib/fault.h"
#include "lib/kill_guard.h"
#include "lib/thread.h"
#include "log.h"
#include "macro.h"
#include "mem/mem.h"
#include "proc/proc.h"
#include "proc/stat.h"
#include "restore/stages.h"
#include "task/regs.h"
#include "task/syscall.h"

enum { STOP_TIMEOUT_MS = 10000 };

/* Below this many processes, or threads of one process, there is nothing to share. */
enum { SHARE_TASKS = 32, SHARE_THREADS = 64 };

typedef int (*thread_fn)(struct restore_thread *th, struct ckpt_error *err);

/* Call fn for every thread of a task that is to live; stops at the first error. */
static int for_each_living(struct restore_task *t, thread_fn fn, struct ckpt_error *err) {
        int ret = 0;

        for (size_t j = t->leader_dead ? 1 : 0; ret == 0 && j < t->nr_threads; j++)
                ret = fn(&t->threads[j], err);
        return ret;
}

static struct restore_thread *first_living(struct restore_task *t) {
        return &t->threads[t->leader_dead ? 1 : 0];
}

static bool is_zombie(const struct restore_task *t) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat;

        return proc_open(t->pid, &dir) < 0 || proc_stat_read(&dir, &buf, &stat) < 0 || stat.state == 'Z';
}

/* A leader that had exited before the others does so again; its status comes out when the last of them ends. */
static void end_dead_leaders(struct restore *r) {
        struct timespec pause = { 0, 100000 };

        for (size_t i = 0; i < r->nr_tasks; i++) {
                struct restore_task *t = r->tasks[i];
                const char *name;

                if (t->kind != RESTORE_TASK_LIVE || !t->leader_dead)
                        continue;
                name = t->threads[0].core->tc->comm;
                compel_call(task_lane(t), "set its name", SYS_prctl, PR_SET_NAME,
                            compel_copy(task_lane(t), name, strnlen(name, 15) + 1));
                compel_call(task_lane(t), "exit", SYS_exit, t->threads[0].core->tc->exit_code >> 8 & 0xff);
                compel_start(task_lane(t));
                while (!is_zombie(t))
                        nanosleep(&pause, NULL);
        }
}

static bool to_be_stopped(const struct restore_task *t) {
        return t->kind == RESTORE_TASK_LIVE &&
               (t->restore->opts->leave_stopped || t->threads[0].core->tc->task_state == WIRE_TASK_STOPPED);
}

/* ---- who traces what ---- */

static bool is_large(const struct restore *r) {
        for (size_t i = 0; i < r->nr_tasks; i++)
                if (r->tasks[i]->nr_threads >= SHARE_THREADS)
                        return true;
        return r->nr_tasks >= SHARE_TASKS;
}

/* Threads with filters have been attached to by the main thread. */
static int start_tracers(struct restore *r, struct ckpt_error *err) {
        unsigned int cpus = thread_cpus();

        if (cpus < 2 || r->seccomp || !is_large(r))
                return 0;
        return team_create(cpus, &r->tracers) < 0
                       ? ckpt_error_errno(err, -ENOMEM, "cannot start threads that stop the tree")
                       : 0;
}

/* Of a process that several share, the main thread has the one that makes its last system call. */
static unsigned int tracer_of(const struct restore_thread *th) {
        struct restore_task *t = th->task;
        unsigned int n = team_size(t->restore->tracers);

        if (to_be_stopped(t))
                return 0;
        if (t->nr_threads < SHARE_THREADS)
                return (unsigned int)t->pid % n;
        return th == first_living(t) ? 0 : (unsigned int)th->tid % n;
}

/* Something to be done to all threads, of the tasks that are to be stopped or of those that are not. */
struct sharing {
        struct restore *r;
        bool stopped;
        thread_fn fn;
};

static int thread_part(void *arg, unsigned int tracer, struct ckpt_error *err) {
        const struct sharing *s = arg;
        int ret = 0;

        for (size_t i = 0; i < s->r->nr_tasks; i++) {
                struct restore_task *t = s->r->tasks[i];

                if (t->kind != RESTORE_TASK_LIVE || to_be_stopped(t) != s->stopped)
                        continue;
                for (size_t j = t->leader_dead ? 1 : 0; ret == 0 && j < t->nr_threads; j++)
                        if (tracer_of(&t->threads[j]) == tracer)
                                ret = s->fn(&t->threads[j], err);
        }
        return ret;
}

/* By whoever traces them. */
static int for_threads(struct restore *r, bool stopped, thread_fn fn, struct ckpt_error *err) {
        struct sharing s = { .r = r, .stopped = stopped, .fn = fn };

        return team_run(stopped ? NULL : r->tracers, TEAM_ALL, thread_part, &s, err);
}

static int for_each_thread(struct restore *r, thread_fn fn, struct ckpt_error *err) {
        int ret = for_threads(r, true, fn, err);

        return ret < 0 ? ret : for_threads(r, false, fn, err);
}

/* ---- stopping ---- */

static int start_interrupted_call(struct restore_thread *th, struct ckpt_error *err) {
        return syscall_must_reissue(th) ? syscall_start(th, err) : 0;
}

static int seize(struct restore_thread *th, struct ckpt_error *err) {
        int r;

        /* With seccomp filters it has been attached to before they were made. */
        r = th->stop.seized ? compel_interrupt_later(&th->stop)
                            : compel_seize(&th->stop, th->tid, PTRACE_O_EXITKILL);

        th->stop.dies = true;
        return r < 0 ? ckpt_error_errno(err, r, "pid %d: cannot stop it for the last time", th->tid) : 0;
}

/* Registers matter of the one that makes the last system call, and where a call has been started again. */
static int wait_stop(struct restore_thread *th, struct ckpt_error *err) {
        bool matter = th == first_living(th->task) || th->lane.started;
        int r = (matter ? compel_wait_stop : compel_wait_stop_only)(&th->stop, STOP_TIMEOUT_MS);

        return r < 0 ? ckpt_error_errno(err, r, "pid %d: it does not stop for the last time", th->tid) : 0;
}

/* ---- removing the agent, in three steps that all tasks take side by side ---- */

static int start_unmapping(struct restore_task *t, struct ckpt_error *err) {
        const uint64_t arg[6] = { compel_host_addr(t->restore->host), compel_host_size(t->restore->host) };
        raddr_t insn = mem_syscall_insn(t);
        int r;

        if (insn == 0)
                return ckpt_error(err, -ENOTSUP,
                                  "%s has no executable memory from which to remove the agent",
                                  restore_task_name(t));
        r = compel_remote_start(&first_living(t)->stop, insn, SYS_munmap, arg);
        return r < 0 ? ckpt_error_errno(err, r, "%s: cannot have it unmap the agent", restore_task_name(t))
                     : 0;
}

static int do_unmapping(struct restore_task *t, struct ckpt_error *err) {
        int r = compel_remote_enter(&first_living(t)->stop);

        return r < 0 ? ckpt_error_errno(err, r, "%s: cannot have it unmap the agent", restore_task_name(t))
                     : 0;
}

static int end_unmapping(struct restore_task *t, struct ckpt_error *err) {
        int64_t result = 0;
        int r = compel_remote_end(&first_living(t)->stop, &result);

        if (r == 0 && result < 0)
                r = (int)result;
        return r < 0 ? ckpt_error_errno(err, r, "%s: cannot unmap the agent", restore_task_name(t)) : 0;
}

/* Seize all threads of all tasks that are to be stopped, or of those that are not, before the first is waited for. */
static int stop_for_good(struct restore *r, bool stopped, struct ckpt_error *err) {
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_LIVE && to_be_stopped(r->tasks[i]) == stopped)
                        ret = for_each_living(r->tasks[i], start_interrupted_call, err);
        if (ret == 0)
                ret = for_threads(r, stopped, seize, err);
        if (ret == 0)
                ret = for_threads(r, stopped, wait_stop, err);
        return ret;
}

static int unmap_part(void *arg, unsigned int tracer, struct ckpt_error *err) {
        static int (*const steps[])(struct restore_task *,
                                    struct ckpt_error *) = { start_unmapping, do_unmapping, end_unmapping };
        const struct sharing *sh = arg;
        int ret = 0;

        for (size_t s = 0; ret == 0 && s < ELEMENTSOF(steps); s++)
                for (size_t i = 0; ret == 0 && i < sh->r->nr_tasks; i++) {
                        struct restore_task *t = sh->r->tasks[i];

                        if (t->kind != RESTORE_TASK_LIVE || to_be_stopped(t) != sh->stopped ||
                            tracer_of(first_living(t)) != tracer)
                                continue;
                        ret = steps[s](t, err);
                        if (ret == 0 && s == 2 && i == sh->r->nr_tasks / 2)
                                ret = fault_point_error(FAULT_RESTORE_FINISH_HALF, err);
                }
        return ret;
}

static int unmap_hosts(struct restore *r, bool stopped, struct ckpt_error *err) {
        struct sharing s = { .r = r, .stopped = stopped };

        return team_run(stopped ? NULL : r->tracers, TEAM_ALL, unmap_part, &s, err);
}

static int job_stop(struct restore_task *t, struct ckpt_error *err) {
        struct compel_thread **threads = arena_new_array(&t->arena, struct compel_thread *, t->nr_threads);
        size_t n = 0;
        int r;

        for (size_t i = t->leader_dead ? 1 : 0; i < t->nr_threads; i++)
                threads[n++] = &t->threads[i].stop;
        r = compel_job_stop(t->pid, threads, n, STOP_TIMEOUT_MS);
        return r < 0 ? ckpt_error_errno(err, r, "%s: cannot stop it as it was", restore_task_name(t)) : 0;
}

static bool has_sigchld(const struct restore_task *t) {
        const Img__SignalQueue *queue = t->threads[0].core->tc->signals_s;

        for (size_t i = 0; queue && i < queue->n_signals; i++) {
                siginfo_t si;

                if (queue->signals[i]->siginfo.len < sizeof(si))
                        continue;
                memcpy(&si, queue->signals[i]->siginfo.data, sizeof(si));
                if (si.si_signo == SIGCHLD)
                        return true;
        }
        return false;
}

/* That its child has stopped is old news to the parent: discard the SIGCHLD, which an ignored action does. */
static int forget_stop(struct restore_task *parent, struct ckpt_error *err) {
        struct compel_batch *b = &first_living(parent)->lane;
        const uint64_t dfl[4] = { 0 };
        raddr_t old;

        if (to_be_stopped(parent) || has_sigchld(parent))
                return 0;
        compel_room(b, 3, 2 * sizeof(dfl));
        compel_data(b, sizeof(dfl), &old);
        compel_call(b, "read its action for SIGCHLD", SYS_rt_sigaction, SIGCHLD, 0, old, 8);
        compel_call(b, "discard a SIGCHLD", SYS_rt_sigaction, SIGCHLD, compel_copy(b, dfl, sizeof(dfl)), 0,
                    8);
        compel_call(b, "put back its action for SIGCHLD", SYS_rt_sigaction, SIGCHLD, old, 0, 8);
        return compel_run(b, err);
}

/* Those that were stopped come first, while their parents still wait in the agent. */
static int stop_stopped(struct restore *r, struct ckpt_error *err) {
        int ret;

        ret = stop_for_good(r, true, err);
        if (ret == 0)
                ret = unmap_hosts(r, true, err);
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (to_be_stopped(r->tasks[i]))
                        ret = job_stop(r->tasks[i], err);
        for (size_t i = 0; ret == 0 && i < r->nr_tasks; i++)
                if (to_be_stopped(r->tasks[i]) && r->tasks[i]->parent)
                        ret = forget_stop(r->tasks[i]->parent, err);
        return ret;
}

int finish(struct restore *r, struct ckpt_error *err) {
        int ret;

        ret = fault_point_error(FAULT_RESTORE_BEFORE_FINISH, err);
        if (ret == 0)
                end_dead_leaders(r);
        if (ret == 0)
                ret = stop_stopped(r, err);
        if (ret == 0)
                ret = start_tracers(r, err);
        if (ret == 0)
                ret = stop_for_good(r, false, err);
        if (ret == 0)
                ret = unmap_hosts(r, false, err);
        if (ret == 0)
                ret = for_each_thread(r, regs_restore_thread, err);
        if (ret == 0)
                ret = fault_point_error(FAULT_RESTORE_FINISHED, err);
        return ret;
}

/* From here on the death of ckpt lets it run instead of killing it. */
static int keep_alive(struct restore_thread *th, struct ckpt_error *err __attribute__((unused))) {
        if (syscall(SYS_ptrace, PTRACE_SETOPTIONS, th->tid, 0, 0) < 0)
                log_error("pid %d died before it was let go", th->tid);
        return 0;
}

static int let_go(struct restore_thread *th, struct ckpt_error *err __attribute__((unused))) {
        compel_release(&th->stop);
        return 0;
}

/* It stops by itself, but only when it next gets a CPU, and the user was told that it is stopped. */
static int wait_stopped(struct restore_thread *th, struct ckpt_error *err __attribute__((unused))) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;

        if (proc_open(th->tid, &dir) == 0 && proc_wait_stopped(&dir, STOP_TIMEOUT_MS) < 0)
                log_warn("pid %d has not stopped yet, it does when it next runs", th->tid);
        return 0;
}

/* Until all have been told, the death of ckpt is still that of the whole tree. */
static int arm_guard(struct restore *r, struct kill_guard *guard, struct ckpt_error *err) {
        _cleanup_(pid_vec_done) struct pid_vec pids = { 0 };
        int ret;

        for (size_t i = 0; i < r->nr_tasks; i++)
                if (r->tasks[i]->kind == RESTORE_TASK_LIVE && pid_vec_push(&pids, r->tasks[i]->pid) < 0)
                        return ckpt_error_errno(err, -ENOMEM, "cannot let go of the tree");
        ret = kill_guard_start(guard, err);
        return ret < 0 ? ret : kill_guard_arm(guard, pids.v, pids.n, err);
}

int resume(struct restore *r, struct ckpt_error *err) {
        _cleanup_(kill_guard_end) struct kill_guard guard = KILL_GUARD_INIT;
        int ret;

        ret = arm_guard(r, &guard, err);
        if (ret < 0)
                return ret;
        for_each_thread(r, keep_alive, NULL);
        kill_guard_disarm(&guard);
        for_each_thread(r, let_go, NULL);
        for (size_t i = 0; i < r->nr_tasks; i++)
                if (to_be_stopped(r->tasks[i]))
                        for_each_living(r->tasks[i], wait_stopped, NULL);
        return 0;
}
