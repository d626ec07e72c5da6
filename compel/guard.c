/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "compel/internal.h"

enum {
        SPIN_ROUNDS = 2000,
        SLEEP_US = 5000, /* how often the life of the other side is looked at */
};

int compel_guard_take(pthread_mutex_t *guard) {
        pthread_mutexattr_t attr;
        int r;

        r = pthread_mutexattr_init(&attr);
        if (r == 0)
                r = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        if (r == 0)
                r = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        if (r == 0)
                r = pthread_mutex_init(guard, &attr);
        if (r == 0)
                r = pthread_mutex_lock(guard);
        if (r == 0)
                /* The kernel wakes nobody unless it is told that somebody waits. */
                __atomic_or_fetch((uint32_t *)&guard->__data.__lock, FUTEX_WAITERS, __ATOMIC_SEQ_CST);
        pthread_mutexattr_destroy(&attr);
        return -r;
}

void compel_guard_drop(pthread_mutex_t *guard) {
        pthread_mutex_unlock(guard);
}

void compel_futex_wait(uint32_t *word, uint32_t value, unsigned int timeout_us) {
        struct timespec ts = { timeout_us / 1000000, (long)(timeout_us % 1000000) * 1000 };

        syscall(SYS_futex, word, FUTEX_WAIT, value, &ts, NULL, 0);
}

void compel_futex_wake(uint32_t *word) {
        syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

int compel_await(struct compel_lane *lane, uint32_t command, bool (*alive)(void *), void *arg) {
        for (unsigned int i = 0; i < SPIN_ROUNDS; i++) {
                if (__atomic_load_n(&lane->done, __ATOMIC_SEQ_CST) == command)
                        return 0;
                __builtin_ia32_pause();
        }
        __atomic_store_n(&lane->waiting, 1, __ATOMIC_SEQ_CST);
        for (;;) {
                uint32_t done = __atomic_load_n(&lane->done, __ATOMIC_SEQ_CST);

                if (done == command)
                        break;
                compel_futex_wait(&lane->done, done, SLEEP_US);
                if (__atomic_load_n(&lane->done, __ATOMIC_SEQ_CST) != command && !alive(arg))
                        return -ESRCH;
        }
        __atomic_store_n(&lane->waiting, 0, __ATOMIC_SEQ_CST);
        return 0;
}
