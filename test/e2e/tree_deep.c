/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* A binary tree of five levels, 31 processes: everyone keeps its pid and its parent, can still fork, and
 * every parent gets the exit status of each of its children. */
#include "e2e.h"

static struct gate ready, go;

static int status_of(int depth, int index) {
        return depth * 10 + index;
}

/* Forks the two children below depth, waits at the gate, checks; the root comes back instead of waiting. */
static void grow(int depth, pid_t kids[2]) {
        for (int i = 0; i < 2; i++) {
                pid_t parent = getpid(), pid = xfork();
                pid_t own_kids[2] = { -1, -1 }, self;

                kids[i] = pid;
                if (pid != 0)
                        continue;
                self = getpid();
                if (depth < 4)
                        grow(depth + 1, own_kids);
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                CHECK(getpid() == self && xgettid() == self, "pid %d is now %d", self, getpid());
                CHECK(getppid() == parent, "parent %d is now %d", parent, getppid());
                check_fork();
                if (depth < 4) {
                        xwait(own_kids[1], status_of(depth + 1, 1));
                        xwait(own_kids[0], status_of(depth + 1, 0));
                }
                CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child too many");
                _exit(status_of(depth, i));
        }
}

int main(int argc, char **argv) {
        pid_t kids[2], self = getpid();

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        grow(1, kids);
        gate_pass(&ready, 30);
        test_ready();
        test_wait();
        /* break: kill(kids[1], SIGKILL); */
        /* break: if (xfork() == 0) _exit(0); */
        CHECK(getpid() == self, "pid %d is now %d", self, getpid());
        gate_open(&go, 30);
        xwait(kids[0], status_of(1, 0));
        xwait(kids[1], status_of(1, 1));
        CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child too many");
        test_pass();
}
