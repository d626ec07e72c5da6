/* SPDX-License-Identifier: GPL-2.0-only */
/* A filter that was installed with CAP_SYS_ADMIN, which is gone: the process has neither that nor no_new_privs. */
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
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog prog = { sizeof(insns) / sizeof(insns[0]), insns };

        test_init(argc, argv);
        SYS(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog));
        test_ready();
        SYS(setresgid(65534, 65534, 65534));
        SYS(setresuid(65534, 65534, 65534));
        test_wait();
        CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
        CHECK(syscall(SYS_getppid) == -1 && errno == 77, "getppid: %m");
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) == -1 && errno == EACCES,
              "it may install filters: %m");
        test_pass();
}
