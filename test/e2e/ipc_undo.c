/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread ignore=ns.ipc */
/*
 * Semaphores that change when a process ends (SEM_UNDO), which no interface shows: processes with adjustments of all sizes
 * and signs, one of several threads, one that has undone its own, and one that never had any. Each ends after the restore.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/sem.h>

#include "e2e.h"

enum { SEMS = 130, KIDS = 5 };

union semun {
        int val;
        struct semid_ds *buf;
        unsigned short *array;
};

static int set, other;

/* What the end of each of them adds. */
static int adjustment(int kid, int num) {
        switch (kid) {
        case 0:
                return num % 3 == 0 && num < 120 ? 1 : 0;
        case 1:
                return num == 7 ? -1 : num == 8 ? 1234 : num == 9 ? -1235 : num == SEMS - 1 ? 32767 : 0;
        case 2: /* of several threads */
                return num == 11 ? 2 : num == 12 ? -20000 : 0;
        default:
                return 0;
        }
}

static void op(int num, int by, int flags) {
        SYS(semop(set, &(struct sembuf){ (unsigned short)num, (short)by, (short)flags }, 1));
}

/* Leaves the value as it is. */
static void make_adjustment(int num, int a) {
        if (a != 0) {
                op(num, a, 0);
                op(num, -a, SEM_UNDO);
        }
}

static void *idle(void *arg __attribute__((unused))) {
        pause();
        return NULL;
}

static int kid(void *arg) {
        struct sembuf beyond[] = { { SEMS - 1, 1, IPC_NOWAIT }, { SEMS - 1, -1, SEM_UNDO | IPC_NOWAIT } };
        int which = (int)(long)arg;
        pthread_t thread;

        for (int i = 0; i < SEMS; i++)
                make_adjustment(i, adjustment(which, i));
        if (which == 2)
                CHECK(pthread_create(&thread, NULL, idle, NULL) == 0, "pthread_create");
        if (which == 3) {
                op(20, 5, SEM_UNDO);
                op(20, -5, SEM_UNDO);
        }
        test_child_ready();
        test_wait();
        /* Still within its range, so what it was restored with is what it had. */
        if (which == 1)
                CHECK(semop(set, beyond, 2) < 0 && errno == ERANGE, "an adjustment of 32767 has room: %m");
        return 0;
}

static int start_value(int num) {
        return num == 7 ? 1 : num == 9 ? 30000 : num == 12 ? 20001 : num == SEMS - 1 ? 0 : 100 + num;
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        if (unshare(CLONE_NEWIPC) < 0)
                test_skip("no IPC namespaces: %m");
        other = SYS(semget(IPC_PRIVATE, 3, 0600));
        set = SYS(semget(IPC_PRIVATE, SEMS, 0600));
        for (int i = 0; i < SEMS; i++)
                SYS(semctl(set, i, SETVAL, (union semun){ .val = start_value(i) }));
        for (long i = 0; i < KIDS; i++)
                test_fork(kid, (void *)i);
        test_wait_children_ready();
        test_ready();
        test_wait();
        for (int i = 0; i < SEMS; i++)
                CHECK_EQ(semctl(set, i, GETVAL), start_value(i));
        test_stop_children();
        for (int i = 0; i < SEMS; i++) {
                int want = start_value(i);

                for (int k = 0; k < KIDS; k++)
                        want += adjustment(k, i);
                CHECK_EQ(semctl(set, i, GETVAL), want);
        }
        SYS(semop(other, &(struct sembuf){ 0, 1, 0 }, 1));
        test_pass();
}
