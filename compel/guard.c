/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "compel/internal.h"
#include "macro.h"

enum {
        SPIN_ROUNDS = 2000,
        YIELD_ROUNDS = 100,
        SLEEP_MIN_US = 100,
        SLEEP_MAX_US = 5000, /* how often the life of the other side is looked at */
        YIELD_SHORT_US = 300,
};

int compel_guard_take(struct compel_guard *guard, void *boundary) {
        struct robust_list_head *head = NULL;
        uintptr_t node, edge = (uintptr_t)boundary;
        size_t len = 0;

        if (syscall(SYS_get_robust_list, 0, &head, &len) < 0)
                return -errno;
        /*
         * The C library's list is used as it is, with the distance between node and word of its own
         * mutexes.
         */
        if (!head || len != sizeof(*head) || head->futex_offset > -8 || head->futex_offset < -256 ||
            head->futex_offset % 4 != 0)
                return -EOPNOTSUPP;
        node = (edge - 8 - (uintptr_t)head->futex_offset + 7) & ~(uintptr_t)7;
        guard->word = (uint32_t *)(node + (uintptr_t)head->futex_offset);
        guard->node = (struct robust_list *)node;
        guard->head = head;
        /* The kernel wakes nobody unless it is told that somebody waits. */
        __atomic_store_n(guard->word, (uint32_t)syscall(SYS_gettid) | FUTEX_WAITERS, __ATOMIC_SEQ_CST);
        guard->node->next = head->list.next;
        __atomic_store_n(&head->list.next, guard->node, __ATOMIC_SEQ_CST);
        return 0;
}

void compel_guard_drop(struct compel_guard *guard) {
        struct robust_list *p;

        if (!guard->node)
                return;
        for (p = &guard->head->list; p->next != guard->node; p = p->next)
                ckpt_assert(p->next != &guard->head->list);
        __atomic_store_n(&p->next, guard->node->next, __ATOMIC_SEQ_CST);
        __atomic_store_n(guard->word, FUTEX_OWNER_DIED, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, guard->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
        *guard = (struct compel_guard){ 0 };
}

void compel_futex_wait(uint32_t *word, uint32_t value, unsigned int timeout_us) {
        struct timespec ts = { timeout_us / 1000000, (long)(timeout_us % 1000000) * 1000 };

        syscall(SYS_futex, word, FUTEX_WAIT, value, &ts, NULL, 0);
}

void compel_futex_wake(uint32_t *word) {
        syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static uint64_t now_us(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

bool compel_yield(void) {
        uint64_t before = now_us();

        sched_yield();
        return now_us() - before <= YIELD_SHORT_US;
}

static bool answered(const struct compel_lane *lane, uint32_t command) {
        return __atomic_load_n(&lane->done, __ATOMIC_SEQ_CST) == command;
}

int compel_await(struct compel_lane *lane, uint32_t command, bool yield, bool (*alive)(void *), void *arg) {
        unsigned int rounds = yield ? YIELD_ROUNDS : lane->few ? SPIN_ROUNDS : 0, sleep_us = SLEEP_MIN_US;
        int r = 0;

        for (unsigned int i = 0; i < rounds; i++) {
                if (answered(lane, command))
                        return 0;
                if (!yield)
                        __builtin_ia32_pause();
                else if (!compel_yield())
                        break;
        }
        __atomic_store_n(&lane->waiting, 1, __ATOMIC_SEQ_CST);
        while (r == 0 && !answered(lane, command)) {
                uint32_t done = __atomic_load_n(&lane->done, __ATOMIC_SEQ_CST);

                if (done == command)
                        break;
                compel_futex_wait(&lane->done, done, sleep_us);
                sleep_us = MIN(sleep_us * 2, (unsigned int)SLEEP_MAX_US);
                if (!answered(lane, command) && !alive(arg))
                        r = -ESRCH;
        }
        __atomic_store_n(&lane->waiting, 0, __ATOMIC_SEQ_CST);
        return r;
}
