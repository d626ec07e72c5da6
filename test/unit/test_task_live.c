/* SPDX-License-Identifier: GPL-2.0-only */
/* task/ on living processes: attributes, credentials, signals, timers. */
#include "task_live.h"

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
        CHECK(getitimer(ITIMER_REAL, &it) == 0 && it.it_interval.tv_usec == 6 && it.it_value.tv_sec >= 500);
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
        struct timespec limit = { 60, 0 };
        int ids[6];
        uint64_t set = 1ULL << 45, from;
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
        /* One signal, which counts what it stands for; the next one has not much behind it, unless we were kept waiting. */
        from = now_ns(CLOCK_MONOTONIC);
        CHECK(syscall(SYS_rt_sigtimedwait, &set, &si, &limit, 8) == 46);
        CHECK(si.si_code == SI_TIMER && si.si_timerid == ids[5] && si.si_overrun >= 25);
        CHECK(si.si_value.sival_ptr == (void *)0x1122334455667788);
        CHECK(syscall(SYS_rt_sigtimedwait, &set, &si, &limit, 8) == 46 && si.si_timerid == ids[5] &&
              (uint64_t)si.si_overrun <= (now_ns(CLOCK_MONOTONIC) - from) / 1000000);
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

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_plain),
                cmocka_unit_test(test_runs_on),
                cmocka_unit_test(test_attributes),
                cmocka_unit_test(test_segment),
                cmocka_unit_test(test_caps),
                cmocka_unit_test(test_pending),
                cmocka_unit_test(test_pause),
                cmocka_unit_test(test_timers),
                cmocka_unit_test(test_timers_one_by_one),
                cmocka_unit_test(test_alarm),
                cmocka_unit_test(test_ticking),
        };

        setvbuf(stdout, NULL, _IONBF, 0);
        return cmocka_run_group_tests(tests, setup, teardown);
}
