/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: expect=refused has keys in its session keyring */
/* A session keyring with a key in it. */
#include "e2e.h"

#include <linux/keyctl.h>

static long keyctl(int command, long a, const void *b, size_t c) {
        return syscall(SYS_keyctl, command, a, b, c, 0);
}

int main(int argc, char **argv) {
        char text[8] = "";
        long key;

        test_init(argc, argv);
        if (keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, NULL, 0) < 0)
                test_skip("this kernel has no keyrings: %s", strerror(errno));
        key = SYS(syscall(SYS_add_key, "user", "ckpt", "secret", 6, KEY_SPEC_SESSION_KEYRING));
        test_ready();
        test_wait();
        CHECK(keyctl(KEYCTL_READ, key, text, sizeof(text)) == 6 && strcmp(text, "secret") == 0, "it is '%s'",
              text);
        test_pass();
}
