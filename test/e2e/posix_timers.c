/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* POSIX timers: ids with gaps, clocks, the three ways to notify, armed, absolute, disarmed, one that has fired
 * behind a mask with its overrun; a thread gets the signal of its own timer. */
#include "e2e.h"

#include <pthread.h>

struct kernel_sigevent {
        uint64_t value;
        int32_t signo, notify, tid;
        int32_t pad[11];
};

enum { MONO, GAP, REALTIME, THREAD, BOOT, PROCESS_CPU, THREAD_CPU, ABSOLUTE, OVERRUN, GAP2, LAST, N_TIMERS };

#define ABS 1

static const struct {
        clockid_t clock;
        int notify, signo, flags;
        int64_t value, interval; /* ns */
} table[N_TIMERS] = {
        [MONO] = { CLOCK_MONOTONIC, SIGEV_SIGNAL, 40, 0, 1000 * NS_PER_S + 5, 3 * NS_PER_S + 7 },
        [GAP] = { CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0, 0 },
        [REALTIME] = { CLOCK_REALTIME, SIGEV_NONE, 0, 0, 500 * NS_PER_S, 0 },
        [THREAD] = { CLOCK_MONOTONIC, SIGEV_THREAD_ID, 41, 0, 0, 0 },
        [BOOT] = { CLOCK_BOOTTIME, SIGEV_SIGNAL, 42, 0, 700 * NS_PER_S, 1 },
        [PROCESS_CPU] = { CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, 43, 0, 300 * NS_PER_S, 100 },
        [THREAD_CPU] = { CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL, 44, 0, 0, 0 },
        [ABSOLUTE] = { CLOCK_MONOTONIC, SIGEV_SIGNAL, 45, ABS, 2000 * NS_PER_S, 0 },
        [OVERRUN] = { CLOCK_MONOTONIC, SIGEV_SIGNAL, 46, 0, 1000000, 1000000 },
        [GAP2] = { CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0, 0 },
        [LAST] = { CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGALRM, 0, 0, 0 },
};

static struct gate ready, go;
static int ids[N_TIMERS];
static int64_t since[N_TIMERS];
static pid_t thread_tid;

static struct timespec ts_of(int64_t ns) {
        return (struct timespec){ ns / NS_PER_S, ns % NS_PER_S };
}

static int64_t ns_of(struct timespec ts) {
        return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static void set_timer(int id, int flags, int64_t value, int64_t interval) {
        struct itimerspec its = { ts_of(interval), ts_of(value) };

        CHECK(syscall(SYS_timer_settime, id, flags, &its, NULL) == 0, "timer_settime: %m");
}

static void make_timer(int i) {
        struct kernel_sigevent ev = {
                0x1122334400000000ULL + (uint64_t)i, table[i].signo, table[i].notify, 0, { 0 }
        };
        int64_t value = table[i].value;

        ev.tid = table[i].notify == SIGEV_THREAD_ID ? thread_tid : 0;
        CHECK(syscall(SYS_timer_create, table[i].clock, &ev, &ids[i]) == 0, "timer_create %d: %m", i);
        since[i] = now_ns(table[i].clock);
        if (value)
                set_timer(ids[i], table[i].flags, table[i].flags & ABS ? since[i] + value : value,
                          table[i].interval);
}

static siginfo_t wait_signal(int sig) {
        struct timespec limit = { .tv_sec = 60 };
        uint64_t set = 1ULL << (sig - 1);
        siginfo_t si = { 0 };

        CHECK(syscall(SYS_rt_sigtimedwait, &set, &si, &limit, sizeof(set)) == sig,
              "signal %d did not come: %m", sig);
        return si;
}

static void check_fired(siginfo_t si, int i) {
        CHECK(si.si_code == SI_TIMER && si.si_timerid == ids[i], "timer %d: code %d, id %d, not %d", i,
              si.si_code, si.si_timerid, ids[i]);
        CHECK((uint64_t)(uintptr_t)si.si_value.sival_ptr == 0x1122334400000000ULL + (uint64_t)i,
              "timer %d: value %p", i, si.si_value.sival_ptr);
}

static void check_timer(int i) {
        struct itimerspec its;
        int64_t left, before = now_ns(table[i].clock) - since[i], passed;

        CHECK(syscall(SYS_timer_gettime, ids[i], &its) == 0, "timer %d (id %d) is gone: %m", i, ids[i]);
        passed = now_ns(table[i].clock) - since[i];
        left = ns_of(its.it_value);
        CHECK(ns_of(its.it_interval) == table[i].interval, "timer %d: interval %" PRId64, i,
              ns_of(its.it_interval));
        if (table[i].value == 0) {
                CHECK(left == 0, "timer %d is armed", i);
        } else if (i == OVERRUN) {
                CHECK(left > 0 && left <= table[i].interval, "timer %d: %" PRId64 " left", i, left);
        } else {
                CHECK(left <= table[i].value && left >= table[i].value - passed - NS_PER_S / 10,
                      "timer %d: %" PRId64 " ns left of %" PRId64 ", %" PRId64 " passed", i, left,
                      table[i].value, passed);
                /* An absolute one must not be late by the time in which the process did not exist. */
                if (table[i].flags & ABS)
                        CHECK(left <= table[i].value - before + NS_PER_S / 10,
                              "timer %d: %" PRId64 " ns left, %" PRId64 " passed", i, left, passed);
        }
}

static void *run(void *arg) {
        thread_tid = xgettid();
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        check_fired(wait_signal(41), THREAD);
        return arg;
}

int main(int argc, char **argv) {
        char timers[4096], now[4096];
        struct kernel_sigevent ev = { 0, 0, SIGEV_NONE, 0, { 0 } };
        pthread_t t;
        siginfo_t si;
        sigset_t all;
        int id;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        CHECK(pthread_create(&t, NULL, run, NULL) == 0, "pthread_create");
        gate_pass(&ready, 1);
        for (int i = 0; i < N_TIMERS; i++)
                make_timer(i);
        CHECK(syscall(SYS_timer_delete, ids[GAP]) == 0 && syscall(SYS_timer_delete, ids[GAP2]) == 0,
              "timer_delete: %m");
        /* It has fired and is pending; once taken it reports how often it would have. */
        WAIT_FOR(status_u64(getpid(), "ShdPnd", 16) & 1ULL << 45, "the short timer fires");
        CHECK(read_file("/proc/self/timers", timers, sizeof(timers)) > 0, "read timers: %m");
        test_ready();
        test_wait();
        /* break: syscall(SYS_timer_delete, ids[LAST]); */
        /* break: syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &ids[GAP]); */
        /* break: set_timer(ids[MONO], 0, 999 * NS_PER_S, 1); */
        /* break: set_timer(ids[BOOT], 0, 701 * NS_PER_S, 1); */
        /* break: set_timer(ids[OVERRUN], 0, 0, 0); */
        /* break: wait_signal(46); siginfo_t fake = { .si_signo = 46, .si_code = SI_TIMER }; fake.si_timerid = ids[OVERRUN]; fake.si_ptr = (void *) (0x1122334400000000ULL + OVERRUN); syscall(SYS_rt_sigqueueinfo, getpid(), 46, &fake); */
        CHECK(read_file("/proc/self/timers", now, sizeof(now)) > 0, "read timers: %m");
        CHECK(strcmp(timers, now) == 0, "/proc/self/timers was\n%s\nis\n%s", timers, now);
        for (int i = 0; i < N_TIMERS; i++) {
                struct itimerspec its;

                if (i == GAP || i == GAP2)
                        CHECK(syscall(SYS_timer_gettime, ids[i], &its) < 0 && errno == EINVAL,
                              "timer %d is back", i);
                else
                        check_timer(i);
        }
        /* However often it fires, one signal waits, and counts what it stands for. */
        for (int i = 0; i < 20; i++)
                tick();
        si = wait_signal(46);
        check_fired(si, OVERRUN);
        CHECK(si.si_overrun >= 15, "an overrun of only %d", si.si_overrun);
        check_fired(wait_signal(46), OVERRUN); /* it goes on */
        set_timer(ids[THREAD], 0, 1000000, 0);
        gate_open(&go, 1);
        CHECK(pthread_join(t, NULL) == 0, "pthread_join");
        set_timer(ids[LAST], 0, 1000000, 0);
        check_fired(wait_signal(SIGALRM), LAST);
        set_timer(ids[THREAD_CPU], 0, 1000000, 0);
        while (!(status_u64(getpid(), "SigPnd", 16) & 1ULL << 43) &&
               !(status_u64(getpid(), "ShdPnd", 16) & 1ULL << 43))
                ;
        check_fired(wait_signal(44), THREAD_CPU);
        CHECK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id) == 0, "timer_create: %m");
        for (int i = 0; i < N_TIMERS; i++)
                CHECK(i == GAP || i == GAP2 || ids[i] != id, "a new timer has the id of timer %d", i);
        test_pass();
}
