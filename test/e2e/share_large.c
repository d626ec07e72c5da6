/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/* As mem_large_family, in one descriptor table: a restore must not fill them side by side, for it uses descriptors of its own. */
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

#include "e2e.h"

#define SIZE   ((size_t)20 << 20)
#define N_KIDS 3

static struct gate ready, go;
static char *mem;

static void fill_all(int who) {
        for (size_t i = 0; i < SIZE / PAGE; i++)
                fill(mem + i * PAGE, PAGE, (uint64_t)who * 100000 + i);
}

static void check_all(int who) {
        for (size_t i = 0; i < SIZE / PAGE; i++)
                check_filled(mem + i * PAGE, PAGE, (uint64_t)who * 100000 + i, "page of a large process");
}

static pid_t start(int who) {
        pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);

        CHECK(pid >= 0, "clone: %m");
        if (pid > 0)
                return pid;
        fill_all(who);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        check_all(who);
        _exit(40 + who);
}

int main(int argc, char **argv) {
        pid_t kids[N_KIDS];

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(mem != MAP_FAILED, "mmap: %m");
        for (int i = 0; i < N_KIDS; i++)
                kids[i] = start(i + 1);
        fill_all(0);
        gate_pass(&ready, N_KIDS);
        test_ready();
        test_wait();
        /* break: mem[3 * PAGE] ^= 1; */
        gate_open(&go, N_KIDS);
        check_all(0);
        for (int i = 0; i < N_KIDS; i++)
                xwait(kids[i], 41 + i);
        test_pass();
        return 0;
}
