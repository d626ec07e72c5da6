/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* Signals that wait behind a mask: for the process and for each of two threads, real-time ones several times and
 * in order, each with its siginfo; in a child too. */
#include "e2e.h"

#include <pthread.h>

#define RT1 (SIGRTMIN + 1)
#define RT2 (SIGRTMIN + 2)

static struct gate ready, go;
static pid_t thread_tid;

/* The system call itself: libc turns SI_TKILL into SI_USER. */
static int poll_signal(int sig, siginfo_t *ret) {
        struct timespec zero = { 0 };
        uint64_t set = 1ULL << (sig - 1);

        return (int)syscall(SYS_rt_sigtimedwait, &set, ret, &zero, sizeof(set));
}

/* Takes one pending signal without waiting. */
static siginfo_t take(int sig) {
        siginfo_t si = { 0 };

        CHECK(poll_signal(sig, &si) == sig, "signal %d is not pending: %m", sig);
        return si;
}

static void check_none(int sig) {
        siginfo_t si;

        CHECK(poll_signal(sig, &si) < 0 && errno == EAGAIN, "signal %d was pending once more", sig);
}

static void check_info(siginfo_t si, int code, pid_t pid, int value, const char *what) {
        CHECK(si.si_code == code, "%s: si_code %d, not %d", what, si.si_code, code);
        CHECK(si.si_pid == pid && si.si_uid == getuid(), "%s: si_pid %d si_uid %u", what, si.si_pid,
              si.si_uid);
        CHECK(code != SI_QUEUE || si.si_value.sival_int == value, "%s: value %d, not %d", what,
              si.si_value.sival_int, value);
}

static void queue_thread(pid_t tid, int sig, int value) {
        siginfo_t si = { .si_code = SI_QUEUE };

        si.si_pid = getpid();
        si.si_uid = getuid();
        si.si_value.sival_int = value;
        CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, sig, &si) == 0, "rt_tgsigqueueinfo: %m");
}

static void queue_process(int sig, int value) {
        CHECK(sigqueue(getpid(), sig, (union sigval){ .sival_int = value }) == 0, "sigqueue: %m");
}

static void *run(void *arg) {
        thread_tid = xgettid();
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        /* A thread takes its own before the process's. */
        for (int i = 0; i < 3; i++)
                check_info(take(RT1), SI_QUEUE, getpid(), 500 + i, "the thread's queue");
        check_info(take(SIGUSR2), SI_TKILL, getpid(), 0, "tgkill");
        CHECK(!arg, "argument");
        return NULL;
}

static void run_child(void) {
        pid_t self = getpid();

        queue_process(RT2, -5);
        CHECK(kill(self, SIGHUP) == 0, "kill: %m");
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        check_info(take(RT2), SI_QUEUE, self, -5, "the child's queue");
        check_info(take(SIGHUP), SI_USER, self, 0, "the child's SIGHUP");
        check_none(RT1);
        check_none(SIGUSR1);
        _exit(8);
}

int main(int argc, char **argv) {
        char shared[64], own[64], shared_now[64], own_now[64];
        pid_t self = getpid(), kid, zombie;
        siginfo_t si;
        sigset_t all;
        pthread_t t;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        kid = xfork();
        if (kid == 0)
                run_child();
        CHECK(pthread_create(&t, NULL, run, NULL) == 0, "pthread_create");
        gate_pass(&ready, 2);
        for (int i = 0; i < 5; i++) {
                queue_process(RT1, 100 + i);
                if (i < 3)
                        queue_process(RT2, 200 + i);
        }
        CHECK(kill(self, SIGUSR1) == 0 && kill(self, SIGUSR1) == 0 && kill(self, SIGHUP) == 0, "kill: %m");
        for (int i = 0; i < 3; i++)
                queue_thread(thread_tid, RT1, 500 + i);
        CHECK(syscall(SYS_tgkill, self, thread_tid, SIGUSR2) == 0, "tgkill: %m");
        queue_thread(self, RT2, 300);
        CHECK(syscall(SYS_tgkill, self, self, SIGUSR1) == 0, "tgkill: %m");
        zombie = xfork();
        if (zombie == 0)
                _exit(12);
        WAIT_FOR(proc_state(zombie) == 'Z', "a zombie");
        status_text(self, "ShdPnd", shared, sizeof(shared));
        status_text(self, "SigPnd", own, sizeof(own));
        test_ready();
        test_wait();
        /* break: take(RT1); */
        /* break: queue_process(RT1, 105); */
        /* break: kill(self, SIGUSR2); */
        /* break: take(SIGCHLD); */
        /* break: queue_thread(thread_tid, SIGTRAP, 1); gate_open(&go, 1); tick(); queue_thread(self, RT2, 1); */
        status_text(self, "ShdPnd", shared_now, sizeof(shared_now));
        status_text(self, "SigPnd", own_now, sizeof(own_now));
        CHECK(strcmp(shared, shared_now) == 0 && strcmp(own, own_now) == 0,
              "pending: process %s thread %s, was %s %s", shared_now, own_now, shared, own);
        si = take(SIGCHLD);
        CHECK(si.si_code == CLD_EXITED && si.si_pid == zombie && si.si_status == 12,
              "SIGCHLD: code %d pid %d status %d", si.si_code, si.si_pid, si.si_status);
        check_info(take(RT2), SI_QUEUE, self, 300, "the leader's own");
        check_info(take(SIGUSR1), SI_TKILL, self, 0, "the leader's own SIGUSR1");
        for (int i = 0; i < 3; i++)
                check_info(take(RT2), SI_QUEUE, self, 200 + i, "the process's queue");
        for (int i = 0; i < 5; i++)
                check_info(take(RT1), SI_QUEUE, self, 100 + i, "the process's queue");
        check_info(take(SIGUSR1), SI_USER, self, 0, "kill");
        check_info(take(SIGHUP), SI_USER, self, 0, "kill");
        check_none(SIGUSR1);
        check_none(SIGHUP);
        check_none(RT1);
        check_none(RT2);
        check_none(SIGUSR2);
        gate_open(&go, 2);
        CHECK(pthread_join(t, NULL) == 0, "pthread_join");
        xwait(zombie, 12);
        xwait(kid, 8);
        test_pass();
}
