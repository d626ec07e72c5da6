/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: expect=refused has keys in its thread keyring */
/* The keyring of a thread, in a child. */
#include "e2e.h"

#include <linux/keyctl.h>

static int kid(void *arg E2E_UNUSED) {
        if (syscall(SYS_add_key, "user", "ckpt", "secret", 6, KEY_SPEC_THREAD_KEYRING) < 0)
                return 1;
        test_child_ready();
        test_wait();
        return 0;
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        if (syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 1) < 0)
                test_skip("this kernel has no keyrings: %s", strerror(errno));
        test_fork(kid, NULL);
        test_wait_children_ready();
        test_ready();
        test_wait();
        test_stop_children();
        test_pass();
}
