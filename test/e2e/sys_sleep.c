/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=90 */
/* System calls with a time-out, dumped while they wait: none returns early, none shows EINTR, and none takes longer
 * than was asked plus the time in which the process did not exist. That time is measured by a thread that sleeps
 * ten milliseconds again and again and adds up by how much it comes late. What a loaded machine does to one thread and
 * not to the other, that one knows: how long it had to wait for a CPU. */
#include "e2e.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/select.h>

#define ASKED (3 * NS_PER_S)
#define SLACK (NS_PER_S / 2)

struct sleeper {
        const char *name;
        void (*fn)(struct sleeper *s);
        int64_t start, end;
        int64_t waited; /* for a CPU, in all its life */
        clockid_t clock;
        int64_t times; /* how often ASKED may pass: 1 unless said otherwise */
        bool done;
        pthread_t t;
};

static struct gate ready, leave;
static int empty[2];
static volatile int64_t late;
static volatile int stop;
static int64_t extra; /* for the proof that the test can fail */
static uint32_t word;

static struct timespec asked(void) {
        return (struct timespec){ (ASKED + extra) / NS_PER_S, (ASKED + extra) % NS_PER_S };
}

/* The time ASKED after the sleeper's start, for absolute waits. */
static struct timespec at(const struct sleeper *s) {
        return (struct timespec){ (s->start + ASKED) / NS_PER_S, (s->start + ASKED) % NS_PER_S };
}

static void *measure(void *arg) {
        const struct timespec ten = { .tv_nsec = 10000000 };
        int64_t last = now_ns(CLOCK_MONOTONIC);

        while (!stop) {
                int64_t now;

                CHECK(nanosleep(&ten, NULL) == 0, "nanosleep: %m");
                now = now_ns(CLOCK_MONOTONIC);
                if (now - last > 20000000)
                        late += now - last - 10000000;
                last = now;
        }
        return arg;
}

static void do_nanosleep(struct sleeper *s) {
        struct timespec ts = asked();

        CHECK(nanosleep(&ts, NULL) == 0, "%s: %m", s->name);
}

/* The kernel writes rem whenever the sleep is broken off, also where it takes it up again afterwards; what is written
 * must be no more than was asked. */
static void do_nanosleep_rem(struct sleeper *s) {
        struct timespec ts = asked(), rem = { 0, 0 };

        CHECK(nanosleep(&ts, &rem) == 0, "%s: %m", s->name);
        CHECK(rem.tv_sec >= 0 && rem.tv_sec * NS_PER_S + rem.tv_nsec <= ASKED + extra,
              "%s: %ld.%09ld s remain", s->name, rem.tv_sec, rem.tv_nsec);
}

static void do_clock_nanosleep(struct sleeper *s) {
        struct timespec ts = asked();
        int r = clock_nanosleep(s->clock, 0, &ts, NULL);

        CHECK(r == 0, "%s: %s", s->name, strerror(r));
}

static void do_clock_nanosleep_abs(struct sleeper *s) {
        struct timespec ts = at(s);
        int r = clock_nanosleep(s->clock, TIMER_ABSTIME, &ts, NULL);

        CHECK(r == 0, "%s: %s", s->name, strerror(r));
}

static void do_poll(struct sleeper *s) {
        struct pollfd p = { .fd = empty[0], .events = POLLIN, .revents = 77 };

        CHECK(poll(&p, 1, (int)(ASKED / 1000000)) == 0 && p.revents == 0, "%s: revents %d: %m", s->name,
              p.revents);
}

static void do_poll_nothing(struct sleeper *s) {
        CHECK(poll(NULL, 0, (int)(ASKED / 1000000)) == 0, "%s: %m", s->name);
}

static void do_ppoll(struct sleeper *s) {
        struct pollfd p = { .fd = empty[0], .events = POLLIN };
        struct timespec ts = asked();
        uint64_t mask = ~0ULL;
        long r = syscall(SYS_ppoll, &p, 1, &ts, &mask, sizeof(mask));

        CHECK(r == 0, "%s gave %ld: %m", s->name, r);
        CHECK(ts.tv_sec == 0 && ts.tv_nsec == 0, "%s: %ld.%09ld s are left", s->name, ts.tv_sec, ts.tv_nsec);
}

static void do_select(struct sleeper *s) {
        struct timeval tv = { ASKED / NS_PER_S, 0 };
        fd_set set;

        FD_ZERO(&set);
        FD_SET(empty[0], &set);
        CHECK(select(empty[0] + 1, &set, NULL, NULL, &tv) == 0 && !FD_ISSET(empty[0], &set), "%s: %m",
              s->name);
        CHECK(tv.tv_sec == 0 && tv.tv_usec == 0, "%s: %ld.%06ld s are left", s->name, tv.tv_sec, tv.tv_usec);
}

static void do_pselect(struct sleeper *s) {
        struct timespec ts = asked();
        sigset_t mask;
        fd_set set;

        FD_ZERO(&set);
        FD_SET(empty[0], &set);
        sigfillset(&mask);
        CHECK(pselect(empty[0] + 1, &set, NULL, NULL, &ts, &mask) == 0 && !FD_ISSET(empty[0], &set),
              "%s: %m", s->name);
}

static void do_futex(struct sleeper *s) {
        struct timespec ts = asked();

        CHECK(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &ts, NULL, 0) < 0 && errno == ETIMEDOUT, "%s: %m",
              s->name);
}

static void do_futex_abs(struct sleeper *s) {
        struct timespec ts = at(s);
        int op = FUTEX_WAIT_BITSET_PRIVATE | (s->clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);

        CHECK(syscall(SYS_futex, &word, op, 0, &ts, NULL, FUTEX_BITSET_MATCH_ANY) < 0 && errno == ETIMEDOUT,
              "%s: %m", s->name);
}

static void do_cond(struct sleeper *s) {
        pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
        pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        struct timespec ts = at(s);
        int r;

        pthread_mutex_lock(&mutex);
        r = pthread_cond_timedwait(&cond, &mutex, &ts);
        CHECK(r == ETIMEDOUT, "%s: %s", s->name, strerror(r));
        pthread_mutex_unlock(&mutex);
}

/* The kernel does not tell how much of this one's time was left: it may begin again with each dump. */
static void do_sigtimedwait(struct sleeper *s) {
        struct timespec ts = asked();
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        CHECK(sigtimedwait(&set, NULL, &ts) < 0 && errno == EAGAIN, "%s: %m", s->name);
}

static struct sleeper sleepers[] = {
        { .name = "nanosleep", .fn = do_nanosleep, .clock = CLOCK_MONOTONIC },
        { .name = "nanosleep with rem", .fn = do_nanosleep_rem, .clock = CLOCK_MONOTONIC },
        { .name = "clock_nanosleep, monotonic", .fn = do_clock_nanosleep, .clock = CLOCK_MONOTONIC },
        { .name = "clock_nanosleep, real", .fn = do_clock_nanosleep, .clock = CLOCK_REALTIME },
        { .name = "clock_nanosleep, boot", .fn = do_clock_nanosleep, .clock = CLOCK_BOOTTIME },
        { .name = "clock_nanosleep until, monotonic",
          .fn = do_clock_nanosleep_abs,
          .clock = CLOCK_MONOTONIC },
        { .name = "clock_nanosleep until, real", .fn = do_clock_nanosleep_abs, .clock = CLOCK_REALTIME },
        { .name = "poll", .fn = do_poll, .clock = CLOCK_MONOTONIC },
        { .name = "poll of nothing", .fn = do_poll_nothing, .clock = CLOCK_MONOTONIC },
        { .name = "ppoll", .fn = do_ppoll, .clock = CLOCK_MONOTONIC },
        { .name = "select", .fn = do_select, .clock = CLOCK_MONOTONIC },
        { .name = "pselect", .fn = do_pselect, .clock = CLOCK_MONOTONIC },
        { .name = "futex", .fn = do_futex, .clock = CLOCK_MONOTONIC },
        { .name = "futex until, monotonic", .fn = do_futex_abs, .clock = CLOCK_MONOTONIC },
        { .name = "futex until, real", .fn = do_futex_abs, .clock = CLOCK_REALTIME },
        { .name = "pthread_cond_timedwait", .fn = do_cond, .clock = CLOCK_REALTIME },
        { .name = "sigtimedwait", .fn = do_sigtimedwait, .clock = CLOCK_MONOTONIC, .times = 3 },
};

/* The kernel may be built without. */
static int64_t waited_for_cpu(void) {
        long long on_cpu, waited;
        char text[128];

        return read_file("/proc/thread-self/schedstat", text, sizeof(text)) > 0 &&
                               sscanf(text, "%lld %lld", &on_cpu, &waited) == 2
                       ? waited
                       : 0;
}

static void *run(void *arg) {
        struct sleeper *s = arg;

        gate_open(&ready, 1);
        s->start = now_ns(s->clock);
        s->fn(s);
        s->end = now_ns(s->clock);
        s->waited = waited_for_cpu();
        __atomic_store_n(&s->done, true, __ATOMIC_RELEASE);
        gate_pass(&leave, 1); /* the threads are the same all the time */
        return arg;
}

int main(int argc, char **argv) {
        pthread_t measurer;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&leave);
        CHECK(pipe(empty) == 0, "pipe: %m");
        CHECK(pthread_create(&measurer, NULL, measure, NULL) == 0, "pthread_create");
        /* break: extra = NS_PER_S; */
        /* break: extra = -NS_PER_S; */
        for (size_t i = 0; i < ELEMENTS(sleepers); i++)
                CHECK(pthread_create(&sleepers[i].t, NULL, run, &sleepers[i]) == 0, "pthread_create");
        gate_pass(&ready, ELEMENTS(sleepers));
        test_ready();
        test_wait();
        /* break: word = 1; syscall(SYS_futex, &word, FUTEX_WAKE, 9, NULL, NULL, 0); */
        /* break: write(empty[1], "x", 1); */
        for (size_t i = 0; i < ELEMENTS(sleepers); i++) {
                struct sleeper *s = &sleepers[i];
                int64_t took;

                while (!__atomic_load_n(&s->done, __ATOMIC_ACQUIRE))
                        tick(); /* the runner's patience is the limit */
                took = s->end - s->start;
                CHECK(took >= ASKED, "%s returned after %" PRId64 " ms", s->name, took / 1000000);
                CHECK(took <= ASKED * (s->times ? s->times : 1) + late + s->waited + SLACK,
                      "%s took %" PRId64 " ms, of which it was away %" PRId64 " ms", s->name, took / 1000000,
                      late / 1000000);
        }
        gate_open(&leave, ELEMENTS(sleepers));
        for (size_t i = 0; i < ELEMENTS(sleepers); i++)
                CHECK(pthread_join(sleepers[i].t, NULL) == 0, "pthread_join");
        stop = 1;
        CHECK(pthread_join(measurer, NULL) == 0, "pthread_join");
        test_pass();
}
