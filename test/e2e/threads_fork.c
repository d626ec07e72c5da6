/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* A child has not only a process for its parent but the thread that forked it: that thread alone finds it with
 * __WNOTHREAD, and its end is what a parent-death signal tells of. */
#include "e2e.h"

#include <pthread.h>

static struct gate ready, go, end, told;

static void run_child(int status) {
        const struct timespec limit = { .tv_sec = 600 };
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        sigprocmask(SIG_BLOCK, &set, NULL);
        CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0, "PR_SET_PDEATHSIG: %m");
        gate_open(&ready, 1);
        if (status == 1) {
                gate_pass(&go, 1);
                _exit(status);
        }
        CHECK(sigtimedwait(&set, NULL, &limit) == SIGUSR2, "the thread's end was not told: %m");
        gate_open(&told, 1);
        _exit(status);
}

static void *run(void *arg) {
        pid_t *kids = arg;
        int st;

        for (int i = 0; i < 2; i++) {
                kids[i] = xfork();
                if (kids[i] == 0)
                        run_child(i + 1);
        }
        gate_pass(&end, 1);
        CHECK(waitpid(kids[0], &st, __WNOTHREAD) == kids[0] && WIFEXITED(st) && WEXITSTATUS(st) == 1,
              "its child: %m");
        return arg; /* leaves the other one to the process, and tells it */
}

int main(int argc, char **argv) {
        pid_t kids[2];
        pthread_t t;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        gate_init(&end);
        gate_init(&told);
        CHECK(pthread_create(&t, NULL, run, kids) == 0, "pthread_create");
        gate_pass(&ready, 2);
        test_ready();
        test_wait();
        /* break: kill(kids[0], SIGKILL); */
        /* break: kill(kids[1], SIGUSR2); gate_pass(&told, 1); */
        CHECK(waitpid(-1, NULL, __WNOTHREAD | WNOHANG) < 0 && errno == ECHILD,
              "the leader has a child of its own");
        CHECK(proc_state(kids[1]) == 'S', "the child has ended: %c", proc_state(kids[1]));
        gate_open(&go, 1);
        gate_open(&end, 1);
        CHECK(pthread_join(t, NULL) == 0, "pthread_join");
        gate_pass(&told, 1);
        xwait(kids[1], 2);
        test_pass();
}
