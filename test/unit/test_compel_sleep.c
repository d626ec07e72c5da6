/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Targets asleep in the kernel: whatever they wait for, several visits later the wait ends as it
 * would have without them, not too early, and with the same result.
 */
#include "test_compel.h"

#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

enum { WAIT_MS = 120, VISITS = 3 };

static const struct timespec wait_ts = { 0, WAIT_MS * 1000 * 1000 };

static void handler(int signo) {
        (void)signo;
}

static void catch_signal(int signo, int flags) {
        struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };

        sigaction(signo, &sa, NULL);
}

struct wait {
        const char *name;
        void (*prepare)(struct shared *sh);   /* in the target */
        int64_t (*wait)(struct shared *sh);   /* in the target: sleep once */
        long nr;                              /* in which system call */
        void (*wake)(const struct target *t); /* NULL: it ends after WAIT_MS */
        int64_t want;
        int want_errno;
};

static struct timespec deadline(clockid_t clock) {
        struct timespec ts;

        clock_gettime(clock, &ts);
        ts.tv_nsec += WAIT_MS * 1000 * 1000;
        if (ts.tv_nsec >= 1000000000) {
                ts.tv_nsec -= 1000000000;
                ts.tv_sec++;
        }
        return ts;
}

static int64_t do_nanosleep(struct shared *sh) {
        return syscall(SYS_nanosleep, &wait_ts, NULL);
}
static int64_t do_nanosleep_rem(struct shared *sh) {
        struct timespec rem = { 7, 7 };

        return syscall(SYS_nanosleep, &wait_ts, &rem);
}
static int64_t do_clock_relative(struct shared *sh) {
        return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &wait_ts, NULL);
}
static int64_t do_clock_absolute(struct shared *sh) {
        struct timespec ts = deadline(CLOCK_MONOTONIC);

        return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}
static int64_t do_poll(struct shared *sh) {
        struct pollfd p = { sh->fd[0], POLLIN, 0 };

        return syscall(SYS_poll, &p, 1, WAIT_MS);
}
static int64_t do_poll_forever(struct shared *sh) {
        struct pollfd p = { sh->fd[0], POLLIN, 0 };

        return syscall(SYS_poll, &p, 1, -1);
}
static int64_t do_ppoll(struct shared *sh) {
        struct pollfd p = { sh->fd[0], POLLIN, 0 };
        struct timespec ts = wait_ts;
        uint64_t mask = 0;

        return syscall(SYS_ppoll, &p, 1, &ts, &mask, 8);
}
static int64_t do_ppoll_forever(struct shared *sh) {
        struct pollfd p = { sh->fd[0], POLLIN, 0 };

        return syscall(SYS_ppoll, &p, 1, NULL, NULL, 8);
}
static int64_t do_select(struct shared *sh) {
        struct timeval tv = { 0, WAIT_MS * 1000 };
        fd_set set;

        FD_ZERO(&set);
        FD_SET(sh->fd[0], &set);
        return syscall(SYS_select, sh->fd[0] + 1, &set, NULL, NULL, &tv);
}
static int64_t do_pselect(struct shared *sh) {
        struct timespec ts = wait_ts;

        return syscall(SYS_pselect6, 0, NULL, NULL, NULL, &ts, NULL);
}
static int64_t do_futex_timeout(struct shared *sh) {
        return syscall(SYS_futex, &sh->word, FUTEX_WAIT, 0, &wait_ts, NULL, 0);
}
static int64_t do_futex_absolute(struct shared *sh) {
        struct timespec ts = deadline(CLOCK_MONOTONIC);

        return syscall(SYS_futex, &sh->word, FUTEX_WAIT_BITSET, 0, &ts, NULL, -1);
}
static int64_t do_futex(struct shared *sh) {
        return syscall(SYS_futex, &sh->word, FUTEX_WAIT, 0, NULL, NULL, 0);
}
static int64_t do_epoll(struct shared *sh) {
        struct epoll_event e;

        return syscall(SYS_epoll_wait, (int)sh->extra, &e, 1, WAIT_MS);
}
static int64_t do_epoll_forever(struct shared *sh) {
        struct epoll_event e;

        return syscall(SYS_epoll_wait, (int)sh->extra, &e, 1, -1);
}
static int64_t do_epoll_pwait(struct shared *sh) {
        struct epoll_event e;
        uint64_t mask = 0;

        return syscall(SYS_epoll_pwait, (int)sh->extra, &e, 1, WAIT_MS, &mask, 8);
}
static int64_t do_sigsuspend(struct shared *sh) {
        uint64_t mask = 0;

        return syscall(SYS_rt_sigsuspend, &mask, 8);
}
static int64_t do_pause(struct shared *sh) {
        return syscall(SYS_pause);
}
static int64_t do_sigtimedwait(struct shared *sh) {
        uint64_t set = 1ULL << (SIGUSR1 - 1);

        return syscall(SYS_rt_sigtimedwait, &set, NULL, &wait_ts, 8);
}
static int64_t do_sigwait(struct shared *sh) {
        uint64_t set = 1ULL << (SIGUSR1 - 1);

        return syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8);
}
static int64_t do_wait4(struct shared *sh) {
        int status = 0;
        pid_t pid = (pid_t)syscall(SYS_wait4, -1, &status, 0, NULL);

        return pid == sh->extra && WEXITSTATUS(status) == 9 ? 1 : -1;
}
static int64_t do_read(struct shared *sh) {
        char c[8];

        return read(sh->fd[0], c, sizeof(c));
}
static int64_t do_recv(struct shared *sh) {
        char c[8];

        return syscall(SYS_recvfrom, (int)sh->extra, c, sizeof(c), 0, NULL, NULL);
}
static int64_t do_semop(struct shared *sh) {
        struct sembuf op = { 0, -1, 0 };

        return syscall(SYS_semtimedop, (int)sh->extra, &op, 1, &wait_ts);
}
static int64_t do_semop_forever(struct shared *sh) {
        struct sembuf op = { 0, -1, 0 };

        return syscall(SYS_semtimedop, (int)sh->extra, &op, 1, NULL);
}
static int64_t do_msgrcv(struct shared *sh) {
        char buf[64];

        return msgrcv((int)sh->extra, buf, 8, 0, 0);
}
static int64_t do_nanosleep_caught(struct shared *sh) {
        struct timespec rem = { 0, 0 }, ts = { 60, 0 };
        int64_t r = syscall(SYS_nanosleep, &ts, &rem);

        complain_if(sh, rem.tv_sec < 30 || rem.tv_sec > 59);
        return r;
}

static void pass_nothing(struct shared *sh) {
}
static void make_epoll(struct shared *sh) {
        struct epoll_event e = { .events = EPOLLIN };

        sh->extra = epoll_create1(0);
        epoll_ctl((int)sh->extra, EPOLL_CTL_ADD, sh->fd[0], &e);
}
static void catch_usr1(struct shared *sh) {
        catch_signal(SIGUSR1, 0);
}
static void catch_usr1_restart(struct shared *sh) {
        catch_signal(SIGUSR1, SA_RESTART);
}
static void block_and_catch_usr1(struct shared *sh) {
        sigset_t set;

        catch_signal(SIGUSR1, 0);
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, NULL);
}
static void make_child(struct shared *sh) {
        pid_t pid = fork();
        char c;

        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                _exit(read(sh->fd[0], &c, 1) == 1 ? 9 : 1);
        }
        sh->extra = pid;
}
static void make_socket(struct shared *sh) {
        struct timeval tv = { 0, WAIT_MS * 1000 };
        int sv[2];

        socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
        setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
        sh->extra = sv[0];
}
static void make_sem(struct shared *sh) {
        sh->extra = semget(IPC_PRIVATE, 1, 0600);
}
static void make_queue(struct shared *sh) {
        sh->extra = msgget(IPC_PRIVATE, 0600);
}

/* A unix socket whose backlog is full; connecting waits, with a limit, for which the call ends with EINTR at any stop. */
static void make_full_listener(struct shared *sh) {
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd;
        socklen_t len = sizeof(addr);

        assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr.sun_family)), 0);
        getsockname(listener, (struct sockaddr *)&addr, &len);
        listen(listener, 0);
        do
                fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        while (connect(fd, (struct sockaddr *)&addr, len) == 0);
        sh->extra = listener;
}
static int64_t do_connect(struct shared *sh) {
        struct timeval limit = { 60, 0 };
        struct sockaddr_un addr;
        socklen_t len = sizeof(addr);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        getsockname((int)sh->extra, (struct sockaddr *)&addr, &len);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        return connect(fd, (struct sockaddr *)&addr, len);
}
static void wake_connect(const struct target *t) {
        int pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
        int listener = (int)syscall(SYS_pidfd_getfd, pidfd, (int)t->sh->extra, 0);

        assert_true(pidfd >= 0 && listener >= 0);
        close(accept(listener, NULL, NULL));
        close(listener);
        close(pidfd);
}
static void wake_fd(const struct target *t) {
        assert_int_equal(write(t->sh->fd[1], "x", 1), 1);
}
static void wake_futex(const struct target *t) {
        assert_eventually(syscall(SYS_futex, &t->sh->word, FUTEX_WAKE, 1, NULL, NULL, 0) == 1);
}
static void wake_signal(const struct target *t) {
        assert_int_equal(kill(t->pid, SIGUSR1), 0);
}
static void wake_sem(const struct target *t) {
        struct sembuf op = { 0, 1, 0 };

        assert_int_equal(semop((int)t->sh->extra, &op, 1), 0);
}
static void wake_queue(const struct target *t) {
        struct {
                long type;
                char text[8];
        } msg = { 1, "abcdefg" };

        assert_int_equal(msgsnd((int)t->sh->extra, &msg, 8, 0), 0);
}
/* A handler with SA_RESTART runs first, and the call goes on. */
static void wake_signal_then_fd(const struct target *t) {
        assert_int_equal(kill(t->pid, SIGUSR1), 0);
        assert_int_equal(write(t->sh->fd[1], "x", 1), 1);
}

static const struct wait waits[] = {
        { "nanosleep", pass_nothing, do_nanosleep, SYS_nanosleep, NULL, 0, 0 },
        { "nanosleep with rem", pass_nothing, do_nanosleep_rem, SYS_nanosleep, NULL, 0, 0 },
        { "clock_nanosleep", pass_nothing, do_clock_relative, SYS_clock_nanosleep, NULL, 0, 0 },
        { "clock_nanosleep TIMER_ABSTIME", pass_nothing, do_clock_absolute, SYS_clock_nanosleep, NULL, 0,
          0 },
        { "nanosleep, caught", catch_usr1, do_nanosleep_caught, SYS_nanosleep, wake_signal, -1, EINTR },
        { "poll", pass_nothing, do_poll, SYS_poll, NULL, 0, 0 },
        { "poll without timeout", pass_nothing, do_poll_forever, SYS_poll, wake_fd, 1, 0 },
        { "poll, caught", catch_usr1, do_poll_forever, SYS_poll, wake_signal, -1, EINTR },
        { "ppoll", pass_nothing, do_ppoll, SYS_ppoll, NULL, 0, 0 },
        { "ppoll without timeout", pass_nothing, do_ppoll_forever, SYS_ppoll, wake_fd, 1, 0 },
        { "select", pass_nothing, do_select, SYS_select, NULL, 0, 0 },
        { "pselect", pass_nothing, do_pselect, SYS_pselect6, NULL, 0, 0 },
        { "futex with timeout", pass_nothing, do_futex_timeout, SYS_futex, NULL, -1, ETIMEDOUT },
        { "futex until", pass_nothing, do_futex_absolute, SYS_futex, NULL, -1, ETIMEDOUT },
        { "futex", pass_nothing, do_futex, SYS_futex, wake_futex, 0, 0 },
        { "epoll_wait", make_epoll, do_epoll, SYS_epoll_wait, NULL, 0, 0 },
        { "epoll_wait without timeout", make_epoll, do_epoll_forever, SYS_epoll_wait, wake_fd, 1, 0 },
        { "epoll_pwait", make_epoll, do_epoll_pwait, SYS_epoll_pwait, NULL, 0, 0 },
        { "sigsuspend", block_and_catch_usr1, do_sigsuspend, SYS_rt_sigsuspend, wake_signal, -1, EINTR },
        { "pause", catch_usr1, do_pause, SYS_pause, wake_signal, -1, EINTR },
        { "pause, SA_RESTART", catch_usr1_restart, do_pause, SYS_pause, wake_signal, -1, EINTR },
        { "sigtimedwait", block_and_catch_usr1, do_sigtimedwait, SYS_rt_sigtimedwait, NULL, -1, EAGAIN },
        { "sigwait", block_and_catch_usr1, do_sigwait, SYS_rt_sigtimedwait, wake_signal, SIGUSR1, 0 },
        { "wait4", make_child, do_wait4, SYS_wait4, wake_fd, 1, 0 },
        { "read", pass_nothing, do_read, SYS_read, wake_fd, 1, 0 },
        { "read, caught", catch_usr1, do_read, SYS_read, wake_signal, -1, EINTR },
        { "read, SA_RESTART", catch_usr1_restart, do_read, SYS_read, wake_signal_then_fd, 1, 0 },
        { "recv with SO_RCVTIMEO", make_socket, do_recv, SYS_recvfrom, NULL, -1, EAGAIN },
        { "connect with SO_SNDTIMEO", make_full_listener, do_connect, SYS_connect, wake_connect, 0, 0 },
        { "semtimedop", make_sem, do_semop, SYS_semtimedop, NULL, -1, EAGAIN },
        { "semop", make_sem, do_semop_forever, SYS_semtimedop, wake_sem, 0, 0 },
        { "msgrcv", make_queue, do_msgrcv, SYS_msgrcv, wake_queue, 8, 0 },
};

/* Which row the target being forked plays; the targets have copies of it. */
struct role {
        const struct wait *w;
        int fd[2];
};

static struct role role;

static void play(struct shared *sh) {
        int64_t before;

        sh->fd[0] = role.fd[0];
        sh->fd[1] = role.fd[1];
        role.w->prepare(sh);
        set(sh->ready, 1);
        before = now_ns();
        errno = 0;
        sh->ret = role.w->wait(sh);
        sh->err = sh->ret < 0 ? errno : 0;
        sh->elapsed_ns = now_ns() - before;
        set(sh->go, 1);
        for (;;)
                pause();
}

static void forget_ipc(const struct wait *w, const struct target *t) {
        if (w->prepare == make_sem)
                semctl((int)t->sh->extra, 0, IPC_RMID);
        if (w->prepare == make_queue)
                msgctl((int)t->sh->extra, IPC_RMID, NULL);
}

/* The signal comes while the agent is in: the call must end as if it had come a moment earlier or later. */
static void wake_during_visit(const struct target *t, const struct wait *w) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        static struct stopped s;
        struct compel_visit *v = NULL;

        assert_int_equal(stop_all(&s, t->pid), 0);
        assert_int_equal(enter(&s, &v, &err), 0);
        w->wake(t);
        compel_call(compel_visit_batch(v), "get its pid", SYS_getpid);
        assert_int_equal(compel_visit_run(v, &s.thread[0], &err), 0);
        assert_int_equal(compel_visit_end(v, &err), 0);
        compel_visit_free(&v);
        let_go(&s);
}

static void sleep_through(const struct wait *w, bool during) {
        struct target t;

        assert_int_equal(pipe2(role.fd, O_CLOEXEC), 0);
        role.w = w;
        t = target_start(play);
        assert_eventually(get(t.sh->ready));
        assert_eventually(sleeps_in(t.pid, w->nr) || get(t.sh->go));
        for (int i = 0; i < VISITS; i++)
                assert_visited(t.pid);
        if (w->wake) {
                assert_false(get(t.sh->go));
                if (during)
                        wake_during_visit(&t, w);
                else {
                        /* A signal that comes before it has begun to wait anew would not end the wait. */
                        assert_eventually(sleeps_in(t.pid, w->nr));
                        w->wake(&t);
                }
        }
        if (!eventually(get(t.sh->go)))
                fail_msg("%s: never came back", w->name);
        if (t.sh->ret != w->want || t.sh->err != w->want_errno || t.sh->failed)
                fail_msg("%s: returned %lld (%s), line %d", w->name, (long long)t.sh->ret,
                         strerror(t.sh->err), t.sh->failed);
        if (!w->wake && t.sh->elapsed_ns < WAIT_MS * 1000000LL)
                fail_msg("%s: took %lld ns", w->name, (long long)t.sh->elapsed_ns);
        forget_ipc(w, &t);
        target_end(&t);
        close(role.fd[0]);
        close(role.fd[1]);
}

static void waits_end_in_time(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(waits); i++)
                if (!waits[i].wake)
                        sleep_through(&waits[i], false);
}

static void waits_end_when_woken(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(waits); i++)
                if (waits[i].wake)
                        sleep_through(&waits[i], false);
}

static void waits_end_when_woken_during_a_visit(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(waits); i++)
                /*
                 * FUTEX_WAKE finds nobody while the target is in the agent; with other calls,
                 * something stays to be seen.
                 */
                if (waits[i].wake && waits[i].wake != wake_futex)
                        sleep_through(&waits[i], true);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(waits_end_in_time),
                cmocka_unit_test(waits_end_when_woken),
                cmocka_unit_test(waits_end_when_woken_during_a_visit),
        };

        return cmocka_run_group_tests_name("compel: sleeping targets", tests, NULL, NULL);
}
