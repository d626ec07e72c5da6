/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* Stopped processes: still stopped after a restore, all their threads too; SIGCONT lets each go on from where
 * it was (in a blocked read, in a loop in user space, in a thread), with the signals that waited for it. */
#include "e2e.h"

#include <pthread.h>

enum { READER, SPINNER, THREADED, NEW_STOP, N_KIDS };

struct shared {
        volatile uint64_t counter;
        volatile uint64_t thread_counter;
        volatile int quit;
};

static struct shared *sh;
static struct gate ready, data;
static volatile sig_atomic_t usr1_seen;

static void on_usr1(int sig E2E_UNUSED) {
        usr1_seen = 1;
}

static void *spin_thread(void *arg E2E_UNUSED) {
        while (!sh->quit)
                sh->thread_counter++;
        return NULL;
}

static void run_kid(int which) {
        pthread_t t;

        signal(SIGTSTP, SIG_DFL);
        signal(SIGUSR1, on_usr1);
        switch (which) {
        case READER:
        case NEW_STOP:
                gate_open(&ready, 1);
                gate_pass(&data, 1);
                _exit(20 + which);
        case SPINNER:
                gate_open(&ready, 1);
                while (!sh->quit)
                        sh->counter++;
                CHECK(usr1_seen, "a signal sent while stopped was lost");
                _exit(20 + which);
        default:
                /* SIGTSTP does nothing to an orphaned process group, such as the root's may be. */
                CHECK(setpgid(0, 0) == 0, "setpgid: %m");
                CHECK(pthread_create(&t, NULL, spin_thread, NULL) == 0, "pthread_create");
                gate_open(&ready, 1);
                CHECK(pthread_join(t, NULL) == 0, "pthread_join");
                _exit(20 + which);
        }
}

static bool all_threads_stopped(pid_t pid, int n) {
        char path[64], buf[512], *p;
        int seen = 0;

        /* Tids follow the pid closely in a fresh pid namespace; looking at a range avoids a directory scan. */
        for (pid_t t = pid; t < pid + 64; t++) {
                snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, t);
                if (read_file(path, buf, sizeof(buf)) <= 0)
                        continue;
                p = strrchr(buf, ')');
                if (!p || p[2] != 'T')
                        return false;
                seen++;
        }
        return seen == n;
}

static void check_stopped(const pid_t *kids) {
        uint64_t c, t;

        for (int i = 0; i < N_KIDS; i++)
                CHECK(all_threads_stopped(kids[i], i == THREADED ? 2 : 1), "child %d is in state %c", i,
                      proc_state(kids[i]));
        c = sh->counter;
        t = sh->thread_counter;
        for (int i = 0; i < 20; i++)
                tick();
        CHECK(sh->counter == c && sh->thread_counter == t, "a stopped child runs");
}

int main(int argc, char **argv) {
        pid_t kids[N_KIDS];
        siginfo_t si = { 0 };
        int st;
        uint64_t c;

        test_init(argc, argv);
        sh = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(sh != MAP_FAILED, "mmap: %m");
        gate_init(&ready);
        gate_init(&data);
        for (int i = 0; i < N_KIDS; i++) {
                kids[i] = xfork();
                if (kids[i] == 0)
                        run_kid(i);
        }
        gate_pass(&ready, N_KIDS);
        WAIT_FOR(sh->counter > 0 && sh->thread_counter > 0, "the spinners spin");
        WAIT_FOR(proc_state(kids[READER]) == 'S', "the reader sleeps");
        for (int i = 0; i < N_KIDS; i++) {
                CHECK(kill(kids[i], i == THREADED ? SIGTSTP : SIGSTOP) == 0, "kill: %m");
                if (i == NEW_STOP) {
                        /* Its stop is left for the parent to be told of later. */
                        CHECK(waitid(P_PID, (id_t)kids[i], &si, WSTOPPED | WNOWAIT) == 0, "waitid: %m");
                        continue;
                }
                CHECK(waitpid(kids[i], &st, WUNTRACED) == kids[i] && WIFSTOPPED(st), "no stop: %m");
        }
        CHECK(kill(kids[SPINNER], SIGUSR1) == 0, "kill: %m");
        check_stopped(kids);
        test_ready();
        test_wait();
        /* break: kill(kids[SPINNER], SIGCONT); */
        /* break: kill(kids[READER], SIGCONT); */
        /* break: kill(kids[THREADED], SIGCONT); */
        /* break: waitpid(kids[NEW_STOP], NULL, WUNTRACED); */
        check_stopped(kids);
        memset(&si, 0, sizeof(si));
        CHECK(waitid(P_PID, (id_t)kids[NEW_STOP], &si, WSTOPPED | WNOHANG) == 0 &&
                      si.si_pid == kids[NEW_STOP],
              "the stop of a child was not reported: %m");
        CHECK(si.si_code == CLD_STOPPED && si.si_status == SIGSTOP, "code %d status %d", si.si_code,
              si.si_status);
        CHECK(WIFSTOPPED(st), "wait status 0x%x", (unsigned)st);

        c = sh->counter;
        for (int i = 0; i < N_KIDS; i++)
                CHECK(kill(kids[i], SIGCONT) == 0, "SIGCONT: %m");
        CHECK(waitpid(kids[SPINNER], &st, WCONTINUED) == kids[SPINNER] && WIFCONTINUED(st),
              "no continue: %m");
        WAIT_FOR(sh->counter > c, "the spinner goes on");
        /* It can be stopped and continued again. */
        CHECK(kill(kids[SPINNER], SIGSTOP) == 0, "kill: %m");
        CHECK(waitpid(kids[SPINNER], &st, WUNTRACED) == kids[SPINNER] && WIFSTOPPED(st), "no stop: %m");
        CHECK(kill(kids[SPINNER], SIGCONT) == 0, "kill: %m");
        sh->quit = 1;
        gate_open(&data, 2);
        for (int i = 0; i < N_KIDS; i++)
                xwait(kids[i], 20 + i);
        test_pass();
}
