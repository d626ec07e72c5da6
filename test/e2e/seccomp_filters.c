/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: rounds=2 */
/*
 * Chains of seccomp filters: the process has one in common, which forbids everything that a visit of ckpt could need
 * (mmap, munmap, rt_sigprocmask, futex, and more) by killing; on top, each of two threads has its own, and a child has
 * inherited it. What each filter forbids fails with that filter's errno, in the order of the chain; and after
 * the restore the threads can still be synchronized, which needs a common ancestry.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "testlib.h"

#define FORBID(nr, action) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, action)
#define LOAD_NR            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ALLOW              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define FAILS(e)           (SECCOMP_RET_ERRNO | (e))

static struct { uint32_t step, done; } * sh;

static void install(const struct sock_filter *insns, unsigned short n, unsigned int flags) {
        struct sock_fprog prog = { n, (struct sock_filter *)insns };

        CHECK_EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog), 0);
}

#define INSTALL(flags, ...)                                                       \
        do {                                                                      \
                const struct sock_filter _f_[] = { LOAD_NR, __VA_ARGS__, ALLOW }; \
                                                                                  \
                install(_f_, sizeof(_f_) / sizeof(_f_[0]), (flags));              \
        } while (0)

static int error_of(long r) {
        return r < 0 ? errno : 0;
}

/* Everything that the filters below name; the answers tell which of them are in force. */
static void check_common(int pid_error, int sid_error, int uid_error) {
        CHECK_EQ(error_of(syscall(SYS_getppid)), 61);
        CHECK_EQ(error_of(syscall(SYS_getpgid, 0)), pid_error);
        CHECK_EQ(error_of(syscall(SYS_getsid, 0)), sid_error);
        CHECK_EQ(error_of(syscall(SYS_getresuid, NULL, NULL, NULL)), uid_error);
}

static void wait_step(void) {
        while (__atomic_load_n(&sh->step, __ATOMIC_SEQ_CST) == 0)
                usleep(2000);
}

static void finished(void) {
        __atomic_add_fetch(&sh->done, 1, __ATOMIC_SEQ_CST);
}

static void *plain_thread(void *arg) {
        (void)arg;
        finished();
        wait_step();
        check_common(62, 0, EFAULT);
        finished();
        while (__atomic_load_n(&sh->step, __ATOMIC_SEQ_CST) == 1)
                usleep(2000);
        check_common(62, 0, 64); /* synchronized by the main thread */
        return NULL;
}

static void *own_thread(void *arg) {
        (void)arg;
        /* Two of its own: what both forbid fails as the younger one says. */
        INSTALL(SECCOMP_FILTER_FLAG_LOG, FORBID(SYS_getsid, FAILS(63)));
        INSTALL(0, FORBID(SYS_getsid, FAILS(65)), FORBID(SYS_getresuid, FAILS(66)));
        finished();
        wait_step();
        check_common(62, 65, 66);
        CHECK_EQ(prctl(PR_GET_SECCOMP), 2);
        finished();
        return NULL;
}

static int child(void) {
        wait_step();
        check_common(62, 0, EFAULT);
        return 0;
}

static void wait_done(uint32_t n) {
        while (__atomic_load_n(&sh->done, __ATOMIC_SEQ_CST) < n)
                usleep(2000);
}

int main(int argc, char **argv) {
        pthread_t plain, own;
        int status = 0;
        pid_t pid;

        test_init(argc, argv);
        sh = test_shared(sizeof(*sh));
        SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        INSTALL(0, FORBID(SYS_getppid, FAILS(61)), FORBID(SYS_getpgid, FAILS(62)));
        CHECK_EQ(pthread_create(&plain, NULL, plain_thread, NULL), 0);
        CHECK_EQ(pthread_create(&own, NULL, own_thread, NULL), 0);
        wait_done(2);
        pid = SYS(fork());
        if (pid == 0)
                _exit(child());
        test_ready();
        test_wait();
        check_common(62, 0, EFAULT);
        CHECK_EQ(prctl(PR_GET_SECCOMP), 2);
        __atomic_store_n(&sh->step, 1, __ATOMIC_SEQ_CST);
        SYS(waitpid(pid, &status, 0));
        CHECK_EQ(status, 0);
        CHECK_EQ(pthread_join(own, NULL), 0);
        wait_done(4);
        INSTALL(SECCOMP_FILTER_FLAG_TSYNC, FORBID(SYS_getresuid, FAILS(64)));
        __atomic_store_n(&sh->step, 2, __ATOMIC_SEQ_CST);
        CHECK_EQ(pthread_join(plain, NULL), 0);
        check_common(62, 0, 64);
        test_pass();
}
