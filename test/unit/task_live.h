/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * task/ on living processes: a child brings itself into some state, is stopped and collected; a hosted process with the
 * same pid and a copy of its memory goes through all phases; it is collected again and compared, then let go, and
 * looks at itself.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/ptrace.h>
#include <linux/securebits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "compel/compel.h"
#include "dump/blockers.h"
#include "dump/model.h"
#include "macro.h"
#include "mem/mem.h"
#include "proc/maps.h"
#include "restore/model.h"
#include "task/kind.h"
#include "task/regs.h"
#include "task/syscall.h"

/* ---- a child and its state ---- */

static int to_child[2], from_child[2];

static inline void say(char c) {
        if (write(from_child[1], &c, 1) != 1)
                _exit(99);
}

static inline void hear(void) {
        char c;
        ssize_t n;

        do
                n = read(to_child[0], &c, 1);
        while (n < 0 && errno == EINTR);
        if (n != 1)
                _exit(98);
}

/* For children: there is no test to fail in them. */
#define CHECK(cond)                                                                                         \
        do {                                                                                                \
                if (!(cond)) {                                                                              \
                        dprintf(2, "child %d, line %d: %s (errno %d)\n", getpid(), __LINE__, #cond, errno); \
                        _exit(97);                                                                          \
                }                                                                                           \
        } while (0)

/* ---- dump ---- */

enum { STOP_MS = 60000 }; /* for what takes microseconds on an idle machine */

static struct dump dump;
static struct dump_task dumped;

/* When the last thread that was stopped was so. */
static uint64_t stopped_at;

static inline uint64_t now_ns(clockid_t clock) {
        struct timespec ts;

        clock_gettime(clock, &ts);
        return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static inline void stop_all(struct dump_task *t, pid_t pid) {
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        *t = (struct dump_task){ .dump = &dump, .pid = pid, .other = PROC_DIR_INIT };
        assert_int_equal(proc_open(pid, &t->proc), 0);
        assert_int_equal(proc_stat_read(&t->proc, &buf, &t->stat), 0);
        task_look(t);
        assert_int_equal(proc_tids(&t->proc, &tids), 0);
        t->threads = calloc(tids.n, sizeof(*t->threads));
        for (size_t i = 0; i < tids.n; i++) {
                struct dump_thread *th = &t->threads[t->nr_threads];
                const struct proc_dir *dir;
                struct proc_stat stat;

                *th = (struct dump_thread){
                        .task = t, .tid = tids.v[i], .own_proc = PROC_DIR_INIT, .arena = &t->arena
                };
                assert_int_equal(dump_thread_proc(th, &dir), 0);
                assert_int_equal(proc_stat_read(dir, &buf, &stat), 0);
                if (stat.state == 'Z') {
                        proc_close(&th->own_proc);
                        continue;
                }
                assert_int_equal(compel_seize(&th->stop, th->tid, 0), 0);
                assert_int_equal(compel_wait_stop(&th->stop, STOP_MS), 0);
                t->nr_threads++;
        }
        assert_true(t->nr_threads > 0);
        t->leader_dead = t->threads[0].tid != pid;
        stopped_at = now_ns(CLOCK_MONOTONIC);
}

static inline void collect(struct dump_task *t) {
        struct ckpt_error err = CKPT_ERROR_INIT;
        int r = task_collect(&t, 1, &err);

        if (r < 0)
                fail_msg("task_collect: %s", ckpt_error_message(&err));
        r = task_collect_aside(t, &err);
        if (r < 0)
                fail_msg("task_collect_aside: %s", ckpt_error_message(&err));
        t->leader_core->tc->task_state = 1;
}

static inline void let_go(struct dump_task *t) {
        for (size_t i = 0; i < t->nr_threads; i++) {
                compel_release(&t->threads[i].stop);
                proc_close(&t->threads[i].own_proc);
                proc_status_done(&t->threads[i].status);
        }
        free(t->threads);
        mem_dump_free(&t->mem);
        pid_vec_done(&t->tids);
        proc_close(&t->proc);
        arena_done(&t->arena);
        *t = (struct dump_task){ .other = PROC_DIR_INIT };
}

/* ---- restore ---- */

enum { SYS_set_thread_area_32 = 243 }; /* by int $0x80 */

enum { HOST_SIZE = 8 << 20, LANE = 32 * 1024, LEADER_LANE = 256 * 1024 };

static struct restore restore;
static struct restore_task restored;
static struct restore_task *task_list[1] = { &restored };

static inline Img__Core *copy_core(const Img__Core *core) {
        size_t size = img__core__get_packed_size(core);
        uint8_t *buf = malloc(size);
        Img__Core *copy;

        img__core__pack(core, buf);
        copy = img__core__unpack(NULL, size, buf);
        free(buf);
        assert_non_null(copy);
        return copy;
}

static inline void load(const struct dump_task *t) {
        size_t extra = t->leader_dead ? 1 : 0;

        restored = (struct restore_task){ .restore = &restore,
                                          .kind = RESTORE_TASK_LIVE,
                                          .pid = t->pid,
                                          .leader_dead = t->leader_dead,
                                          .nr_threads = t->nr_threads + extra };
        restored.threads = calloc(restored.nr_threads, sizeof(*restored.threads));
        restored.mm = calloc(1, sizeof(*restored.mm));
        img__mm__init(restored.mm);
        restored.mm->has_dumpable = restored.mm->has_thp_disabled = true;
        restored.mm->dumpable = t->dumpable;
        restored.mm->thp_disabled = t->thp_disabled;
        if (t->leader_dead)
                restored.threads[0] =
                        (struct restore_thread){ .tid = t->pid, .core = copy_core(t->leader_core) };
        for (size_t i = 0; i < t->nr_threads; i++)
                restored.threads[i + extra] =
                        (struct restore_thread){ .tid = t->threads[i].tid,
                                                 .core = copy_core(t->threads[i].core) };
        for (size_t i = 0; i < restored.nr_threads; i++)
                restored.threads[i].task = &restored;
}

struct memory {
        uint64_t start, size;
        bool stack;
        char *data;
};

static struct memory memory[512];
static size_t nr_memory;

/* Everything private and writable of the child. */
static inline void save_memory(const struct dump_task *t) {
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_proc_dir_ struct proc_dir living = PROC_DIR_INIT;

        nr_memory = 0;
        /* The directory of a leader that has exited shows no memory. */
        assert_int_equal(proc_open(t->threads[0].tid, &living), 0);
        assert_int_equal(proc_maps_read(&living, &buf, &maps), 0);
        for (size_t i = 0; i < maps.n; i++) {
                const struct proc_vma *v = &maps.v[i];
                struct memory *m = &memory[nr_memory];
                struct iovec local, remote;

                if (v->shared || (v->prot & (PROT_READ | PROT_WRITE)) != (PROT_READ | PROT_WRITE))
                        continue;
                assert_true(nr_memory < ELEMENTSOF(memory));
                *m = (struct memory){ v->start, v->end - v->start, v->kind == PROC_VMA_STACK,
                                      malloc(v->end - v->start) };
                local = (struct iovec){ m->data, m->size };
                remote = (struct iovec){ (void *)(uintptr_t)m->start, m->size };
                assert_int_equal(process_vm_readv(t->threads[0].tid, &local, 1, &remote, 1, 0), m->size);
                nr_memory++;
        }
}

static inline void put_memory(struct compel_batch *b, pid_t pid) {
        struct ckpt_error err = CKPT_ERROR_INIT;

        for (size_t i = 0; i < nr_memory; i++) {
                struct memory *m = &memory[i];
                struct compel_op *op;

                if (m->stack)
                        continue;
                op = compel_call(b, "map memory", SYS_mmap, m->start, m->size, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, (uint64_t)-1, 0);
                op->check = COMPEL_CHECK_EQUAL;
                op->want = (int64_t)m->start;
        }
        if (compel_run(b, &err) < 0)
                fail_msg("%s", ckpt_error_message(&err));
        for (size_t i = 0; i < nr_memory; i++) {
                struct memory *m = &memory[i];
                struct iovec local = { m->data, m->size }, remote = { (void *)(uintptr_t)m->start, m->size };

                assert_int_equal(process_vm_writev(pid, &local, 1, &remote, 1, 0), m->size);
                free(m->data);
        }
}

/* A hosted process with all its threads, the pids of the images, the child's memory. */
static inline void build(void) {
        struct clone_args args = { .exit_signal = SIGCHLD,
                                   .set_tid = compel_arg(&restored.pid),
                                   .set_tid_size = 1 };
        struct ckpt_error err = CKPT_ERROR_INIT;
        pid_t pid;
        int r;

        r = compel_host_create(0x10000000000, HOST_SIZE, &restore.host, &err);
        for (size_t i = 0; r == 0 && i < restored.nr_threads; i++) {
                r = compel_host_lane(restore.host, i ? LANE : LEADER_LANE, &restored.threads[i].lane, &err);
                restored.threads[i].lane.tid = restored.threads[i].tid;
        }
        if (r == 0)
                r = compel_host_clone(restore.host, task_lane(&restored), &args, &pid, &err);
        if (r < 0)
                fail_msg("host: %s", ckpt_error_message(&err));
        put_memory(task_lane(&restored), pid);
        for (size_t i = 1; i < restored.nr_threads; i++) {
                struct clone_args thread = {
                        .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                 CLONE_SYSVSEM,
                        .set_tid = compel_arg(&restored.threads[i].tid),
                        .set_tid_size = 1,
                };

                compel_add_clone(task_lane(&restored), "clone a thread", &thread, &restored.threads[i].lane);
        }
        if (compel_run(task_lane(&restored), &err) < 0)
                fail_msg("threads: %s", ckpt_error_message(&err));
}

static inline void unmap_host(struct restore_thread *t) {
        const uint64_t arg[6] = { compel_host_addr(restore.host), HOST_SIZE };
        struct ckpt_error err = CKPT_ERROR_INIT;
        raddr_t insn;
        int64_t result;

        assert_int_equal(compel_find_syscall_insn(t->tid, &insn), 0);
        if (compel_remote_syscall(&t->stop, insn, SYS_munmap, arg, &result, &err) < 0 || result != 0)
                fail_msg("munmap: %s", ckpt_error_message(&err));
}

static inline void end_dead_leader(void) {
        if (!restored.leader_dead)
                return;
        compel_call(task_lane(&restored), "exit", SYS_exit, 0);
        compel_start(task_lane(&restored));
}

#define TRY(call)                                                             \
        do {                                                                  \
                struct ckpt_error err_ = CKPT_ERROR_INIT;                     \
                if ((call) < 0)                                               \
                        fail_msg("%s: %s", #call, ckpt_error_message(&err_)); \
        } while (0)

static inline void phases(void) {
        TRY(task_check(&restored, &err_));
        TRY(task_restore(&restore, &err_));
}

static inline void finish(void) {
        size_t first = restored.leader_dead ? 1 : 0;

        end_dead_leader();
        for (size_t i = first; i < restored.nr_threads; i++)
                if (syscall_must_reissue(&restored.threads[i]))
                        TRY(syscall_start(&restored.threads[i], &err_));
        for (size_t i = first; i < restored.nr_threads; i++)
                assert_int_equal(compel_seize(&restored.threads[i].stop, restored.threads[i].tid, 0), 0);
        for (size_t i = first; i < restored.nr_threads; i++)
                assert_int_equal(compel_wait_stop(&restored.threads[i].stop, STOP_MS), 0);
        unmap_host(&restored.threads[first]);
        for (size_t i = first; i < restored.nr_threads; i++)
                TRY(regs_restore_thread(&restored.threads[i], &err_));
}

static inline void release(void) {
        for (size_t i = 0; i < restored.nr_threads; i++) {
                compel_release(&restored.threads[i].stop);
                compel_batch_done(&restored.threads[i].lane);
                img__core__free_unpacked(restored.threads[i].core, NULL);
        }
        free(restored.threads);
        free(restored.mm);
        arena_done(&restored.arena);
        compel_host_free(&restore.host);
}

/* ---- the whole way ---- */

/* What is left of a timer: some of it may have passed meanwhile, but no more than a machine can be slow. */
static inline void forget_left(uint64_t *was_sec, uint64_t *was_fraction, uint64_t *is_sec,
                               uint64_t *is_fraction) {
        assert_int_equal(*was_sec || *was_fraction, *is_sec || *is_fraction);
        assert_true(*is_sec <= *was_sec && *was_sec - *is_sec < 200);
        *was_sec = *was_fraction = *is_sec = *is_fraction = 0;
}

static inline void forget_itimer(Img__Itimer *was, Img__Itimer *is) {
        forget_left(&was->vsec, &was->vusec, &is->vsec, &is->vusec);
}

/* What passes between two looks at the same state. */
static inline void forget_times(Img__Core *was, Img__Core *is) {
        const Img__TaskTimers *a = was->tc ? was->tc->timers : NULL, *b = is->tc ? is->tc->timers : NULL;

        if (was->thread_core)
                was->thread_core->syscall = NULL;
        if (is->thread_core)
                is->thread_core->syscall = NULL;
        if (!a || !b)
                return; /* if it is one alone, the comparison tells */
        forget_itimer(a->real, b->real);
        forget_itimer(a->virt, b->virt);
        forget_itimer(a->prof, b->prof);
        assert_int_equal(a->n_posix, b->n_posix);
        for (size_t i = 0; i < a->n_posix; i++) {
                Img__PosixTimer *x = a->posix[i], *y = b->posix[i];

                forget_left(&x->vsec, &x->vnsec, &y->vsec, &y->vnsec);
                x->expires_ns = y->expires_ns = 0;
        }
}

static inline void assert_same_core(const Img__Core *a, const Img__Core *b) {
        size_t na = img__core__get_packed_size(a), nb = img__core__get_packed_size(b);
        uint8_t *pa = malloc(na), *pb = malloc(nb);

        img__core__pack(a, pa);
        img__core__pack(b, pb);
        assert_int_equal(na, nb);
        assert_memory_equal(pa, pb, na);
        free(pa);
        free(pb);
}

/* The second collection must find what the first did. */
static inline void compare_again(void) {
        size_t first = restored.leader_dead ? 1 : 0;
        static struct dump_task again;
        static struct dump other;

        other = (struct dump){ .blockers = dump.blockers, .opts = dump.opts };
        again = (struct dump_task){ .dump = &other,
                                    .other = PROC_DIR_INIT,
                                    .pid = restored.pid,
                                    .leader_dead = restored.leader_dead };
        again.nr_threads = restored.nr_threads - first;
        again.threads = calloc(again.nr_threads, sizeof(*again.threads));
        assert_int_equal(proc_open(restored.pid, &again.proc), 0);
        for (size_t i = 0; i < again.nr_threads; i++) {
                struct dump_thread *th = &again.threads[i];

                *th = (struct dump_thread){ .task = &again,
                                            .own_proc = PROC_DIR_INIT,
                                            .arena = &again.arena,
                                            .tid = restored.threads[i + first].tid,
                                            .stop = restored.threads[i + first].stop };
        }
        collect(&again);
        assert_int_equal(again.dumpable, restored.mm->dumpable);
        assert_int_equal(again.thp_disabled, restored.mm->thp_disabled);
        for (size_t i = 0; i < again.nr_threads; i++) {
                Img__Core *was = copy_core(restored.threads[i + first].core),
                          *is = copy_core(again.threads[i].core);

                forget_times(was, is);
                assert_same_core(was, is);
                restored.threads[i + first].stop = again.threads[i].stop;
                again.threads[i].stop.seized = false;
        }
        let_go(&again);
        free(other.self);
}

static inline pid_t start(void (*child)(void)) {
        pid_t pid;
        char c;

        assert_int_equal(pipe(to_child), 0);
        assert_int_equal(pipe(from_child), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
                child();
                _exit(42);
        }
        assert_int_equal(read(from_child[0], &c, 1), 1);
        return pid;
}

static inline void reap(pid_t pid) {
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        for (int i = 0; i < 2; i++) {
                close(to_child[i]);
                close(from_child[i]);
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 42)
                fail_msg("the child ended with status %#x", (unsigned)status);
}

static inline void wait_asleep_thread(pid_t pid, pid_t tid) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT, thread = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat = { 0 };

        assert_int_equal(proc_open(pid, &dir), 0);
        assert_int_equal(proc_open_thread(&dir, tid, &thread), 0);
        while (stat.state != 'S') {
                assert_int_equal(proc_stat_read(&thread, &buf, &stat), 0);
                assert_int_not_equal(stat.state, 'Z');
                sched_yield();
        }
}

static inline void wait_asleep(pid_t pid) {
        wait_asleep_thread(pid, pid);
}

static inline void nap(int ms) {
        struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

        nanosleep(&ts, NULL);
}

static uint64_t moving_since;

static inline void move(pid_t pid) {
        int status;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        /* Of its memory, terabytes are a sanitizer's. */
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        skip();
#endif
        moving_since = now_ns(CLOCK_MONOTONIC);

        stop_all(&dumped, pid);
        collect(&dumped);
        load(&dumped);
        save_memory(&dumped);
        kill(pid, SIGKILL);
        /* A tracer reaps every thread; the leader comes last. */
        for (size_t i = dumped.nr_threads; i-- > 0;)
                while (waitpid(dumped.threads[i].tid, &status, __WALL) >= 0 && !WIFSIGNALED(status))
                        ;
        waitpid(pid, &status, 0);
        let_go(&dumped);
        build();
        phases();
        finish();
}

/* Dump, restore, compare; the child goes on once it is told to. */
static inline void round_trip(void (*child)(void), bool compare) {
        pid_t pid = start(child);

        wait_asleep(pid);
        move(pid);
        if (compare)
                compare_again();
        release();
        assert_int_equal(write(to_child[1], "g", 1), 1);
        reap(pid);
}

static inline void take(int sig, int code, int value) {
        struct timespec zero = { 0 };
        uint64_t set = 1ULL << (sig - 1);
        siginfo_t si = { 0 };

        CHECK(syscall(SYS_rt_sigtimedwait, &set, &si, &zero, 8) == sig);
        CHECK(si.si_code == code && (code != SI_QUEUE || si.si_value.sival_int == value));
}

/* ---- what the tests share ---- */

static volatile int *quit_flag;
static uint64_t *times; /* shared */
/* A pipe with nothing in it. Descriptors are not carried over here, so it is always there. */
static int silent[2];
static int epoll;

static inline int setup(void **state) {
        void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        epoll = epoll_create1(0);
        if (geteuid() != 0 || shared == MAP_FAILED || epoll < 0 || pipe(silent) < 0)
                return -1;
        quit_flag = shared;
        times = (uint64_t *)shared + 8;
        dump.blockers = blockers_new();
        restore = (struct restore){ .tasks = task_list, .nr_tasks = 1 };
        kernel_features_init(&dump.kernel);
        kernel_features_init(&restore.kernel);
        return 0;
}

static inline int teardown(void **state) {
        blockers_free(&dump.blockers);
        free(dump.self);
        free(restore.self);
        return 0;
}
