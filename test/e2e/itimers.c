/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: ignore=status.SigPnd,status.ShdPnd,status.SigBlk timeout=90 */
/* setitimer, real, virtual and prof, each with what remains and its interval; short ones go on firing. The time in
 * which a process did not exist may or may not count for what remains: both are accepted. */
#include "e2e.h"

#include <sys/time.h>

enum { REAL_TICKS, VIRTUAL_TICKS, PROF_ONCE, N_KIDS };

static const struct {
        int which, sig;
        struct itimerval value;
} own[] = {
        { ITIMER_REAL, SIGALRM, { { 7, 250000 }, { 1000, 500000 } } },
        { ITIMER_VIRTUAL, SIGVTALRM, { { 0, 0 }, { 500, 0 } } },
        { ITIMER_PROF, SIGPROF, { { 3, 0 }, { 600, 750000 } } },
};

static struct gate ready, go;
static volatile sig_atomic_t ticks;

static void on_tick(int sig E2E_UNUSED) {
        ticks++;
}

static int64_t us(struct timeval tv) {
        return tv.tv_sec * 1000000LL + tv.tv_usec;
}

static void run(int which) {
        static const struct itimerval values[N_KIDS] = {
                [REAL_TICKS] = { { 0, 10000 }, { 0, 10000 } },
                [VIRTUAL_TICKS] = { { 0, 20000 }, { 0, 20000 } },
                [PROF_ONCE] = { { 0, 0 }, { 0, 200000 } },
        };
        static const int kinds[N_KIDS] = { ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF };
        struct sigaction sa = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
        struct itimerval now;
        int before;

        sigaction(SIGALRM, &sa, NULL);
        sigaction(SIGVTALRM, &sa, NULL);
        sigaction(SIGPROF, &sa, NULL);
        CHECK(setitimer(kinds[which], &values[which], NULL) == 0, "setitimer: %m");
        while (which == REAL_TICKS && ticks < 3)
                pause();
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        CHECK(getitimer(kinds[which], &now) == 0, "getitimer: %m");
        CHECK(us(now.it_interval) == us(values[which].it_interval), "timer %d: interval %" PRId64, which,
              us(now.it_interval));
        /* No time of the process's own has passed while it slept. */
        CHECK(which != PROF_ONCE || ticks == 0, "it fired in its sleep");
        before = ticks;
        /* By its own CPU time: for how long it had to wait for a CPU says nothing. */
        for (int64_t end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + 20 * NS_PER_S;
             ticks < before + (which == PROF_ONCE ? 1 : 3);)
                CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) < end, "timer %d: only %d ticks", which,
                      ticks - before);
        if (which == PROF_ONCE)
                CHECK(getitimer(kinds[which], &now) == 0 && us(now.it_value) == 0, "it is not disarmed");
        _exit(60 + which);
}

int main(int argc, char **argv) {
        pid_t kids[N_KIDS];
        struct itimerval now;
        int64_t since, passed;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        for (int i = 0; i < N_KIDS; i++) {
                kids[i] = xfork();
                if (kids[i] == 0)
                        run(i);
        }
        gate_pass(&ready, N_KIDS);
        since = now_ns(CLOCK_MONOTONIC);
        for (size_t i = 0; i < ELEMENTS(own); i++)
                CHECK(setitimer(own[i].which, &own[i].value, NULL) == 0, "setitimer: %m");
        test_ready();
        test_wait();
        /* break: now = own[0].value; now.it_interval.tv_sec++; setitimer(ITIMER_REAL, &now, NULL); */
        /* break: now = own[1].value; now.it_value.tv_sec--; setitimer(ITIMER_VIRTUAL, &now, NULL); */
        /* break: now = own[2].value; now.it_value.tv_sec++; setitimer(ITIMER_PROF, &now, NULL); */
        /* break: kill(kids[0], SIGKILL); */
        passed = (now_ns(CLOCK_MONOTONIC) - since) / 1000;
        for (size_t i = 0; i < ELEMENTS(own); i++) {
                int64_t left, asked = us(own[i].value.it_value);
                /* CPU time passes no faster than twice, with what the kernel's accounting rounds up. */
                int64_t at_most_gone = own[i].which == ITIMER_REAL ? passed + 20000 : 400000;

                CHECK(getitimer(own[i].which, &now) == 0, "getitimer: %m");
                left = us(now.it_value);
                CHECK(us(now.it_interval) == us(own[i].value.it_interval),
                      "timer %zu: interval %" PRId64 " us", i, us(now.it_interval));
                CHECK(left <= asked + 20000 && left >= asked - at_most_gone,
                      "timer %zu: %" PRId64 " us left of %" PRId64 ", %" PRId64 " passed", i, left, asked,
                      passed);
        }
        gate_open(&go, N_KIDS);
        for (int i = 0; i < N_KIDS; i++)
                xwait(kids[i], 60 + i);
        now = (struct itimerval){ .it_value.tv_usec = 1000 };
        signal(SIGALRM, on_tick);
        CHECK(setitimer(ITIMER_REAL, &now, NULL) == 0, "setitimer: %m");
        WAIT_FOR(ticks > 0, "a new timer fires");
        test_pass();
}
