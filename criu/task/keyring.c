/* SPDX-License-Identifier: GPL-2.0-only */
#include "task/keyring.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/thread.h"
#include "macro.h"

enum {
        KEYS_MAX = 1024, /* of a keyring with more, one is enough to know */
        DESCRIPTION_MAX = 512,
};

struct counting {
        int32_t serial;
        uid_t owner;
        int result;
};

static long keyctl(int command, int32_t serial, void *buf, size_t size) {
        return syscall(SYS_keyctl, command, serial, buf, size, 0);
}

/* "keyring;UID;GID;PERMISSIONS;NAME" */
static bool is_of_all(const char *text) {
        static const char *const prefixes[] = { "_uid.", "_uid_ses.", "_persistent." };
        const char *name = strrchr(text, ';');

        if (strncmp(text, "keyring;", strlen("keyring;")) != 0 || !name)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(prefixes); i++)
                if (strncmp(name + 1, prefixes[i], strlen(prefixes[i])) == 0)
                        return true;
        return false;
}

/* One that is gone by now, or of no use to anybody, is none. */
static bool is_own(int32_t key) {
        char text[DESCRIPTION_MAX] = "";
        long n = keyctl(KEYCTL_DESCRIBE, key, text, sizeof(text) - 1);

        if (n < 0)
                return errno != ENOKEY && errno != EKEYEXPIRED && errno != EKEYREVOKED;
        return !is_of_all(text);
}

static void *count(void *arg) {
        struct counting *c = arg;
        int32_t keys[KEYS_MAX];
        long size;

        (void)syscall(SYS_setfsuid, c->owner);
        size = keyctl(KEYCTL_READ, c->serial, keys, sizeof(keys));
        if (size < 0) {
                c->result = errno == ENOKEY || errno == EKEYREVOKED || errno == EKEYEXPIRED ? 0 : -1;
                return NULL;
        }
        for (size_t i = 0; i < MIN((size_t)size, sizeof(keys)) / sizeof(*keys); i++)
                c->result += is_own(keys[i]);
        return NULL;
}

int keyring_count_own(int32_t serial, uid_t owner) {
        struct counting c = { .serial = serial, .owner = owner };
        pthread_t thread;

        if (thread_start(&thread, count, &c) < 0)
                return -1;
        pthread_join(thread, NULL);
        return c.result;
}
