/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/* A parent that sleeps uninterruptibly because its vfork child has not called exec; see options.py. */
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "testlib.h"

static volatile sig_atomic_t stop;

static void on_term(int sig) {
        (void)sig;
        stop = 1;
}

static int child(void *arg) {
        struct sigaction sa = { .sa_handler = on_term };

        (void)arg;
        sigaction(SIGUSR1, &sa, NULL);
        test_ready();
        while (!stop)
                pause();
        _exit(0);
}

int main(int argc, char **argv) {
        static char stack[64 * 1024] __attribute__((aligned(16)));
        pid_t pid;

        test_init(argc, argv);
        pid = SYS(clone(child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
        CHECK(waitpid(pid, NULL, 0) == pid, "waitpid: %m");
        test_pass();
}
