/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread expect=refused has restricted itself by Landlock */
/* A program of which one thread is in a Landlock domain, which nothing but the kernel's memory shows. */
#include "e2e.h"

#include <linux/landlock.h>
#include <pthread.h>

static struct gate ready, go;

/* From here on, it may make no directories. */
static int restrict_self(void) {
        const struct landlock_ruleset_attr rules = { .handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_DIR };
        int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);

        if (fd < 0)
                return -1;
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS: %m");
        SYS(syscall(SYS_landlock_restrict_self, fd, 0));
        close(fd);
        return 0;
}

static void *run(void *arg) {
        *(int *)arg = restrict_self();
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        CHECK(*(int *)arg < 0 || (mkdir("a", 0700) < 0 && errno == EACCES), "the thread is free: %m");
        return NULL;
}

int main(int argc, char **argv) {
        int result = 0;
        pthread_t t;

        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        CHECK(pthread_create(&t, NULL, run, &result) == 0, "pthread_create");
        gate_pass(&ready, 1);
        if (result < 0)
                test_skip("this kernel has no Landlock");
        test_ready();
        test_wait();
        gate_open(&go, 1);
        CHECK(pthread_join(t, NULL) == 0, "pthread_join");
        CHECK(mkdir("b", 0700) == 0, "the others are not: %m");
        test_pass();
}
