/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: expect=refused has its system calls intercepted */
/* Syscall user dispatch, as Wine uses it, which lets everything pass just then: before Linux 6.4 only the kernel's memory tells. */
#include "e2e.h"

static volatile sig_atomic_t caught;
static char selector; /* 0: SYSCALL_DISPATCH_FILTER_ALLOW, 1: SYSCALL_DISPATCH_FILTER_BLOCK */

static void on_sigsys(int sig) {
        (void)sig;
        selector = 0;
        caught++;
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        signal(SIGSYS, on_sigsys);
        if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector) < 0)
                test_skip("this kernel has no syscall user dispatch");
        test_ready();
        test_wait();
        /* break: prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0); */
        selector = 1;
        (void)getppid();
        CHECK_EQ(caught, 1);
        test_pass();
}
