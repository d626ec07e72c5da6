/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=90 */
/* timerfd: all clocks, relative and absolute, periodic and single, disarmed, fired and not read (once, several times,
 * periodic ones that stand still until they are read). Whether the time in which the process did not exist counts for
 * a relative timer is left open. */
#include "e2e.h"

#include <poll.h>
#include <sys/timerfd.h>

#define MS 1000000LL

struct timer {
        const char *name;
        clockid_t clock;
        int flags;
        int64_t value, interval; /* value: from now on; 0: none */
        bool wait;               /* until it has fired */
        int fd;
        int64_t end, made; /* on its clock; made on CLOCK_BOOTTIME */
};

static struct timer timers[] = {
        { .name = "far, relative", .clock = CLOCK_MONOTONIC, .value = 5000000 * MS },
        { .name = "far, absolute",
          .clock = CLOCK_MONOTONIC,
          .flags = TFD_TIMER_ABSTIME,
          .value = 5000000 * MS },
        { .name = "time of day", .clock = CLOCK_REALTIME, .value = 3600000 * MS, .interval = 86400000 * MS },
        { .name = "noon",
          .clock = CLOCK_REALTIME,
          .flags = TFD_TIMER_ABSTIME,
          .value = 3600000 * MS,
          .interval = 7 * MS },
        { .name = "cancellable",
          .clock = CLOCK_REALTIME,
          .flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET,
          .value = 3600000 * MS },
        { .name = "boot time", .clock = CLOCK_BOOTTIME, .value = 4000000 * MS + 123456789 },
        { .name = "boot time, absolute",
          .clock = CLOCK_BOOTTIME,
          .flags = TFD_TIMER_ABSTIME,
          .value = 4000000 * MS },
        { .name = "alarm", .clock = CLOCK_REALTIME_ALARM, .value = 4000000 * MS },
        { .name = "boot alarm",
          .clock = CLOCK_BOOTTIME_ALARM,
          .flags = TFD_TIMER_ABSTIME,
          .value = 4000000 * MS },
        { .name = "disarmed", .clock = CLOCK_MONOTONIC },
        { .name = "fired once", .clock = CLOCK_MONOTONIC, .value = 1, .wait = true },
        { .name = "fired, absolute",
          .clock = CLOCK_REALTIME,
          .flags = TFD_TIMER_ABSTIME,
          .value = 1,
          .wait = true },
        { .name = "periodic, fired",
          .clock = CLOCK_MONOTONIC,
          .value = 1,
          .interval = 1000000 * MS,
          .wait = true },
        { .name = "fast", .clock = CLOCK_BOOTTIME, .value = 2 * MS, .interval = 2 * MS, .wait = true },
        { .name = "soon", .clock = CLOCK_MONOTONIC, .value = 30 * MS },
        { .name = "soon, absolute", .clock = CLOCK_REALTIME, .flags = TFD_TIMER_ABSTIME, .value = 30 * MS },
};

static struct itimerspec spec(int64_t value, int64_t interval) {
        return (struct itimerspec){
                .it_value = { value / NS_PER_S, value % NS_PER_S },
                .it_interval = { interval / NS_PER_S, interval % NS_PER_S },
        };
}

static void make(struct timer *t) {
        clockid_t readable = t->clock == CLOCK_REALTIME_ALARM   ? CLOCK_REALTIME
                             : t->clock == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME
                                                                : t->clock;
        struct itimerspec its;
        struct pollfd p;

        t->fd = SYS(timerfd_create(t->clock, TFD_NONBLOCK));
        t->made = now_ns(CLOCK_BOOTTIME);
        t->end = now_ns(readable) + t->value;
        if (t->value == 0)
                return;
        its = spec(t->flags & TFD_TIMER_ABSTIME ? t->end : t->value, t->interval);
        CHECK(timerfd_settime(t->fd, t->flags, &its, NULL) == 0, "%s: %m", t->name);
        p = (struct pollfd){ t->fd, POLLIN, 0 };
        CHECK(!t->wait || poll(&p, 1, 30000) == 1, "%s did not fire", t->name);
}

static int64_t ns(struct timespec ts) {
        return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static uint64_t shown(const struct timer *t, const char *key) {
        char path[64], text[512], *at;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", t->fd);
        CHECK(read_file(path, text, sizeof(text)) > 0 && (at = strstr(text, key)), "%s: no %s", t->name,
              key);
        return strtoull(at + strlen(key), NULL, strcmp(key, "settime flags:") == 0 ? 8 : 10);
}

/* What remains of a timer that is far from its end. */
static void check_remaining(const struct timer *t) {
        struct itimerspec its;
        int64_t left, passed;

        CHECK(timerfd_gettime(t->fd, &its) == 0, "%s: %m", t->name);
        passed = now_ns(CLOCK_BOOTTIME) - t->made;
        left = ns(its.it_value);
        CHECK(left <= t->value && left >= t->value - passed - 50 * MS,
              "%s: %" PRId64 " ns left, %" PRId64 " passed", t->name, left, passed);
        /* An absolute one stays where it is. */
        if (t->flags & TFD_TIMER_ABSTIME) {
                clockid_t readable = t->clock == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME : t->clock;
                int64_t before = now_ns(readable), after;

                CHECK(timerfd_gettime(t->fd, &its) == 0, "%s: %m", t->name);
                after = now_ns(readable);
                left = ns(its.it_value);
                CHECK(left + after >= t->end && left + before < t->end + 100 * MS,
                      "%s: ends %" PRId64 " ns late", t->name, left + before - t->end);
        }
}

static void check_ticks(const struct timer *t) {
        struct itimerspec its;
        uint64_t n = 0, max;
        int64_t passed;

        CHECK(read(t->fd, &n, 8) == 8, "%s: not readable: %m", t->name);
        passed = now_ns(CLOCK_BOOTTIME) - t->made;
        max = t->interval ? 1 + (uint64_t)((passed + 50 * MS) / t->interval) : 1;
        CHECK(n >= 1 && n <= max, "%s: %" PRIu64 " ticks in %" PRId64 " ns", t->name, n, passed);
        CHECK(timerfd_gettime(t->fd, &its) == 0 && ns(its.it_interval) == t->interval, "%s: interval",
              t->name);
        passed = now_ns(CLOCK_BOOTTIME) - t->made;
        if (t->interval == 0) {
                CHECK(ns(its.it_value) == 0, "%s: still armed", t->name);
                return;
        }
        /* Still in step with its start. */
        if (t->interval > 1000 * MS)
                CHECK(n == 1, "%s: %" PRIu64 " ticks", t->name, n);
        if (t->interval > 1000 * MS)
                CHECK(ns(its.it_value) > t->interval - passed - 50 * MS, "%s: %" PRId64 " left", t->name,
                      ns(its.it_value));
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        for (size_t i = 0; i < ELEMENTS(timers); i++)
                make(&timers[i]);
        test_ready();
        test_wait();
        /* break: { struct itimerspec z = { 0 }; timerfd_settime(timers[0].fd, 0, &z, NULL); } */
        /* break: { struct itimerspec z = spec(timers[1].end - 300 * MS, 0); timerfd_settime(timers[1].fd, 1, &z, NULL); } */
        /* break: { struct itimerspec z = spec(timers[4].end, 0); timerfd_settime(timers[4].fd, 1, &z, NULL); } */
        /* break: { uint64_t n; read(timers[10].fd, &n, 8); } */
        /* break: { uint64_t n; read(timers[12].fd, &n, 8); } */
        /* break: { struct itimerspec z = spec(1, 2 * MS); timerfd_settime(timers[9].fd, 0, &z, NULL); } */
        /* break: { struct itimerspec z = spec(10, 9 * MS); timerfd_settime(timers[13].fd, 0, &z, NULL); } */
        for (size_t i = 0; i < ELEMENTS(timers); i++) {
                struct timer *t = &timers[i];
                struct itimerspec its;

                CHECK(fcntl(t->fd, F_GETFL) == (O_RDWR | O_NONBLOCK), "%s: flags", t->name);
                CHECK(shown(t, "clockid:") == (uint64_t)t->clock, "%s: clock", t->name);
                CHECK(shown(t, "settime flags:") == (uint64_t)t->flags, "%s: flags %" PRIu64, t->name,
                      shown(t, "settime flags:"));
                CHECK(t->wait || timerfd_gettime(t->fd, &its) == 0, "%s: %m", t->name);
                CHECK(t->wait || ns(its.it_interval) == t->interval, "%s: interval", t->name);
                if (t->wait)
                        check_ticks(t);
                else if (t->value > 1000 * MS)
                        check_remaining(t);
                else if (t->value == 0)
                        CHECK(ns(its.it_value) == 0, "%s: armed", t->name);
                else {
                        struct pollfd p = { t->fd, POLLIN, 0 };

                        CHECK(poll(&p, 1, 30000) == 1, "%s: does not fire", t->name);
                        check_ticks(t);
                }
        }
        /* Life goes on: the fast one ticks, one that has fired can be set again. */
        for (int i = 0; i < 3; i++) {
                struct pollfd p = { timers[13].fd, POLLIN, 0 };
                uint64_t n;

                CHECK(poll(&p, 1, 30000) == 1 && read(timers[13].fd, &n, 8) == 8, "fast: no more ticks");
        }
        {
                struct itimerspec its = spec(1 * MS, 0);
                struct pollfd p = { timers[10].fd, POLLIN, 0 };

                CHECK(timerfd_settime(timers[10].fd, 0, &its, NULL) == 0 && poll(&p, 1, 30000) == 1,
                      "set again");
        }
        test_pass();
}
