/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* System calls that wait for something to happen: they still wait after the restore, show no EINTR, and return
 * the right thing once it does. A signal with a handler ends those that it should, with EINTR and, where there is
 * one, the right remaining time. */
#include "e2e.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/select.h>
#include <sys/uio.h>

#define LONG_SLEEP 1000

struct blocked {
        const char *name;
        long nr, other_nr; /* the system call in which it must be found */
        void (*fn)(struct blocked *b);
        void (*wake)(struct blocked *b);
        pthread_t t;
        pid_t tid;
        int fd[2];
        volatile uint32_t word;
        pid_t kid;
        volatile int returned;
};

static struct gate ready, kid_go;
static bool allow_eintr;     /* of sigwaitinfo: for kills.py */
static uint64_t thread_mask; /* what the threads block */
static volatile sig_atomic_t handled;
static volatile uint64_t mask_inside;

static uint64_t own_mask(void) {
        uint64_t m = 0;

        CHECK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &m, sizeof(m)) == 0, "rt_sigprocmask: %m");
        return m;
}

static void on_usr1(int sig E2E_UNUSED) {
        mask_inside = own_mask();
        handled++;
}

static void wake_by_signal(struct blocked *b) {
        int before = handled;

        CHECK(syscall(SYS_tgkill, getpid(), b->tid, SIGUSR1) == 0, "tgkill: %m");
        WAIT_FOR(handled == before + 1, "%s: the handler runs", b->name);
}

static void wake_by_byte(struct blocked *b) {
        CHECK(write(b->fd[1], "w", 1) == 1, "write: %m");
}

static void do_read(struct blocked *b) {
        char c[4];
        ssize_t r = read(b->fd[0], c, 4);

        CHECK(r == 1 && c[0] == 'w', "%s gave %zd: %m", b->name, r);
}

static void do_readv(struct blocked *b) {
        char c[2][1];
        struct iovec v[2] = { { c[0], 1 }, { c[1], 1 } };
        ssize_t r = readv(b->fd[0], v, 2);

        CHECK(r == 1 && c[0][0] == 'w', "%s gave %zd: %m", b->name, r);
}

static void fill_pipe(struct blocked *b) {
        static const char page[PAGE];

        CHECK(fcntl(b->fd[1], F_SETFL, O_NONBLOCK) == 0, "F_SETFL: %m");
        while (write(b->fd[1], page, PAGE) > 0)
                ;
        CHECK(fcntl(b->fd[1], F_SETFL, 0) == 0, "F_SETFL: %m");
}

static void do_write(struct blocked *b) {
        char page[PAGE];
        ssize_t r;

        memset(page, 'p', sizeof(page));
        r = write(b->fd[1], page, PAGE);
        CHECK(r == (ssize_t)PAGE, "%s gave %zd: %m", b->name, r);
}

static void wake_writer(struct blocked *b) {
        char page[PAGE];

        for (int i = 0; i < 17; i++) {
                ssize_t r = read(b->fd[0], page, PAGE);

                CHECK(r == (ssize_t)PAGE && page[7] == (i < 16 ? 0 : 'p'), "page %d of a full pipe: %zd: %m",
                      i, r);
        }
}

static void do_splice(struct blocked *b) {
        int to[2];
        char c;
        ssize_t r;

        CHECK(pipe(to) == 0, "pipe: %m");
        r = splice(b->fd[0], NULL, to[1], NULL, 100, 0);
        CHECK(r == 1 && read(to[0], &c, 1) == 1 && c == 'w', "%s gave %zd: %m", b->name, r);
        close(to[0]);
        close(to[1]);
}

static void do_poll(struct blocked *b) {
        struct pollfd p = { .fd = b->fd[0], .events = POLLIN };
        int r = poll(&p, 1, -1);

        CHECK(r == 1 && p.revents == POLLIN, "%s gave %d, revents 0x%x: %m", b->name, r,
              (unsigned)p.revents);
}

static void do_poll_long(struct blocked *b) {
        struct pollfd p = { .fd = b->fd[0], .events = POLLIN };
        int r = poll(&p, 1, LONG_SLEEP * 1000);

        CHECK(r == 1 && p.revents == POLLIN, "%s gave %d, revents 0x%x: %m", b->name, r,
              (unsigned)p.revents);
}

static void do_ppoll(struct blocked *b) {
        struct pollfd p = { .fd = b->fd[0], .events = POLLIN };
        struct timespec ts = { LONG_SLEEP, 0 };
        sigset_t mask;
        int r;

        sigfillset(&mask);
        r = ppoll(&p, 1, &ts, &mask);
        CHECK(r == 1 && p.revents == POLLIN, "%s gave %d, revents 0x%x: %m", b->name, r,
              (unsigned)p.revents);
        CHECK(own_mask() == thread_mask, "%s: mask afterwards", b->name);
}

static void do_select(struct blocked *b) {
        struct timeval tv = { LONG_SLEEP, 0 };
        fd_set set;
        int r;

        FD_ZERO(&set);
        FD_SET(b->fd[0], &set);
        r = select(b->fd[0] + 1, &set, NULL, NULL, &tv);
        CHECK(r == 1 && FD_ISSET(b->fd[0], &set), "%s gave %d: %m", b->name, r);
        CHECK(tv.tv_sec < LONG_SLEEP && tv.tv_sec > LONG_SLEEP - 100, "%s: %ld s are left", b->name,
              tv.tv_sec);
}

/* In its mask SIGUSR1 is open, and only there. */
static void do_pselect(struct blocked *b) {
        uint64_t open_mask = thread_mask & ~(1ULL << (SIGUSR1 - 1));
        struct timespec ts = { LONG_SLEEP, 0 };
        struct {
                uint64_t *mask;
                size_t size;
        } arg = { &open_mask, sizeof(open_mask) };
        uint64_t blocked = thread_mask | 1ULL << (SIGUSR1 - 1);
        long r;

        CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, sizeof(blocked)) == 0, "mask: %m");
        r = syscall(SYS_pselect6, 0, NULL, NULL, NULL, &ts, &arg);
        CHECK(r < 0 && errno == EINTR, "%s gave %ld: %m", b->name, r);
        CHECK(own_mask() == blocked, "%s: mask afterwards", b->name);
        CHECK(ts.tv_sec < LONG_SLEEP && ts.tv_sec > LONG_SLEEP - 100, "%s: %ld s are left", b->name,
              ts.tv_sec);
}

static void do_sigsuspend(struct blocked *b) {
        uint64_t open_mask = thread_mask & ~(1ULL << (SIGUSR1 - 1)),
                 blocked = thread_mask | 1ULL << (SIGUSR1 - 1);

        CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, sizeof(blocked)) == 0, "mask: %m");
        CHECK(syscall(SYS_rt_sigsuspend, &open_mask, sizeof(open_mask)) < 0 && errno == EINTR, "%s: %m",
              b->name);
        CHECK(own_mask() == blocked, "%s: mask afterwards", b->name);
        CHECK(mask_inside == (open_mask | 1ULL << (SIGUSR1 - 1)), "%s: mask in the handler %" PRIx64,
              b->name, mask_inside);
}

static void do_pause(struct blocked *b) {
        CHECK(pause() < 0 && errno == EINTR, "%s: %m", b->name);
}

static void do_nanosleep(struct blocked *b) {
        struct timespec ts = { LONG_SLEEP, 0 }, rem = { -1, -1 };

        CHECK(nanosleep(&ts, &rem) < 0 && errno == EINTR, "%s: %m", b->name);
        CHECK(rem.tv_sec < LONG_SLEEP && rem.tv_sec > LONG_SLEEP - 100, "%s: %ld s are left", b->name,
              rem.tv_sec);
}

static void do_sigwaitinfo(struct blocked *b) {
        siginfo_t si;
        sigset_t set;
        int r;

        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN + 6);
        do
                r = sigwaitinfo(&set, &si);
        while (r < 0 && errno == EINTR && allow_eintr);
        CHECK(r == SIGRTMIN + 6 && si.si_value.sival_int == 99, "%s gave %d: %m", b->name, r);
}

static void wake_sigwaitinfo(struct blocked *b E2E_UNUSED) {
        CHECK(sigqueue(getpid(), SIGRTMIN + 6, (union sigval){ .sival_int = 99 }) == 0, "sigqueue: %m");
}

static void do_futex(struct blocked *b) {
        CHECK(syscall(SYS_futex, &b->word, FUTEX_WAIT, 0, NULL, NULL, 0) == 0, "%s: %m", b->name);
        CHECK(b->word == 1, "%s woke up too early", b->name);
}

static void do_futex_timeout(struct blocked *b) {
        struct timespec ts = { LONG_SLEEP, 0 };

        CHECK(syscall(SYS_futex, &b->word, FUTEX_WAIT, 0, &ts, NULL, 0) == 0, "%s: %m", b->name);
        CHECK(b->word == 1, "%s woke up too early", b->name);
}

static void wake_futex(struct blocked *b) {
        b->word = 1;
        CHECK(syscall(SYS_futex, &b->word, FUTEX_WAKE, 10, NULL, NULL, 0) == 1, "%s: nobody waits", b->name);
}

static void do_waitpid(struct blocked *b) {
        int st;

        CHECK(wait4(b->kid, &st, 0, NULL) == b->kid, "%s: %m", b->name);
        CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 66, "%s: status 0x%x", b->name, (unsigned)st);
}

/* Before anything else is open that the child would inherit. */
static void fork_kid(struct blocked *b) {
        b->kid = xfork();
        if (b->kid > 0)
                return;
        gate_pass(&kid_go, 1);
        _exit(b->nr == SYS_wait4 ? 66 : 67);
}

static void do_waitid(struct blocked *b) {
        siginfo_t si;

        CHECK(waitid(P_PID, (id_t)b->kid, &si, WEXITED) == 0, "%s: %m", b->name);
        CHECK(si.si_pid == b->kid && si.si_code == CLD_EXITED && si.si_status == 67, "%s: status %d",
              b->name, si.si_status);
}

static void wake_kid(struct blocked *b E2E_UNUSED) {
        gate_open(&kid_go, 1);
}

static void do_open(struct blocked *b) {
        char c;
        int fd = open("fifo", O_RDONLY);

        CHECK(fd >= 0, "%s: %m", b->name);
        CHECK(read(fd, &c, 1) == 1 && c == 'o', "read: %m");
        close(fd);
}

static void wake_open(struct blocked *b E2E_UNUSED) {
        int fd = open("fifo", O_WRONLY | O_NONBLOCK);

        CHECK(fd >= 0 && write(fd, "o", 1) == 1, "open the other end: %m");
        close(fd);
}

static struct blocked table[] = {
        { .name = "read", .nr = SYS_read, .fn = do_read, .wake = wake_by_byte },
        { .name = "readv", .nr = SYS_readv, .fn = do_readv, .wake = wake_by_byte },
        { .name = "write", .nr = SYS_write, .fn = do_write, .wake = wake_writer },
        { .name = "splice", .nr = SYS_splice, .fn = do_splice, .wake = wake_by_byte },
        { .name = "poll", .nr = SYS_poll, .fn = do_poll, .wake = wake_by_byte },
        { .name = "poll with a time-out", .nr = SYS_poll, .fn = do_poll_long, .wake = wake_by_byte },
        { .name = "ppoll", .nr = SYS_ppoll, .fn = do_ppoll, .wake = wake_by_byte },
        { .name = "select",
          .nr = SYS_select,
          .other_nr = SYS_pselect6,
          .fn = do_select,
          .wake = wake_by_byte },
        { .name = "pselect", .nr = SYS_pselect6, .fn = do_pselect, .wake = wake_by_signal },
        { .name = "sigsuspend", .nr = SYS_rt_sigsuspend, .fn = do_sigsuspend, .wake = wake_by_signal },
        { .name = "pause", .nr = SYS_pause, .fn = do_pause, .wake = wake_by_signal },
        { .name = "nanosleep",
          .nr = SYS_nanosleep,
          .other_nr = SYS_clock_nanosleep,
          .fn = do_nanosleep,
          .wake = wake_by_signal },
        { .name = "sigwaitinfo", .nr = SYS_rt_sigtimedwait, .fn = do_sigwaitinfo, .wake = wake_sigwaitinfo },
        { .name = "futex", .nr = SYS_futex, .fn = do_futex, .wake = wake_futex },
        { .name = "futex with a time-out", .nr = SYS_futex, .fn = do_futex_timeout, .wake = wake_futex },
        { .name = "wait4", .nr = SYS_wait4, .fn = do_waitpid, .wake = wake_kid },
        { .name = "waitid", .nr = SYS_waitid, .fn = do_waitid, .wake = wake_kid },
        { .name = "open of a fifo", .nr = SYS_openat, .fn = do_open, .wake = wake_open },
};

static void *run(void *arg) {
        struct blocked *b = arg;

        b->tid = xgettid();
        gate_open(&ready, 1);
        b->fn(b);
        b->returned = 1;
        return arg;
}

static bool is_in_call(const struct blocked *b) {
        char path[64], text[256];
        long nr;

        snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", b->tid);
        if (read_file(path, text, sizeof(text)) <= 0 || sscanf(text, "%ld", &nr) != 1)
                return false; /* "running" */
        /* Where the kernel goes on with what it had begun, that is a system call of its own. */
        return nr == b->nr || nr == SYS_restart_syscall || (b->other_nr && nr == b->other_nr);
}

int main(int argc, char **argv) {
        struct sigaction sa = { .sa_handler = on_usr1 };
        sigset_t block;

        test_init(argc, argv);
        allow_eintr = argc == 2 && strcmp(argv[1], "sigwaitinfo-eintr") == 0;
        gate_init(&ready);
        gate_init(&kid_go);
        CHECK(mkfifo("fifo", 0600) == 0, "mkfifo: %m");
        sigaction(SIGUSR1, &sa, NULL);
        sigemptyset(&block);
        sigaddset(&block, SIGRTMIN + 6);
        pthread_sigmask(SIG_BLOCK, &block, NULL);
        thread_mask = own_mask();
        for (size_t i = 0; i < ELEMENTS(table); i++)
                if (table[i].wake == wake_kid)
                        fork_kid(&table[i]);
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                struct blocked *b = &table[i];

                CHECK(pipe(b->fd) == 0, "pipe: %m");
                if (b->fn == do_write)
                        fill_pipe(b);
                CHECK(pthread_create(&b->t, NULL, run, b) == 0, "pthread_create");
                gate_pass(&ready, 1);
                WAIT_FOR(is_in_call(b), "%s waits", b->name);
        }
        test_ready();
        test_wait();
        /* break: wake_by_byte(&table[0]); tick(); */
        /* break: wake_by_signal(&table[10]); tick(); */
        /* break: kill(table[15].kid, SIGKILL); */
        /* break: table[13].word = 1; syscall(SYS_futex, &table[13].word, FUTEX_WAKE, 1, NULL, NULL, 0); tick(); */
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                CHECK(!table[i].returned, "%s returned too early", table[i].name);
                WAIT_FOR(is_in_call(&table[i]), "%s goes on waiting", table[i].name);
        }
        /* Not in pairs that could wake each other's. */
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                struct blocked *b = &table[i];

                CHECK(b->wake == wake_kid || !b->returned, "%s returned too early", b->name);
                b->wake(b);
                if (b->wake != wake_kid)
                        CHECK(pthread_join(b->t, NULL) == 0, "pthread_join");
        }
        for (size_t i = 0; i < ELEMENTS(table); i++)
                if (table[i].wake == wake_kid)
                        CHECK(pthread_join(table[i].t, NULL) == 0, "pthread_join");
        CHECK(handled == 4, "%d handlers ran", (int)handled);
        test_pass();
}
