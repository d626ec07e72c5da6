/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: ignore=ns.ipc,fd.* */
/*
 * Semaphore sets in an IPC namespace of its own: values, ids, keys, owners, limits, and tasks that wait: for a value,
 * for zero, with a time limit; they go on waiting, and are woken by others of the tree.
 */
#include <sched.h>
#include <sys/ipc.h>
#include <sys/sem.h>

#include "e2e.h"

enum { MANY = 250, WAITERS = 3 };

union semun {
        int val;
        struct semid_ds *buf;
        unsigned short *array;
};

static int small, many, waited;

static void op(int id, unsigned short num, short by) {
        SYS(semop(id, &(struct sembuf){ num, by, 0 }, 1));
}

/* Nothing interrupts it as far as it can see. */
static int waiter(void *arg) {
        struct timespec limit = { .tv_sec = 600 };
        long which = (long)arg;
        struct sembuf o = { (unsigned short)which, which == 1 ? 0 : -2, 0 };

        test_child_ready();
        if (which == 2)
                SYS(semtimedop(waited, &o, 1, &limit));
        else
                SYS(semop(waited, &o, 1));
        test_wait();
        return 0;
}

static bool all_wait(void) {
        return semctl(waited, 0, GETNCNT) == 1 && semctl(waited, 1, GETZCNT) == 1 &&
               semctl(waited, 2, GETNCNT) == 1;
}

static void wait_for_waiters(void) {
        int64_t end = now_ns(CLOCK_MONOTONIC) + 100 * NS_PER_S;

        while (!all_wait()) {
                CHECK(now_ns(CLOCK_MONOTONIC) < end, "not all wait");
                sched_yield();
        }
}

static void set_up(void) {
        unsigned short values[MANY];
        struct semid_ds ds;

        for (int i = 0; i < 3; i++)
                CHECK(semctl(semget(IPC_PRIVATE, 1, 0600), 0, IPC_RMID) == 0, "semget, semctl: %m");
        small = SYS(semget(0x1234, 1, IPC_CREAT | IPC_EXCL | 0600));
        SYS(semctl(small, 0, SETVAL, (union semun){ .val = 32767 }));
        many = SYS(semget((key_t)0x87654321, MANY, IPC_CREAT | IPC_EXCL | 0640));
        for (unsigned i = 0; i < MANY; i++)
                values[i] = (unsigned short)(i * 131 % 32768);
        SYS(semctl(many, 0, SETALL, (union semun){ .array = values }));
        SYS(semctl(many, 0, IPC_STAT, (union semun){ .buf = &ds }));
        ds.sem_perm.uid = 1001;
        ds.sem_perm.gid = 1002;
        ds.sem_perm.mode = 0604;
        SYS(semctl(many, 0, IPC_SET, (union semun){ .buf = &ds }));
        waited = SYS(semget(IPC_PRIVATE, 5, 0600));
        SYS(semctl(waited, 1, SETVAL, (union semun){ .val = 1 }));
}

static void check_sets(void) {
        unsigned short values[MANY];
        struct semid_ds ds;

        CHECK_EQ(semget(0x1234, 0, 0), small);
        CHECK_EQ(semctl(small, 0, GETVAL), 32767);
        CHECK_EQ(semget((key_t)0x87654321, 0, 0), many);
        SYS(semctl(many, 0, IPC_STAT, (union semun){ .buf = &ds }));
        CHECK_EQ(ds.sem_nsems, MANY);
        CHECK_EQ(ds.sem_perm.uid, 1001);
        CHECK_EQ(ds.sem_perm.gid, 1002);
        CHECK_EQ(ds.sem_perm.cuid, 0);
        CHECK_EQ(ds.sem_perm.mode, 0604);
        SYS(semctl(many, 0, GETALL, (union semun){ .array = values }));
        for (unsigned i = 0; i < MANY; i++)
                CHECK_EQ(values[i], i * 131 % 32768);
}

int main(int argc, char **argv) {
        struct stat open_ns, ns;
        char limits[64] = "";
        int fd, ns_fd, list_fd;
        char list[2000] = "";

        test_init(argc, argv);
        if (unshare(CLONE_NEWIPC) < 0)
                test_skip("no IPC namespaces: %m");
        set_up();
        fd = SYS(open("/proc/sys/kernel/sem", O_RDWR));
        CHECK(write(fd, "200 2000 20 3", 13) == 13, "write to sem: %m");
        close(fd);
        ns_fd = SYS(open("/proc/self/ns/ipc", O_RDONLY));
        list_fd = SYS(open("/proc/sysvipc/sem", O_RDONLY));
        for (long i = 0; i < WAITERS; i++)
                test_fork(waiter, (void *)i);
        test_wait_children_ready();
        wait_for_waiters();
        test_ready();
        test_wait();

        wait_for_waiters();
        check_sets();
        SYS(fstat(ns_fd, &open_ns));
        SYS(stat("/proc/self/ns/ipc", &ns));
        CHECK(open_ns.st_ino == ns.st_ino, "the open namespace is another one");
        /* Whoever opens it sees the namespace that he is in. */
        CHECK(read(list_fd, list, sizeof(list) - 1) > 0, "read: %m");
        CHECK(strstr(list, "\n      4660 "), "the set with key 0x1234 is not listed: %s", list);
        fd = SYS(open("/proc/sys/kernel/sem", O_RDONLY));
        CHECK(read(fd, limits, sizeof(limits) - 1) > 0, "read: %m");
        close(fd);
        CHECK(strcmp(limits, "200\t2000\t20\t3\n") == 0, "the limits are %s", limits);
        CHECK(semget(IPC_PRIVATE, 1, 0600) < 0 && errno == ENOSPC, "there is room for a fourth set");
        op(waited, 0, 2);
        op(waited, 1, -1);
        op(waited, 2, 3);
        test_stop_children();
        CHECK_EQ(semctl(waited, 0, GETVAL), 0);
        CHECK_EQ(semctl(waited, 1, GETVAL), 0);
        CHECK_EQ(semctl(waited, 2, GETVAL), 1);
        op(small, 0, -1);
        CHECK_EQ(semctl(small, 0, GETVAL), 32766);
        test_pass();
}
