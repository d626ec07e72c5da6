/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/* Timers of all sorts that end in a thousand seconds: do they still end then, on their own clocks? See timer_ends.py, which
 * says whether those of absolute times keep to their clock (argument "jump": it will jump). */
#include <string.h>
#include <sys/timerfd.h>

#include "e2e.h"

#define AWAY (1000 * NS_PER_S)
#define LATE (NS_PER_S / 2) /* more than this is not the time in which two system calls follow each other */

static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME };

enum { N_CLOCKS = sizeof(clocks) / sizeof(clocks[0]) };

static struct timer {
        clockid_t clock;
        bool posix, absolute;
        int id; /* or descriptor */
        int64_t end;
} timers[N_CLOCKS * 4];

static int64_t made; /* time of day */

static void make(struct timer *t, clockid_t clock, bool posix, bool absolute) {
        struct itimerspec its = { 0 };
        struct sigevent none = { .sigev_notify = SIGEV_NONE };
        timer_t id;

        *t = (struct timer){ clock, posix, absolute, 0, now_ns(clock) + AWAY };
        its.it_value.tv_sec = (absolute ? t->end : AWAY) / NS_PER_S;
        its.it_value.tv_nsec = (absolute ? t->end : AWAY) % NS_PER_S;
        if (posix) {
                SYS(timer_create(clock, &none, &id));
                t->id = (int)(intptr_t)id;
                SYS(syscall(SYS_timer_settime, t->id, absolute ? TIMER_ABSTIME : 0, &its, NULL));
        } else {
                t->id = SYS(timerfd_create(clock, TFD_NONBLOCK));
                SYS(timerfd_settime(t->id, absolute ? TFD_TIMER_ABSTIME : 0, &its, NULL));
        }
}

static int64_t left_of(const struct timer *t) {
        struct itimerspec its;

        if (t->posix)
                SYS(syscall(SYS_timer_gettime, t->id, &its));
        else
                SYS(timerfd_gettime(t->id, &its));
        return its.it_value.tv_sec * NS_PER_S + its.it_value.tv_nsec;
}

static void check(const struct timer *t, bool jump) {
        int64_t before = now_ns(t->clock), left = left_of(t), after = now_ns(t->clock), passed;
        const char *kind = t->posix ? "POSIX timer" : "timerfd",
                   *how = t->absolute ? "absolute" : "relative";

        passed = now_ns(CLOCK_REALTIME) - made;
        CHECK(left > 0 && left <= AWAY && left >= AWAY - passed - LATE,
              "%s of clock %d, %s: %" PRId64 " ns left, %" PRId64 " passed", kind, t->clock, how, left,
              passed);
        if (!jump && t->absolute)
                CHECK(left + after >= t->end && left + before <= t->end + LATE,
                      "%s of clock %d, %s: ends %" PRId64 " ns late", kind, t->clock, how,
                      left + before - t->end);
}

int main(int argc, char **argv) {
        int n = 0;

        test_init(argc, argv);
        made = now_ns(CLOCK_REALTIME);
        for (int i = 0; i < N_CLOCKS; i++)
                for (int kind = 0; kind < 4; kind++)
                        make(&timers[n++], clocks[i], kind & 1, kind & 2);
        test_ready();
        test_wait();
        for (int i = 0; i < n; i++)
                check(&timers[i], argc > 1 && strcmp(argv[argc - 1], "jump") == 0);
        test_pass();
}
