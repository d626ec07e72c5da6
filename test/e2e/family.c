/* SPDX-License-Identifier: GPL-2.0-only */
/* Three generations that share memory: after a restore parents still know their children. */
#include <unistd.h>

#include "testlib.h"

struct shared {
        struct test_barrier barrier;
        uint32_t touched;
};

static int grandchild(void *arg) {
        struct shared *sh = arg;
        pid_t pid = getpid(), ppid = getppid();

        test_child_ready();
        test_wait();
        CHECK_EQ(getpid(), pid);
        CHECK_EQ(getppid(), ppid);
        __atomic_add_fetch(&sh->touched, 1, __ATOMIC_RELAXED);
        return 0;
}

static int child(void *arg) {
        struct shared *sh = arg;

        test_fork(grandchild, sh);
        test_wait_children_ready();
        test_child_ready();
        test_wait();
        test_stop_children();
        test_barrier_wait(&sh->barrier);
        return 0;
}

int main(int argc, char **argv) {
        struct shared *sh;

        test_init(argc, argv);
        sh = test_shared(sizeof(*sh));
        test_barrier_init(&sh->barrier, 2);
        test_fork(child, sh);
        test_fork(child, sh);
        test_wait_children_ready();

        test_ready();
        test_wait();

        test_stop_children();
        CHECK_EQ(sh->touched, 2);
        test_pass();
}
