/* SPDX-License-Identifier: GPL-2.0-only */
/* task/ on living processes: registers, threads, interrupted system calls. */
#include "task_live.h"

/* ---- registers ---- */

static void avx_child(void) {
        static uint8_t in[16][64], out[16][64];
        uint16_t cw = 0x27f;
        uint32_t csr = 0x3f80;
        uint64_t r = 0;

        for (int i = 0; i < 16; i++)
                for (int j = 0; j < 64; j++)
                        in[i][j] = (uint8_t)(i * 64 + j * 7 + 1);
        say('r');
        __asm__ volatile(
                "fldcw %[cw]\n ldmxcsr %[csr]\n"
                "fld1\n fldpi\n"
                "vmovups 0(%[in]), %%ymm0\n vmovups 64(%[in]), %%ymm1\n vmovups 960(%[in]), %%ymm15\n"
                "movl $0, %%ecx\n"
                "1: pause\n incl 4(%[flag])\n movl (%[flag]), %%eax\n test %%eax, %%eax\n jz 1b\n"
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
        __asm__ volatile(
                "vmovdqu64 64(%[in]), %%zmm1\n vmovdqu64 1088(%[in]), %%zmm17\n vmovdqu64 1984(%[in]), %%zmm31\n"
                "kmovq %[mask], %%k3\n"
                "1: pause\n incl 4(%[flag])\n movl (%[flag]), %%eax\n test %%eax, %%eax\n jz 1b\n"
                "vmovdqu64 %%zmm1, 64(%[out])\n vmovdqu64 %%zmm17, 1088(%[out])\n vmovdqu64 %%zmm31, 1984(%[out])\n"
                "kmovq %%k3, %[got]\n"
                : [got] "=&r"(got)
                : [in] "r"(in), [out] "r"(out), [flag] "r"(quit_flag), [mask] "r"(mask)
                : "rax", "memory", "xmm1");
        CHECK(memcmp(in[1], out[1], 64) == 0 && memcmp(in[17], out[17], 64) == 0 &&
              memcmp(in[31], out[31], 64) == 0);
        CHECK(got == mask);
}

/* Until the child has been round its loop, which it begins with all registers loaded. */
static void wait_round(void) {
        int rounds = quit_flag[1];

        for (int naps = 0; quit_flag[1] == rounds; naps++) {
                assert_true(naps < STOP_MS);
                nap(1);
        }
}

static void run_spinning(void (*child)(void)) {
        pid_t pid;

        quit_flag[0] = quit_flag[1] = 0;
        pid = start(child);
        wait_round();
        move(pid);
        compare_again();
        release();
        wait_round();
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
        pid_t tid = gettid();
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
        CHECK(write(from_child[1], &tid, sizeof(tid)) == sizeof(tid));
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
        pid_t pid = start(dead_leader_child), tid = 0;

        assert_int_equal(read(from_child[0], &tid, sizeof(tid)), sizeof(tid));
        wait_asleep_thread(pid, tid);
        move(pid);
        release();
        assert_int_equal(write(to_child[1], "g", 1), 1);
        reap(pid);
}

/* ---- interrupted system calls ---- */

enum { WAIT_MS = 600, GONE_MS = 300, TRIES = 20 };

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
        /* Whoever wants to stop it is never too late for that. */
        hear();
}

static void finish_waiting(pid_t pid) {
        assert_int_equal(write(to_child[1], "g", 1), 1);
        reap(pid);
}

static unsigned int tries;

/* On a busy machine anybody may be late, which proves nothing, and the row begins anew. What is late every time is not the machine. */
static bool once_more(void) {
        print_message("%s: too late, once more\n", current->name);
        assert_true(++tries < TRIES);
        return false;
}

/*
 * `away` is how long it was neither here nor there. A wait that began anew is GONE_MS late. False: once more.
 */
static bool check_wait(uint64_t away, unsigned int late_ms) {
        unsigned int took = (unsigned int)((times[1] - times[0]) / 1000000),
                     away_ms = (unsigned int)(away / 1000000);

        print_message("%s: %u ms of %d, away for %u\n", current->name, took, WAIT_MS, away_ms);
        assert_true(took >= WAIT_MS);
        if (times[1] < stopped_at)
                return once_more(); /* it was over before it was interrupted */
        if (took >= WAIT_MS + away_ms + GONE_MS / 2 + late_ms)
                return once_more();
        tries = 0;
        return true;
}

/* A nap can outlast the wait. */
static bool in_time(pid_t pid) {
        if (now_ns(CLOCK_MONOTONIC) - times[0] < (WAIT_MS - 150) * 1000000ULL)
                return true;
        finish_waiting(pid);
        return once_more();
}

static void test_waits(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(waits);) {
                uint64_t away;
                pid_t pid;

                current = &waits[i];
                pid = start(waiting_child);
                nap(GONE_MS);
                if (!in_time(pid))
                        continue;
                move(pid);
                away = now_ns(CLOCK_MONOTONIC) - moving_since;
                release();
                finish_waiting(pid);
                i += check_wait(away, 0);
        }
}

/* Dumped and let go, then moved: the second time the kernel calls it restart_syscall. */
static void test_waits_twice(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(waits);) {
                uint64_t away;
                pid_t pid;

                current = &waits[i];
                pid = start(waiting_child);
                nap(GONE_MS / 2);
                if (!in_time(pid))
                        continue;
                stop_all(&dumped, pid);
                collect(&dumped);
                let_go(&dumped);
                nap(GONE_MS / 2);
                if (!in_time(pid))
                        continue;
                move(pid);
                away = now_ns(CLOCK_MONOTONIC) - moving_since;
                release();
                finish_waiting(pid);
                /* Of poll and its like only the time since the first dump is known. */
                i += check_wait(away, GONE_MS / 2);
        }
}

/* A visit alone must not change how long anything waits. */
static void test_waits_run_on(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(waits);) {
                pid_t pid;

                current = &waits[i];
                pid = start(waiting_child);
                nap(GONE_MS);
                if (!in_time(pid))
                        continue;
                stop_all(&dumped, pid);
                collect(&dumped);
                let_go(&dumped);
                finish_waiting(pid);
                i += check_wait(0, 0);
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

static void filtered_child(void) {
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

static void test_filtered(void **state) {
        struct ckpt_error err = CKPT_ERROR_INIT;
        pid_t pid = start(filtered_child);

        stop_all(&dumped, pid);
        assert_int_equal(blockers_count(dump.blockers), 0);
        assert_true(dumped.filtered);
        /* Not before it is traced by who outlives ckpt: nothing has been injected. */
        assert_int_equal(task_collect(&(struct dump_task *){ &dumped }, 1, &err), -EAGAIN);
        assert_non_null(strstr(ckpt_error_message(&err), "under seccomp"));
        assert_true(dump.trace_all);
        ckpt_error_clear(&err);
        let_go(&dumped);
        assert_int_equal(write(to_child[1], "g", 1), 1);
        reap(pid);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fpu),         cmocka_unit_test(test_threads),
                cmocka_unit_test(test_dead_leader), cmocka_unit_test(test_waits),
                cmocka_unit_test(test_waits_twice), cmocka_unit_test(test_waits_run_on),
                cmocka_unit_test(test_epoll),       cmocka_unit_test(test_epoll_runs_on),
                cmocka_unit_test(test_filtered),
        };

        setvbuf(stdout, NULL, _IONBF, 0);
        return cmocka_run_group_tests(tests, setup, teardown);
}
