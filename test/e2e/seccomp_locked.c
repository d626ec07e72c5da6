/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: nopass */
/*
 * Two processes that may do next to nothing, on pain of death: one sleeps in nanosleep and may only do that, read its
 * parent's byte and exit; the other is in seccomp's strict mode. Neither could carry out one of the system calls of a
 * visit, or of its way out. With "spin" they compute instead of sleeping, the registers full.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "testlib.h"

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static uint32_t *stop, *locked_up;

static void lock_up(void) {
        struct sock_filter insns[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                ALLOW(SYS_clock_nanosleep),
                ALLOW(SYS_restart_syscall),
                ALLOW(SYS_exit),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        };
        struct sock_fprog prog = { sizeof(insns) / sizeof(insns[0]), insns };

        SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        SYS(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog));
}

static void sleep_a_little(void) {
        struct timespec ts = { 0, 20000000 };

        syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, NULL);
}

static void __attribute__((noreturn)) filtered(bool spin) {
        lock_up();
        __atomic_add_fetch(locked_up, 1, __ATOMIC_SEQ_CST);
        while (!__atomic_load_n(stop, __ATOMIC_SEQ_CST))
                if (!spin)
                        sleep_a_little();
        syscall(SYS_exit, 41);
        __builtin_unreachable();
}

static void __attribute__((noreturn)) strict(int fd, bool spin) {
        char byte = 0;

        SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
        __atomic_add_fetch(locked_up, 1, __ATOMIC_SEQ_CST);
        while (spin && !__atomic_load_n(stop, __ATOMIC_SEQ_CST))
                ;
        if (!spin)
                syscall(SYS_read, fd, &byte, 1);
        syscall(SYS_exit, spin || byte == 'x' ? 42 : 1);
        __builtin_unreachable();
}

int main(int argc, char **argv) {
        bool spin = argc > 1 && strcmp(argv[1], "spin") == 0;
        pid_t a, b;
        int pair[2], status;

        test_init(argc, argv);
        stop = test_shared(2 * sizeof(*stop));
        locked_up = stop + 1;
        SYS(pipe(pair));
        a = SYS(fork());
        if (a == 0)
                filtered(spin);
        b = SYS(fork());
        if (b == 0)
                strict(pair[0], spin);
        while (__atomic_load_n(locked_up, __ATOMIC_SEQ_CST) < 2)
                usleep(1000);
        test_ready();
        test_wait();
        __atomic_store_n(stop, 1, __ATOMIC_SEQ_CST);
        SYS(write(pair[1], "x", 1));
        SYS(waitpid(a, &status, 0));
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 41, "the filtered one ended with status %#x",
              status);
        SYS(waitpid(b, &status, 0));
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42, "the strict one ended with status %#x",
              status);
        test_pass();
}
