/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* Credentials are each thread's own in the kernel: threads that have changed theirs by the bare system calls. */
#include "e2e.h"

#include <linux/capability.h>
#include <pthread.h>

enum { PLAIN, USER, NO_CAPS, GROUP, NNP, N_THREADS };

static const char *const lines[] = { "Uid",    "Gid",    "Groups", "CapInh",    "CapPrm",
                                     "CapEff", "CapBnd", "CapAmb", "NoNewPrivs" };

static struct gate ready, go;
static int changed = -1;

static void setup(int which) {
        struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
        struct __user_cap_data_struct none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
        gid_t groups[] = { 11, 22, 33 };

        switch (which) {
        case USER:
                CHECK(syscall(SYS_setresgid, 301, 302, 303) == 0 &&
                              syscall(SYS_setresuid, 201, 202, 203) == 0,
                      "ids: %m");
                break;
        case NO_CAPS:
                CHECK(syscall(SYS_capset, &h, none) == 0, "capset: %m");
                break;
        case GROUP:
                CHECK(syscall(SYS_setgroups, 3, groups) == 0, "setgroups: %m");
                break;
        case NNP:
                CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs: %m");
                break;
        default:
                break;
        }
}

static void *run(void *arg) {
        char was[ELEMENTS(lines)][128], now[ELEMENTS(lines)][128];
        int which = *(int *)arg;

        setup(which);
        for (size_t i = 0; i < ELEMENTS(lines); i++)
                status_text(xgettid(), lines[i], was[i], sizeof(was[i]));
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        if (changed == which)
                setup((which + 1) % N_THREADS);
        for (size_t i = 0; i < ELEMENTS(lines); i++) {
                status_text(xgettid(), lines[i], now[i], sizeof(now[i]));
                CHECK(strcmp(was[i], now[i]) == 0, "thread %d: %s was '%s', is '%s'", which, lines[i],
                      was[i], now[i]);
        }
        if (which == USER)
                CHECK(syscall(SYS_setresuid, -1, 0, -1) < 0 && errno == EPERM, "root again");
        if (which == NO_CAPS)
                CHECK(chroot(".") < 0 && errno == EPERM, "a capability");
        if (which == PLAIN)
                CHECK(access("closed/file", F_OK) == 0, "root's access: %m");
        return arg;
}

int main(int argc, char **argv) {
        pthread_t t[N_THREADS];
        int which[N_THREADS], fd;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        CHECK(mkdir("closed", 0700) == 0 && (fd = open("closed/file", O_CREAT | O_WRONLY, 0600)) >= 0,
              "create: %m");
        close(fd);
        for (int i = 0; i < N_THREADS; i++) {
                which[i] = i;
                CHECK(pthread_create(&t[i], NULL, run, &which[i]) == 0, "pthread_create");
        }
        gate_pass(&ready, N_THREADS);
        test_ready();
        test_wait();
        /* break: changed = PLAIN; */
        /* break: changed = NO_CAPS; */
        /* break: changed = GROUP; */
        CHECK(geteuid() == 0 && chroot("/") == 0, "the leader's own: %m");
        gate_open(&go, N_THREADS);
        for (int i = 0; i < N_THREADS; i++)
                CHECK(pthread_join(t[i], NULL) == 0, "pthread_join");
        test_pass();
}
