/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: */
/* Keyrings that hold nothing of their own, as a login or a service manager gives them: that stands against nothing. */
#include "e2e.h"

#include <linux/keyctl.h>

static long keyctl(int command, long a, long b) {
        return syscall(SYS_keyctl, command, a, b, 0, 0);
}

/* Another user's, with a link to the keyring of that user. */
static int kid(void *arg E2E_UNUSED) {
        CHECK(setresuid(54321, 54321, 54321) == 0, "setresuid: %m");
        SYS(keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, 0));
        SYS(keyctl(KEYCTL_LINK, KEY_SPEC_USER_KEYRING, KEY_SPEC_SESSION_KEYRING));
        SYS(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
        SYS(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 1));
        test_child_ready();
        test_wait();
        return 0;
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        if (keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, 0) < 0)
                test_skip("this kernel has no keyrings: %s", strerror(errno));
        test_fork(kid, NULL);
        test_wait_children_ready();
        test_ready();
        test_wait();
        test_stop_children();
        test_pass();
}
