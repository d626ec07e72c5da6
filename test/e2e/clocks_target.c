/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/* Keeps absolute deadlines of both clocks and writes down when they come; see clocks.py. */
#include <time.h>

#include "testlib.h"

static int64_t now_ms(clockid_t clock) {
        struct timespec ts;

        SYS(clock_gettime(clock, &ts));
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int main(int argc, char **argv) {
        int64_t monotonic, boottime;
        struct timespec deadline;

        test_init(argc, argv);
        monotonic = now_ms(CLOCK_MONOTONIC);
        boottime = now_ms(CLOCK_BOOTTIME);
        test_ready();
        test_wait();
        CHECK(now_ms(CLOCK_MONOTONIC) >= monotonic, "CLOCK_MONOTONIC ran backwards");
        CHECK(now_ms(CLOCK_BOOTTIME) >= boottime, "CLOCK_BOOTTIME ran backwards");
        test_msg("monotonic advanced %lld ms", (long long)(now_ms(CLOCK_MONOTONIC) - monotonic));
        test_msg("boottime advanced %lld ms", (long long)(now_ms(CLOCK_BOOTTIME) - boottime));
        /* An absolute sleep of now: it ends at once, whichever namespace we are in. */
        SYS(clock_gettime(CLOCK_MONOTONIC, &deadline));
        SYS(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL));
        test_pass();
}
