/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: nocheck */
/* e2e: expect=refused has a seccomp filter that asks a supervisor \(SECCOMP_RET_USER_NOTIF\) */
/* Only ptrace shows what a filter does, so `check -t` does not know. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "testlib.h"

int main(int argc, char **argv) {
        struct sock_filter insns[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog prog = { sizeof(insns) / sizeof(insns[0]), insns };
        int fd;

        test_init(argc, argv);
        SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        fd = (int)SYS(
                syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog));
        SYS(close(fd));
        test_ready();
        test_wait();
        CHECK(syscall(SYS_getppid) == -1 && errno == ENOSYS, "getppid: %m");
        test_pass();
}
