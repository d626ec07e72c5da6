/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: */
/* The nice values of sessions (autogroups): of that of the root, and of two others, one of which has none. */
#include "e2e.h"

static void set(int nice) {
        int fd = SYS(open("/proc/self/autogroup", O_WRONLY));

        CHECK(dprintf(fd, "%d", nice) > 0, "write: %m");
        close(fd);
}

static int get(void) {
        int fd = SYS(open("/proc/self/autogroup", O_RDONLY)), nice = 99;
        char text[64] = "";

        CHECK(read(fd, text, sizeof(text) - 1) > 0, "read: %m");
        close(fd);
        CHECK(sscanf(text, "/autogroup-%*d nice %d", &nice) == 1, "%s", text);
        return nice;
}

static int kid(void *arg) {
        int nice = (int)(long)arg;

        SYS(setsid());
        if (nice != 0)
                set(nice);
        test_child_ready();
        test_wait();
        CHECK_EQ(get(), nice);
        return 0;
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        if (access("/proc/self/autogroup", W_OK) < 0)
                test_skip("a kernel without autogroups");
        if (getsid(0) != getpid())
                SYS(setsid());
        set(7);
        test_fork(kid, (void *)-3L);
        test_fork(kid, (void *)0L);
        test_wait_children_ready();
        test_ready();
        test_wait();
        CHECK_EQ(get(), 7);
        test_stop_children();
        test_pass();
}
