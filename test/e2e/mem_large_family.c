/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: timeout=60 */
/*
 * Several processes with memory of their own, which a restore fills side by side, some of them while they are being cloned, and
 * all the ways that it has for sizes: every page is the right one's.
 */
#include "e2e.h"

#define SIZE   ((size_t)20 << 20) /* mapped; and filled by the parent */
#define N_KIDS 8

static const size_t filled[N_KIDS + 1] = { 20, 20, 20, 9, 20, 7, 5, 3, 1 }; /* MiB */

static struct gate ready, go;
static char *mem;

static void fill_all(int who) {
        for (size_t i = 0; i < (filled[who] << 20) / PAGE; i++)
                fill(mem + i * PAGE, PAGE, (uint64_t)who * 100000 + i);
}

static void check_all(int who) {
        for (size_t i = 0; i < (filled[who] << 20) / PAGE; i++)
                check_filled(mem + i * PAGE, PAGE, (uint64_t)who * 100000 + i, "page of a large process");
}

static pid_t start(int who) {
        pid_t pid = xfork();

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
