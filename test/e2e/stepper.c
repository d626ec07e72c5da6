/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper */
/* Sets the trap flag in itself, as tracers of their own code do: a SIGTRAP after each instruction. See odd_targets.py. */
#include <signal.h>

#include "testlib.h"

static volatile sig_atomic_t stop;
static volatile long steps;

static void on_trap(int sig) {
        (void)sig;
        steps++;
}

static void on_term(int sig) {
        (void)sig;
        stop = 1;
}

int main(int argc, char **argv) {
        struct sigaction trap = { .sa_handler = on_trap }, term = { .sa_handler = on_term };
        long before;

        test_init(argc, argv);
        CHECK(sigaction(SIGTRAP, &trap, NULL) == 0 && sigaction(SIGUSR1, &term, NULL) == 0, "sigaction: %m");
        test_ready();
        __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
        while (!stop)
                ;
        before = steps;
        for (volatile int i = 0; i < 100; i++)
                ;
        CHECK(steps > before + 100, "the trap flag is gone");
        __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
        test_pass();
}
