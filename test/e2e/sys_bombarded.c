/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: busy ignore=status.SigPnd,status.ShdPnd,status.SigBlk timeout=60 */
/* Processes that read, write, wait on a futex, sleep and poll under a hail of signals with a handler, sent by another process
 * of the tree and by a timer: after a restore, too, some signal arrives at once. With SA_RESTART nothing shows
 * EINTR; what may show it says truly how much time is left. */
#include "e2e.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/time.h>

enum { READER, WRITER, FUTEX_WAITER, SLEEPER, POLLER, N_VICTIMS };

struct shared {
        volatile int stop;
        uint32_t word;
        volatile uint64_t rounds[N_VICTIMS], signals[N_VICTIMS], lie;
};

static struct shared *sh;
static int to_reader[2], from_writer[2], empty[2];
static struct gate ready;
static int me;

static void on_signal(int sig E2E_UNUSED) {
        sh->signals[me]++;
}

static void short_sleep(long us) {
        struct timespec ts = { .tv_nsec = us * 1000 };

        while (nanosleep(&ts, &ts) < 0)
                CHECK(errno == EINTR, "nanosleep: %m");
}

/* Numbers come in order, whole and without EINTR. */
static void one_read(void) {
        static uint64_t next;
        uint64_t n;
        ssize_t r = read(to_reader[0], &n, sizeof(n));

        CHECK(r == sizeof(n), "read gave %zd: %m", r);
        CHECK(n == next + sh->lie, "read %" PRIu64 ", not %" PRIu64, n, next);
        next++;
}

static void one_write(void) {
        static uint64_t page[512];
        ssize_t r = write(from_writer[1], page, sizeof(page));

        CHECK(r == sizeof(page), "write gave %zd: %m", r);
        page[0]++;
}

static void one_wait(void) {
        uint32_t seen = __atomic_load_n(&sh->word, __ATOMIC_ACQUIRE);
        long r = syscall(SYS_futex, &sh->word, FUTEX_WAIT, seen, NULL, NULL, 0);

        CHECK(r == 0 || errno == EAGAIN, "futex gave %ld: %m", r);
}

static void one_sleep(void) {
        const int64_t asked = 4000000;
        struct timespec ts = { .tv_nsec = asked };
        int64_t start = now_ns(CLOCK_MONOTONIC), left = asked;

        while (nanosleep(&ts, &ts) < 0) {
                int64_t now = ts.tv_sec * NS_PER_S + ts.tv_nsec;

                CHECK(errno == EINTR, "nanosleep: %m");
                CHECK(now <= left + 10000 && now >= 0, "%" PRId64 " ns are left, before there were %" PRId64,
                      now, left);
                left = now;
        }
        CHECK(now_ns(CLOCK_MONOTONIC) - start >= asked, "slept only %" PRId64 " ns",
              now_ns(CLOCK_MONOTONIC) - start);
}

static void one_poll(void) {
        int64_t start = now_ns(CLOCK_MONOTONIC);
        struct pollfd p = { .fd = empty[0], .events = POLLIN };
        int r = poll(&p, 1, 3);

        CHECK(r == 0 || (r < 0 && errno == EINTR), "poll gave %d: %m", r);
        CHECK(r < 0 || now_ns(CLOCK_MONOTONIC) - start >= 3000000, "poll returned early");
}

static void run_victim(int which) {
        static void (*const fns[N_VICTIMS])(void) = { one_read, one_write, one_wait, one_sleep, one_poll };
        struct itimerval often = { { 0, 1700 }, { 0, 1700 } };
        sigset_t none;

        me = which;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        /* What remains of a sleep is told with the slack in it. */
        CHECK(prctl(PR_SET_TIMERSLACK, 1) == 0, "PR_SET_TIMERSLACK: %m");
        CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0, "setitimer: %m");
        while (!sh->stop) {
                fns[which]();
                if (sh->rounds[which]++ == 2)
                        gate_open(&ready, 1);
        }
        _exit(30 + which);
}

static void run_helper(bool feeds) {
        uint64_t n = 0, page[512];

        while (feeds || !sh->stop) {
                if (feeds) {
                        /* Goes on until the reader has ended, which may want one more. */
                        signal(SIGPIPE, SIG_DFL);
                        CHECK(write(to_reader[1], &n, sizeof(n)) == sizeof(n), "feed: %m");
                } else {
                        CHECK(read(from_writer[0], page, sizeof(page)) == sizeof(page) && page[0] == n,
                              "page %" PRIu64 " has number %" PRIu64 ": %m", n, page[0]);
                }
                n++;
                short_sleep(1000);
        }
        /* So that a blocked writer sees the end. */
        CHECK(fcntl(from_writer[0], F_SETFL, O_NONBLOCK) == 0, "F_SETFL: %m");
        while (sh->stop < 2)
                if (read(from_writer[0], page, sizeof(page)) < 0)
                        short_sleep(1000);
        _exit(0);
}

static void run_bombarder(const pid_t *victims) {
        while (!sh->stop) {
                for (int i = 0; i < N_VICTIMS; i++)
                        CHECK(kill(victims[i], SIGUSR1) == 0 || errno == ESRCH, "kill: %m");
                __atomic_add_fetch(&sh->word, 1, __ATOMIC_RELEASE);
                syscall(SYS_futex, &sh->word, FUTEX_WAKE, 1, NULL, NULL, 0);
                short_sleep(300);
        }
        _exit(0);
}

int main(int argc, char **argv) {
        struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
        pid_t victims[N_VICTIMS], feeder, drainer, bombarder;
        uint64_t rounds[N_VICTIMS];
        int st;

        test_init(argc, argv);
        sh = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(sh != MAP_FAILED && pipe(to_reader) == 0 && pipe(from_writer) == 0 && pipe(empty) == 0,
              "mmap, pipe: %m");
        gate_init(&ready);
        sigaction(SIGUSR1, &sa, NULL);
        sigaction(SIGALRM, &sa, NULL);
        for (int i = 0; i < N_VICTIMS; i++) {
                victims[i] = xfork();
                if (victims[i] == 0) {
                        close(to_reader[1]);
                        if (i != READER)
                                close(to_reader[0]);
                        run_victim(i);
                }
        }
        close(to_reader[0]);
        feeder = xfork();
        if (feeder == 0)
                run_helper(true);
        close(to_reader[1]);
        drainer = xfork();
        if (drainer == 0)
                run_helper(false);
        bombarder = xfork();
        if (bombarder == 0)
                run_bombarder(victims);
        gate_pass(&ready, N_VICTIMS);
        test_ready();
        test_wait();
        /* break: sh->lie = 1; */
        /* break: kill(victims[FUTEX_WAITER], SIGKILL); */
        for (int i = 0; i < N_VICTIMS; i++)
                rounds[i] = sh->rounds[i];
        for (int i = 0; i < N_VICTIMS; i++)
                WAIT_FOR(sh->rounds[i] > rounds[i] + 2, "victim %d goes on", i);
        sh->stop = 1;
        sh->word++;
        syscall(SYS_futex, &sh->word, FUTEX_WAKE, 1, NULL, NULL, 0);
        for (int i = 0; i < N_VICTIMS; i++) {
                xwait(victims[i], 30 + i);
                CHECK(sh->signals[i] > 0, "victim %d got no signal at all", i);
        }
        sh->stop = 2;
        xwait(drainer, 0);
        xwait(bombarder, 0);
        CHECK(waitpid(feeder, &st, 0) == feeder && WIFSIGNALED(st) && WTERMSIG(st) == SIGPIPE,
              "the feeder: 0x%x: %m", (unsigned)st);
        test_pass();
}
