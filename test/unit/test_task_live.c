/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * task/ on living processes: a child brings itself into some state, is stopped and collected; a hosted process with the
 * same pid and a copy of its memory goes through all phases; it is collected again and compared, then let go, and
 * looks at itself.
 */
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
#include "proc/maps.h"
#include "restore/model.h"
#include "task/kind.h"
#include "task/regs.h"
#include "task/syscall.h"

/* ---- a child and its state ---- */

static int to_child[2], from_child[2];

static void say(char c) {
        if (write(from_child[1], &c, 1) != 1)
                _exit(99);
}

static void hear(void) {
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

static struct dump dump;
static struct dump_task dumped;

static void stop_all(struct dump_task *t, pid_t pid) {
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };

        *t = (struct dump_task){ .dump = &dump, .pid = pid };
        assert_int_equal(proc_open(pid, &t->proc), 0);
        assert_int_equal(proc_stat_read(&t->proc, &buf, &t->stat), 0);
        task_look(t);
        assert_int_equal(proc_tids(&t->proc, &tids), 0);
        t->threads = calloc(tids.n, sizeof(*t->threads));
        for (size_t i = 0; i < tids.n; i++) {
                struct dump_thread *th = &t->threads[t->nr_threads];
                struct proc_stat stat;

                *th = (struct dump_thread){ .task = t, .tid = tids.v[i] };
                assert_int_equal(proc_open_thread(&t->proc, th->tid, &th->proc), 0);
                assert_int_equal(proc_stat_read(&th->proc, &buf, &stat), 0);
                if (stat.state == 'Z') {
                        proc_close(&th->proc);
                        continue;
                }
                assert_int_equal(compel_seize(&th->stop, th->tid, 0), 0);
                assert_int_equal(compel_wait_stop(&th->stop, 5000), 0);
                t->nr_threads++;
        }
        t->leader_dead = t->threads[0].tid != pid;
}

static void collect(struct dump_task *t) {
        struct ckpt_error err = CKPT_ERROR_INIT;
        int r = task_collect(t, &err);

        if (r < 0)
                fail_msg("task_collect: %s", ckpt_error_message(&err));
        t->leader_core->tc->task_state = 1;
}

static void let_go(struct dump_task *t) {
        for (size_t i = 0; i < t->nr_threads; i++) {
                compel_release(&t->threads[i].stop);
                proc_close(&t->threads[i].proc);
                proc_status_done(&t->threads[i].status);
        }
        free(t->threads);
        proc_close(&t->proc);
        arena_done(&t->arena);
        *t = (struct dump_task){ 0 };
}

/* ---- restore ---- */

enum { SYS_set_thread_area_32 = 243 }; /* by int $0x80 */

enum { HOST_SIZE = 8 << 20, LANE = 32 * 1024, LEADER_LANE = 256 * 1024 };

static struct restore restore;
static struct restore_task restored;
static struct restore_task *task_list[1] = { &restored };

static Img__Core *copy_core(const Img__Core *core) {
        size_t size = img__core__get_packed_size(core);
        uint8_t *buf = malloc(size);
        Img__Core *copy;

        img__core__pack(core, buf);
        copy = img__core__unpack(NULL, size, buf);
        free(buf);
        assert_non_null(copy);
        return copy;
}

static void load(const struct dump_task *t) {
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
static void save_memory(const struct dump_task *t) {
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

static void put_memory(struct compel_batch *b, pid_t pid) {
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
static void build(void) {
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

static void unmap_host(struct restore_thread *t) {
        const uint64_t arg[6] = { compel_host_addr(restore.host), HOST_SIZE };
        struct ckpt_error err = CKPT_ERROR_INIT;
        raddr_t insn;
        int64_t result;

        assert_int_equal(compel_find_syscall_insn(t->tid, &insn), 0);
        if (compel_remote_syscall(&t->stop, insn, SYS_munmap, arg, &result, &err) < 0 || result != 0)
                fail_msg("munmap: %s", ckpt_error_message(&err));
}

static void end_dead_leader(void) {
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

static void phases(void) {
        TRY(task_check(&restored, &err_));
        for (int phase = 0; phase < TASK_PHASE_MAX; phase++)
                TRY(task_restore_phase(&restore, (enum task_phase)phase, &err_));
}

static void finish(void) {
        size_t first = restored.leader_dead ? 1 : 0;

        end_dead_leader();
        for (size_t i = first; i < restored.nr_threads; i++)
                if (syscall_must_reissue(&restored.threads[i]))
                        TRY(syscall_start(&restored.threads[i], &err_));
        for (size_t i = first; i < restored.nr_threads; i++)
                assert_int_equal(compel_seize(&restored.threads[i].stop, restored.threads[i].tid, 0), 0);
        for (size_t i = first; i < restored.nr_threads; i++)
                assert_int_equal(compel_wait_stop(&restored.threads[i].stop, 5000), 0);
        unmap_host(&restored.threads[first]);
        for (size_t i = first; i < restored.nr_threads; i++)
                TRY(regs_restore_thread(&restored.threads[i], &err_));
}

static void release(void) {
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

/* What passes between two looks at the same state. */
static void forget_times(Img__Core *core) {
        if (core->thread_core && core->thread_core->syscall)
                core->thread_core->syscall = NULL;
        if (!core->tc || !core->tc->timers)
                return;
        core->tc->timers->real->vusec = core->tc->timers->virt->vusec = core->tc->timers->prof->vusec = 0;
        for (size_t i = 0; i < core->tc->timers->n_posix; i++) {
                core->tc->timers->posix[i]->vnsec = 0;
                core->tc->timers->posix[i]->expires_ns = 0;
                core->tc->timers->posix[i]->vsec -= core->tc->timers->posix[i]->vsec % 10;
        }
        core->tc->timers->real->vsec -= core->tc->timers->real->vsec % 10;
        core->tc->timers->virt->vsec -= core->tc->timers->virt->vsec % 10;
        core->tc->timers->prof->vsec -= core->tc->timers->prof->vsec % 10;
}

static void assert_same_core(const Img__Core *a, const Img__Core *b) {
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
static void compare_again(void) {
        size_t first = restored.leader_dead ? 1 : 0;
        static struct dump_task again;
        static struct dump other;

        other = (struct dump){ .blockers = dump.blockers, .opts = dump.opts };
        again = (struct dump_task){ .dump = &other,
                                    .pid = restored.pid,
                                    .leader_dead = restored.leader_dead };
        again.nr_threads = restored.nr_threads - first;
        again.threads = calloc(again.nr_threads, sizeof(*again.threads));
        assert_int_equal(proc_open(restored.pid, &again.proc), 0);
        for (size_t i = 0; i < again.nr_threads; i++) {
                struct dump_thread *th = &again.threads[i];

                *th = (struct dump_thread){ .task = &again,
                                            .tid = restored.threads[i + first].tid,
                                            .stop = restored.threads[i + first].stop };
                assert_int_equal(proc_open_thread(&again.proc, th->tid, &th->proc), 0);
        }
        collect(&again);
        assert_int_equal(again.dumpable, restored.mm->dumpable);
        assert_int_equal(again.thp_disabled, restored.mm->thp_disabled);
        for (size_t i = 0; i < again.nr_threads; i++) {
                Img__Core *was = copy_core(restored.threads[i + first].core),
                          *is = copy_core(again.threads[i].core);

                forget_times(was);
                forget_times(is);
                assert_same_core(was, is);
                restored.threads[i + first].stop = again.threads[i].stop;
                again.threads[i].stop.seized = false;
        }
        let_go(&again);
        free(other.self);
}

static pid_t start(void (*child)(void)) {
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

static void reap(pid_t pid) {
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        for (int i = 0; i < 2; i++) {
                close(to_child[i]);
                close(from_child[i]);
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 42)
                fail_msg("the child ended with status %#x", (unsigned)status);
}

static void wait_asleep(pid_t pid) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_stat stat = { 0 };

        assert_int_equal(proc_open(pid, &dir), 0);
        while (stat.state != 'S') {
                assert_int_equal(proc_stat_read(&dir, &buf, &stat), 0);
                sched_yield();
        }
}

static void nap(int ms) {
        struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

        nanosleep(&ts, NULL);
}

static uint64_t now_ns(clockid_t clock) {
        struct timespec ts;

        clock_gettime(clock, &ts);
        return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t moving_since;

static void move(pid_t pid) {
        int status;

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
static void round_trip(void (*child)(void), bool compare) {
        pid_t pid = start(child);

        wait_asleep(pid);
        move(pid);
        if (compare)
                compare_again();
        release();
        assert_int_equal(write(to_child[1], "g", 1), 1);
        reap(pid);
}

/* ---- tests ---- */

static volatile sig_atomic_t handled;

static void handler(int sig) {
        handled = sig;
}

static void plain_child(void) {
        say('r');
        hear();
}

static void test_plain(void **state) {
        round_trip(plain_child, true);
}

/* Without a restore: a dumped child runs on as if nothing had been. */
static void test_runs_on(void **state) {
        pid_t pid = start(plain_child);

        for (int i = 0; i < 3; i++) {
                stop_all(&dumped, pid);
                collect(&dumped);
                let_go(&dumped);
        }
        assert_int_equal(write(to_child[1], "g", 1), 1);
        reap(pid);
}

static void attributes_child(void) {
        struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART | SA_NODEFER };
        struct itimerval it = { { 5, 6 }, { 1000, 7 } };
        stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536, .ss_flags = (int)(1U << 31) };
        struct rlimit rl = { 50, 60 };
        gid_t groups[] = { 5, 70000, 9 };
        struct rlimit seen;
        sigset_t set;
        int fd, v;

        sigemptyset(&sa.sa_mask);
        sigaddset(&sa.sa_mask, SIGHUP);
        CHECK(sigaction(SIGUSR1, &sa, NULL) == 0 && sigaction(64, &sa, NULL) == 0);
        signal(SIGPIPE, SIG_IGN);
        CHECK(sigaltstack(&ss, NULL) == 0);
        CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0 && setitimer(ITIMER_PROF, &it, NULL) == 0);
        CHECK(setrlimit(RLIMIT_NOFILE, &rl) == 0 && setrlimit(RLIMIT_CORE, &rl) == 0);
        CHECK(prctl(PR_SET_NAME, "a)b c\n\xff") == 0 && prctl(PR_SET_TIMERSLACK, 12345) == 0);
        CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
        CHECK(personality(ADDR_NO_RANDOMIZE) >= 0);
        CHECK(setpriority(PRIO_PROCESS, 0, 7) == 0);
        CHECK(syscall(SYS_membarrier, 16, 0, 0) == 0);
        fd = open("/proc/self/oom_score_adj", O_WRONLY);
        CHECK(fd >= 0 && write(fd, "321", 3) == 3 && close(fd) == 0);
        fd = open("/proc/self/coredump_filter", O_WRONLY);
        CHECK(fd >= 0 && write(fd, "0x7", 3) == 3 && close(fd) == 0);
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, 50);
        sigprocmask(SIG_SETMASK, &set, NULL);
        CHECK(prctl(PR_CAPBSET_DROP, CAP_NET_RAW) == 0);
        CHECK(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6) == 0);
        CHECK(setgroups(3, groups) == 0 && setresgid(11, 12, 13) == 0 && setresuid(21, 22, 23) == 0);
        CHECK(prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0);
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        say('r');
        hear();
        CHECK(getuid() == 21 && geteuid() == 22 && getegid() == 12);
        CHECK(prctl(PR_GET_PDEATHSIG, &v) == 0 && v == SIGUSR2 && prctl(PR_GET_DUMPABLE) == 0);
        CHECK(getpriority(PRIO_PROCESS, 0) == 7 && prctl(PR_GET_TIMERSLACK) == 12345);
        CHECK(getrlimit(RLIMIT_NOFILE, &seen) == 0 && seen.rlim_cur == 50 && seen.rlim_max == 60);
        CHECK(getitimer(ITIMER_REAL, &it) == 0 && it.it_interval.tv_usec == 6 && it.it_value.tv_sec >= 990);
        raise(SIGUSR1);
        CHECK(handled == SIGUSR1);
}

static void test_attributes(void **state) {
        round_trip(attributes_child, true);
}

/* A segment for 32-bit code, as Wine makes them in 64-bit processes. */
static void segment_child(void) {
        uint32_t *desc =
                mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        long ret = SYS_set_thread_area_32;
        uint32_t limit;

        CHECK(desc != MAP_FAILED);
        desc[0] = 13;
        desc[1] = 0x12345000;
        desc[2] = 0x54321;
        desc[3] = 1 | 1 << 6; /* 32-bit, usable */
        __asm__ volatile("int $0x80" : "+a"(ret) : "b"((uint32_t)(uintptr_t)desc) : "memory");
        say(ret == 0 ? 'r' : 's'); /* a kernel without 32-bit programs has none */
        hear();
        if (ret == 0) {
                __asm__ volatile("lsl %1, %0" : "=r"(limit) : "r"(13 << 3 | 3));
                CHECK(limit == 0x54321);
        }
}

static void test_segment(void **state) {
        round_trip(segment_child, true);
}

static void set_caps(uint64_t eff, uint64_t prm, uint64_t inh) {
        struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
        struct __user_cap_data_struct d[2] = { { (uint32_t)eff, (uint32_t)prm, (uint32_t)inh },
                                               { (uint32_t)(eff >> 32), (uint32_t)(prm >> 32),
                                                 (uint32_t)(inh >> 32) } };

        CHECK(syscall(SYS_capset, &h, d) == 0);
}

#define CAP(c) (1ULL << (c))

static void caps_child(void) {
        const uint64_t some = CAP(CAP_CHOWN) | CAP(CAP_KILL) | CAP(CAP_SETPCAP) | CAP(CAP_SYSLOG);

        /* Inheritable beyond the bounding set, ambient, locked securebits. */
        set_caps(some, some, some | CAP(CAP_NET_RAW));
        CHECK(prctl(PR_CAPBSET_DROP, CAP_NET_RAW) == 0);
        CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0) == 0);
        CHECK(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                                               SECBIT_KEEP_CAPS) == 0);
        set_caps(CAP(CAP_CHOWN), some, some | CAP(CAP_NET_RAW));
        say('r');
        hear();
        CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0) == 1);
        CHECK(prctl(PR_CAPBSET_READ, CAP_NET_RAW) == 0 && prctl(PR_GET_SECUREBITS) & SECBIT_NOROOT_LOCKED);
}

static void test_caps(void **state) {
        round_trip(caps_child, true);
}

static void queue(int sig, int value) {
        CHECK(sigqueue(getpid(), sig, (union sigval){ .sival_int = value }) == 0);
}

static void take(int sig, int code, int value) {
        struct timespec zero = { 0 };
        uint64_t set = 1ULL << (sig - 1);
        siginfo_t si = { 0 };

        CHECK(syscall(SYS_rt_sigtimedwait, &set, &si, &zero, 8) == sig);
        CHECK(si.si_code == code && (code != SI_QUEUE || si.si_value.sival_int == value));
}

static void pending_child(void) {
        sigset_t all;

        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        for (int i = 0; i < 40; i++)
                queue(40, i);
        queue(41, 5);
        kill(getpid(), SIGUSR1);
        syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2);
        say('r');
        hear();
        for (int i = 0; i < 40; i++)
                take(40, SI_QUEUE, i);
        take(41, SI_QUEUE, 5);
        take(SIGUSR1, SI_USER, 0);
        take(SIGUSR2, SI_TKILL, 0);
}

static void test_pending(void **state) {
        round_trip(pending_child, true);
}

static void pause_child(void) {
        struct itimerval it = { { 0, 0 }, { 0, 1000 } };

        signal(SIGALRM, handler);
        signal(SIGUSR1, handler);
        say('r');
        CHECK(pause() == -1 && errno == EINTR && handled == SIGUSR1);
        hear();
        CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
}

/* A signal that comes while the process is being restored ends its pause(). */
static void test_pause(void **state) {
        pid_t pid = start(pause_child);

        wait_asleep(pid);
        move(pid);
        assert_int_equal(kill(pid, SIGUSR1), 0);
        release();
        assert_int_equal(write(to_child[1], "g", 1), 1);
        reap(pid);
}

/* ---- timers ---- */

struct kernel_sigevent {
        uint64_t value;
        int32_t signo, notify, tid;
        int32_t pad[11];
};

static int make_timer(clockid_t clock, int signo, int notify) {
        struct kernel_sigevent ev = {
                .value = 0x1122334455667788, .signo = signo, .notify = notify, .tid = gettid()
        };
        int id;

        CHECK(syscall(SYS_timer_create, clock, &ev, &id) == 0);
        return id;
}

static void set_timer(int id, int64_t value, int64_t interval) {
        struct itimerspec its = { { interval / 1000000000, interval % 1000000000 },
                                  { value / 1000000000, value % 1000000000 } };

        CHECK(syscall(SYS_timer_settime, id, 0, &its, NULL) == 0);
}

static void timers_child(void) {
        struct timespec limit = { 10, 0 };
        int ids[6];
        uint64_t set = 1ULL << 45;
        siginfo_t si;
        sigset_t all, pending;

        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        ids[0] = make_timer(CLOCK_MONOTONIC, 40, SIGEV_SIGNAL);
        ids[1] = make_timer(CLOCK_REALTIME, 0, SIGEV_NONE);
        ids[2] = make_timer(CLOCK_BOOTTIME, 41, SIGEV_THREAD_ID);
        ids[3] = make_timer(CLOCK_THREAD_CPUTIME_ID, 42, SIGEV_SIGNAL);
        ids[4] = make_timer(CLOCK_PROCESS_CPUTIME_ID, 43, SIGEV_SIGNAL);
        ids[5] = make_timer(CLOCK_MONOTONIC, 46, SIGEV_SIGNAL);
        CHECK(syscall(SYS_timer_delete, ids[1]) == 0);
        set_timer(ids[0], 2005000000000, 3000000007);
        set_timer(ids[3], 505000000000, 0);
        set_timer(ids[5], 1000000, 1000000);
        do
                sigpending(&pending);
        while (!sigismember(&pending, 46));
        say('r');
        hear();
        nap(30);
        /* One signal, which counts what it stands for. */
        CHECK(syscall(SYS_rt_sigtimedwait, &set, &si, &limit, 8) == 46);
        CHECK(si.si_code == SI_TIMER && si.si_timerid == ids[5] && si.si_overrun >= 25);
        CHECK(si.si_value.sival_ptr == (void *)0x1122334455667788);
        CHECK(syscall(SYS_rt_sigtimedwait, &set, &si, &limit, 8) == 46 && si.si_timerid == ids[5] &&
              si.si_overrun < 25);
        CHECK(make_timer(CLOCK_MONOTONIC, 44, SIGEV_SIGNAL) != ids[5]);
}

static void test_timers(void **state) {
        round_trip(timers_child, true);
}

/* As on kernels before 6.15: numbers are counted up to. */
static void test_timers_one_by_one(void **state) {
        __atomic_store_n(&restore.kernel.row[KERNEL_TIMER_CR_IDS].answer, KERNEL_NO, __ATOMIC_RELEASE);
        round_trip(timers_child, true);
        __atomic_store_n(&restore.kernel.row[KERNEL_TIMER_CR_IDS].answer, KERNEL_UNASKED, __ATOMIC_RELEASE);
}

static void alarm_child(void) {
        struct itimerval it = { { 0, 20000 }, { 0, 1000 } };
        sigset_t set, pending;

        signal(SIGALRM, handler);
        sigemptyset(&set);
        sigaddset(&set, SIGALRM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
        do
                sigpending(&pending);
        while (!sigismember(&pending, SIGALRM));
        say('r');
        hear();
        /* It goes on ticking once its signal is taken. */
        for (int i = 0; i < 3; i++) {
                int sig;

                CHECK(sigwait(&set, &sig) == 0 && sig == SIGALRM);
        }
        CHECK(getitimer(ITIMER_REAL, &it) == 0 && it.it_interval.tv_usec == 20000);
}

static void test_alarm(void **state) {
        round_trip(alarm_child, false);
}

static volatile sig_atomic_t ticks;

static void on_tick(int sig) {
        ticks++;
}

static void ticking_child(void) {
        struct sigaction sa = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
        struct itimerval it = { { 0, 300 }, { 0, 300 } };

        CHECK(sigaction(SIGALRM, &sa, NULL) == 0 && sigaction(40, &sa, NULL) == 0);
        CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
        say('r');
        hear();
        for (int was = ticks; ticks < was + 5;)
                pause();
        CHECK(getitimer(ITIMER_REAL, &it) == 0 && it.it_interval.tv_usec == 300);
}

/* A timer that fires all the time, in whatever moment of a dump, goes on. */
static void test_ticking(void **state) {
        for (int i = 0; i < 30; i++) {
                pid_t pid = start(ticking_child);

                nap(2);
                move(pid);
                release();
                assert_int_equal(write(to_child[1], "g", 1), 1);
                reap(pid);
        }
}

/* ---- registers ---- */

static volatile int *quit_flag;

static void avx_child(void) {
        static uint8_t in[16][64], out[16][64];
        uint16_t cw = 0x27f;
        uint32_t csr = 0x3f80;
        uint64_t r = 0;

        for (int i = 0; i < 16; i++)
                for (int j = 0; j < 64; j++)
                        in[i][j] = (uint8_t)(i * 64 + j * 7 + 1);
        say('r');
        nap(1);
        __asm__ volatile(
                "fldcw %[cw]\n ldmxcsr %[csr]\n"
                "fld1\n fldpi\n"
                "vmovups 0(%[in]), %%ymm0\n vmovups 64(%[in]), %%ymm1\n vmovups 960(%[in]), %%ymm15\n"
                "movl $0, %%ecx\n"
                "1: pause\n movl (%[flag]), %%eax\n test %%eax, %%eax\n jz 1b\n"
                "vmovups %%ymm0, 0(%[out])\n vmovups %%ymm1, 64(%[out])\n vmovups %%ymm15, 960(%[out])\n"
                "fstpt 128(%[out])\n fstpt 192(%[out])\n"
                "fnstcw %[cw]\n stmxcsr %[csr]\n"
                : [cw] "+m"(cw), [csr] "+m"(csr), "+r"(r)
                : [in] "r"(in), [out] "r"(out), [flag] "r"(quit_flag)
                : "rax", "rcx", "memory", "xmm0", "xmm1", "xmm15", "st", "st(1)");
        CHECK(memcmp(in[0], out[0], 32) == 0 && memcmp(in[1], out[1], 32) == 0 &&
              memcmp(in[15], out[15], 32) == 0);
        CHECK(cw == 0x27f && csr == 0x3f80);
        CHECK(*(long double *)(void *)out[2] > 3.14L && *(long double *)(void *)out[2] < 3.15L);
        CHECK(*(long double *)(void *)out[3] == 1.0L);
}

static void avx512_child(void) {
        static uint8_t in[32][64], out[32][64];
        uint64_t mask = 0x123456789abcdef0, got = 0;

        for (int i = 0; i < 32; i++)
                for (int j = 0; j < 64; j++)
                        in[i][j] = (uint8_t)(i * 61 + j * 3 + 1);
        say('r');
        nap(1);
        __asm__ volatile(
                "vmovdqu64 64(%[in]), %%zmm1\n vmovdqu64 1088(%[in]), %%zmm17\n vmovdqu64 1984(%[in]), %%zmm31\n"
                "kmovq %[mask], %%k3\n"
                "1: pause\n movl (%[flag]), %%eax\n test %%eax, %%eax\n jz 1b\n"
                "vmovdqu64 %%zmm1, 64(%[out])\n vmovdqu64 %%zmm17, 1088(%[out])\n vmovdqu64 %%zmm31, 1984(%[out])\n"
                "kmovq %%k3, %[got]\n"
                : [got] "=&r"(got)
                : [in] "r"(in), [out] "r"(out), [flag] "r"(quit_flag), [mask] "r"(mask)
                : "rax", "memory", "xmm1");
        CHECK(memcmp(in[1], out[1], 64) == 0 && memcmp(in[17], out[17], 64) == 0 &&
              memcmp(in[31], out[31], 64) == 0);
        CHECK(got == mask);
}

static void run_spinning(void (*child)(void)) {
        pid_t pid;

        *quit_flag = 0;
        pid = start(child);
        nap(30);
        move(pid);
        compare_again();
        release();
        nap(5);
        *quit_flag = 1;
        reap(pid);
}

static void test_fpu(void **state) {
        if (!__builtin_cpu_supports("avx"))
                skip();
        run_spinning(avx_child);
        if (__builtin_cpu_supports("avx512bw"))
                run_spinning(avx512_child);
}

/* ---- threads ---- */

static pthread_barrier_t all_ready;

static void *thread_main(void *arg) {
        int which = (int)(intptr_t)arg;
        char name[16], now[16];
        sigset_t set;
        uid_t r, e, s;

        snprintf(name, sizeof(name), "thread %d", which);
        prctl(PR_SET_NAME, name);
        prctl(PR_SET_TIMERSLACK, 1000 + which);
        prctl(PR_SET_PDEATHSIG, 30 + which);
        sigemptyset(&set);
        sigaddset(&set, 50 + which);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        syscall(SYS_tgkill, getpid(), gettid(), 50 + which);
        setpriority(PRIO_PROCESS, (id_t)gettid(), which);
        CHECK(syscall(SYS_setresuid, 100 + which, 200 + which, 0) == 0);
        pthread_barrier_wait(&all_ready);
        pthread_barrier_wait(&all_ready);
        prctl(PR_GET_NAME, now);
        CHECK(strcmp(name, now) == 0 && prctl(PR_GET_TIMERSLACK) == 1000 + which);
        CHECK(getresuid(&r, &e, &s) == 0 && r == 100 + (uid_t)which && e == 200 + (uid_t)which && s == 0);
        CHECK(getpriority(PRIO_PROCESS, (id_t)gettid()) == which);
        take(50 + which, SI_TKILL, 0);
        return arg;
}

static void threads_child(void) {
        pthread_t t[5];

        CHECK(pthread_barrier_init(&all_ready, NULL, 6) == 0);
        for (int i = 0; i < 5; i++)
                CHECK(pthread_create(&t[i], NULL, thread_main, (void *)(intptr_t)i) == 0);
        pthread_barrier_wait(&all_ready);
        say('r');
        hear();
        pthread_barrier_wait(&all_ready);
        for (int i = 0; i < 5; i++)
                CHECK(pthread_join(t[i], NULL) == 0);
}

static void test_threads(void **state) {
        round_trip(threads_child, true);
}

static void *survivor(void *arg) {
        struct timespec zero = { 0 };
        uint64_t set = 1ULL << 39;
        char stat[512], path[64];
        siginfo_t si;
        int fd;

        snprintf(path, sizeof(path), "/proc/%d/stat", getpid());
        do {
                fd = open(path, O_RDONLY);
                CHECK(fd >= 0 && read(fd, stat, sizeof(stat)) > 0 && close(fd) == 0);
        } while (!strstr(stat, ") Z"));
        CHECK(sigqueue(getpid(), 40, (union sigval){ .sival_int = 77 }) == 0 &&
              kill(getpid(), SIGUSR1) == 0);
        say('r');
        hear();
        CHECK(syscall(SYS_rt_sigtimedwait, &set, &si, &zero, 8) == 40 && si.si_value.sival_int == 77);
        take(SIGUSR1, SI_USER, 0);
        _exit(42);
        return arg;
}

static void dead_leader_child(void) {
        sigset_t all;
        pthread_t t;

        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        CHECK(pthread_create(&t, NULL, survivor, NULL) == 0);
        syscall(SYS_exit, 0);
}

static void test_dead_leader(void **state) {
        pid_t pid = start(dead_leader_child);

        nap(20);
        move(pid);
        release();
        assert_int_equal(write(to_child[1], "g", 1), 1);
        reap(pid);
}

/* ---- interrupted system calls ---- */

static uint64_t *times; /* shared */
static int silent
        [2]; /* a pipe with nothing in it; descriptors are not carried over here, so it is always there */
static int epoll;

enum { WAIT_MS = 600, GONE_MS = 300 };

static void wait_nanosleep(void) {
        struct timespec ts = { 0, WAIT_MS * 1000000L }, left = { 7, 7 };

        CHECK(syscall(SYS_nanosleep, &ts, &left) == 0);
}

static void wait_nanosleep_null(void) {
        struct timespec ts = { 0, WAIT_MS * 1000000L };

        CHECK(syscall(SYS_nanosleep, &ts, NULL) == 0);
}

static void wait_clock_nanosleep(void) {
        struct timespec ts = { 0, WAIT_MS * 1000000L };

        CHECK(clock_nanosleep(CLOCK_BOOTTIME, 0, &ts, &ts) == 0);
}

static void wait_absolute(void) {
        uint64_t end = times[0] + WAIT_MS * 1000000ULL;
        struct timespec ts = { (time_t)(end / 1000000000), (long)(end % 1000000000) };

        CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == 0);
}

static void wait_poll(void) {
        struct pollfd p = { .fd = silent[0], .events = POLLIN };

        CHECK(syscall(SYS_poll, &p, 1, WAIT_MS) == 0);
}

static void wait_select(void) {
        struct timeval tv = { 0, WAIT_MS * 1000L };
        int fd = silent[0];
        fd_set set;

        FD_ZERO(&set);
        FD_SET(fd, &set);
        CHECK(select(fd + 1, &set, NULL, NULL, &tv) == 0);
}

static void wait_futex(void) {
        static int word;
        struct timespec ts = { 0, WAIT_MS * 1000000L };

        CHECK(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &ts, NULL, 0) < 0 && errno == ETIMEDOUT);
}

static void wait_futex_bitset(void) {
        uint64_t end = times[0] + WAIT_MS * 1000000ULL;
        struct timespec ts = { (time_t)(end / 1000000000), (long)(end % 1000000000) };
        static int word;

        CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &ts, NULL, ~0U) < 0 && errno == ETIMEDOUT);
}

static const struct wait_row {
        const char *name;
        void (*wait)(void);
} waits[] = {
        { "nanosleep", wait_nanosleep },
        { "nanosleep without a remainder", wait_nanosleep_null },
        { "clock_nanosleep", wait_clock_nanosleep },
        { "clock_nanosleep, absolute", wait_absolute },
        { "poll", wait_poll },
        { "select", wait_select },
        { "futex", wait_futex },
        { "futex, absolute", wait_futex_bitset },
};

static const struct wait_row *current;

static void waiting_child(void) {
        times[0] = now_ns(CLOCK_MONOTONIC);
        say('r');
        current->wait();
        times[1] = now_ns(CLOCK_MONOTONIC);
}

/* `away` is how long it was neither here nor there. Scheduling may be slow, but a wait that began anew is GONE_MS late. */
static void check_wait(uint64_t away, unsigned int late_ms) {
        unsigned int took = (unsigned int)((times[1] - times[0]) / 1000000),
                     away_ms = (unsigned int)(away / 1000000);

        print_message("%s: %u ms of %d, away for %u\n", current->name, took, WAIT_MS, away_ms);
        assert_true(took >= WAIT_MS && took < WAIT_MS + away_ms + GONE_MS / 2 + late_ms);
}

static void test_waits(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(waits); i++) {
                uint64_t away;
                pid_t pid;

                current = &waits[i];
                pid = start(waiting_child);
                nap(GONE_MS);
                move(pid);
                away = now_ns(CLOCK_MONOTONIC) - moving_since;
                release();
                reap(pid);
                check_wait(away, 0);
        }
}

/* Dumped and let go, then moved: the second time the kernel calls it restart_syscall. */
static void test_waits_twice(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(waits); i++) {
                uint64_t away;
                pid_t pid;

                current = &waits[i];
                pid = start(waiting_child);
                nap(GONE_MS / 2);
                stop_all(&dumped, pid);
                collect(&dumped);
                let_go(&dumped);
                nap(GONE_MS / 2);
                move(pid);
                away = now_ns(CLOCK_MONOTONIC) - moving_since;
                release();
                reap(pid);
                /* Of poll and its like only the time since the first dump is known. */
                check_wait(away, GONE_MS / 2);
        }
}

/* A visit alone must not change how long anything waits. */
static void test_waits_run_on(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(waits); i++) {
                pid_t pid;

                current = &waits[i];
                pid = start(waiting_child);
                nap(GONE_MS);
                stop_all(&dumped, pid);
                collect(&dumped);
                let_go(&dumped);
                reap(pid);
                check_wait(0, 0);
        }
}

/* Calls that fail with EINTR for any stop: nobody notices. */
static void epoll_child(void) {
        struct epoll_event ev = { .events = EPOLLIN };

        CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, to_child[0], &ev) == 0);
        say('r');
        CHECK(epoll_wait(epoll, &ev, 1, 60000) == 1);
        hear();
}

static void test_epoll(void **state) {
        round_trip(epoll_child, false);
}

static void test_epoll_runs_on(void **state) {
        pid_t pid = start(epoll_child);

        wait_asleep(pid);
        stop_all(&dumped, pid);
        collect(&dumped);
        let_go(&dumped);
        assert_int_equal(write(to_child[1], "g", 1), 1);
        reap(pid);
}

static void unsupported_child(void) {
        struct {
                uint16_t code;
                uint8_t jt, jf;
                uint32_t k;
        } allow = { 0x06, 0, 0, 0x7fff0000 };
        struct {
                uint16_t len;
                void *filter;
        } prog = { 1, &allow };

        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, 2, &prog) == 0);
        say('r');
        hear();
}

static void test_unsupported(void **state) {
        struct ckpt_error err = CKPT_ERROR_INIT;
        pid_t pid = start(unsupported_child);
        const char *hint;

        stop_all(&dumped, pid);
        assert_int_equal(blockers_count(dump.blockers), 1);
        assert_non_null(strstr(blocker_message(dump.blockers, 0, &hint), "seccomp"));
        assert_int_equal(task_collect(&dumped, &err), -ENOTSUP);
        ckpt_error_clear(&err);
        let_go(&dumped);
        assert_int_equal(write(to_child[1], "g", 1), 1);
        reap(pid);
}

static int setup(void **state) {
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

static int teardown(void **state) {
        blockers_free(&dump.blockers);
        free(dump.self);
        free(restore.self);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_plain),
                cmocka_unit_test(test_runs_on),
                cmocka_unit_test(test_attributes),
                cmocka_unit_test(test_caps),
                cmocka_unit_test(test_segment),
                cmocka_unit_test(test_pending),
                cmocka_unit_test(test_pause),
                cmocka_unit_test(test_timers),
                cmocka_unit_test(test_timers_one_by_one),
                cmocka_unit_test(test_alarm),
                cmocka_unit_test(test_ticking),
                cmocka_unit_test(test_fpu),
                cmocka_unit_test(test_threads),
                cmocka_unit_test(test_dead_leader),
                cmocka_unit_test(test_waits),
                cmocka_unit_test(test_waits_twice),
                cmocka_unit_test(test_waits_run_on),
                cmocka_unit_test(test_epoll),
                cmocka_unit_test(test_epoll_runs_on),
                cmocka_unit_test(test_unsupported),
        };

        setvbuf(stdout, NULL, _IONBF, 0);
        return cmocka_run_group_tests(tests, setup, teardown);
}
