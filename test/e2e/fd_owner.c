/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* Who gets SIGIO for a descriptor: F_SETOWN to a process and to a group, F_SETOWN_EX to a thread, F_SETSIG; with
 * O_ASYNC the signal really comes, with the descriptor in it. */
#include "e2e.h"

#include <pthread.h>

static struct gate ready, go;
static int fd_process[2], fd_thread[2], fd_group[2], fd_plain[2];
static volatile sig_atomic_t thread_hits, thread_fd = -1;
static pid_t thread_tid;

static void on_rt(int sig E2E_UNUSED, siginfo_t *si, void *ctx E2E_UNUSED) {
        if (xgettid() == thread_tid)
                thread_hits++;
        thread_fd = si->si_fd;
}

static void *run(void *arg) {
        char c;

        thread_tid = xgettid();
        gate_open(&ready, 1);
        /* The handler of the signal under test has SA_RESTART. */
        CHECK(read(go.r, &c, 1) == 1, "read: %m");
        return arg;
}

static void check_owner(int fd, enum __pid_type type, pid_t pid, int sig, const char *what) {
        struct f_owner_ex o = { 0 };

        CHECK(fcntl(fd, F_GETOWN_EX, &o) == 0 && o.type == type && o.pid == pid,
              "%s: owner type %u pid %d, not %u %d", what, o.type, o.pid, type, pid);
        CHECK(fcntl(fd, F_GETSIG) == sig, "%s: signal %d", what, fcntl(fd, F_GETSIG));
}

static void check_sigio(int w, int r, int sig, int fd) {
        struct timespec ts = { .tv_sec = 100 };
        siginfo_t si;
        sigset_t set;
        char c;

        sigemptyset(&set);
        sigaddset(&set, sig);
        CHECK(write(w, "x", 1) == 1, "write: %m");
        CHECK(sigtimedwait(&set, &si, &ts) == sig, "no signal %d: %m", sig);
        CHECK(sig == SIGIO || si.si_fd == fd, "signal for fd %d, not %d", si.si_fd, fd);
        CHECK(read(r, &c, 1) == 1, "read: %m");
        while (sigtimedwait(&set, &si, &(struct timespec){ 0 }) > 0)
                ; /* reading may signal, too */
}

int main(int argc, char **argv) {
        struct sigaction sa = { .sa_sigaction = on_rt, .sa_flags = SA_SIGINFO | SA_RESTART };
        struct f_owner_ex o;
        pthread_t t;
        sigset_t block;
        pid_t self = getpid();

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        sigaction(SIGRTMIN + 3, &sa, NULL);
        sigemptyset(&block);
        sigaddset(&block, SIGIO);
        sigaddset(&block, SIGRTMIN + 1);
        sigaddset(&block, SIGRTMIN + 2);
        sigprocmask(SIG_BLOCK, &block, NULL);
        CHECK(pthread_create(&t, NULL, run, NULL) == 0, "pthread_create");
        gate_pass(&ready, 1);
        CHECK(pipe2(fd_process, O_NONBLOCK) == 0 && pipe2(fd_thread, O_NONBLOCK) == 0 &&
                      pipe2(fd_group, O_NONBLOCK) == 0 && pipe2(fd_plain, 0) == 0,
              "pipe: %m");
        CHECK(fcntl(fd_process[0], F_SETOWN, self) == 0 &&
                      fcntl(fd_process[0], F_SETSIG, SIGRTMIN + 1) == 0 &&
                      fcntl(fd_process[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0,
              "fcntl: %m");
        o = (struct f_owner_ex){ F_OWNER_TID, thread_tid };
        CHECK(fcntl(fd_thread[0], F_SETOWN_EX, &o) == 0 &&
                      fcntl(fd_thread[0], F_SETSIG, SIGRTMIN + 3) == 0 &&
                      fcntl(fd_thread[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0,
              "fcntl: %m");
        CHECK(fcntl(fd_group[0], F_SETOWN, -getpgrp()) == 0 &&
                      fcntl(fd_group[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0,
              "fcntl: %m");
        o = (struct f_owner_ex){ F_OWNER_PID, self };
        CHECK(fcntl(fd_plain[1], F_SETOWN_EX, &o) == 0 && fcntl(fd_plain[1], F_SETSIG, SIGRTMIN + 2) == 0,
              "fcntl: %m");
        test_ready();
        test_wait();
        /* break: fcntl(fd_process[0], F_SETOWN, 1); */
        /* break: fcntl(fd_process[0], F_SETSIG, 0); */
        /* break: fcntl(fd_group[0], F_SETFL, O_NONBLOCK); */
        /* break: o = (struct f_owner_ex) { F_OWNER_PID, thread_tid }; fcntl(fd_thread[0], F_SETOWN_EX, &o); */
        /* break: fcntl(fd_plain[1], F_SETSIG, SIGUSR1); */
        check_owner(fd_process[0], F_OWNER_PID, self, SIGRTMIN + 1, "a process");
        check_owner(fd_thread[0], F_OWNER_TID, thread_tid, SIGRTMIN + 3, "a thread");
        check_owner(fd_group[0], F_OWNER_PGRP, getpgrp(), 0, "a group");
        check_owner(fd_plain[1], F_OWNER_PID, self, SIGRTMIN + 2, "the writing end");
        check_owner(fd_plain[0], F_OWNER_TID, 0, 0, "an end without owner");
        check_sigio(fd_process[1], fd_process[0], SIGRTMIN + 1, fd_process[0]);
        check_sigio(fd_group[1], fd_group[0], SIGIO, 0);
        CHECK(write(fd_thread[1], "x", 1) == 1, "write: %m");
        WAIT_FOR(thread_hits > 0, "the thread gets its signal");
        CHECK(thread_fd == fd_thread[0], "for fd %d", (int)thread_fd);
        gate_open(&go, 1);
        CHECK(pthread_join(t, NULL) == 0, "pthread_join");
        test_pass();
}
