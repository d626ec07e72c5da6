/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: expect=refused shares its memory and signal handlers with its parent without being its thread \(CLONE_VM\) */
/* A process that lives in its parent's memory for good, as vfork(2) makes one for a moment. */
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "testlib.h"

static volatile uint32_t counter, stop;

static int child(void *arg) {
        (void)arg;
        while (!stop) {
                counter++;
                usleep(10000);
        }
        return 7;
}

int main(int argc, char **argv) {
        static char stack[64 * 1024] __attribute__((aligned(16)));
        uint32_t before;
        int status = 0;
        pid_t pid;

        test_init(argc, argv);
        pid = SYS(clone(child, stack + sizeof(stack), CLONE_VM | CLONE_SIGHAND | SIGCHLD, NULL));
        test_ready();
        test_wait();
        before = counter;
        while (counter == before)
                usleep(10000);
        stop = 1;
        CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7, "status %#x: %m", status);
        test_pass();
}
