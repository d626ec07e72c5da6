/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: helper libs="-lpthread -lrt" */
/* Holds System V state that cannot be checkpointed: ipc_odd KIND. Driven by ipc_refused.py, which knows what the
 * refusal has to say. Afterwards all must be as it was. `keeper ID`: attach a segment and leave its namespace. */
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include "e2e.h"

static int id;
static pid_t kid;
static char *at;
static struct gate ready, go;

static void set_sysctl(const char *path, const char *value) {
        int fd = SYS(open(path, O_WRONLY));

        CHECK(write(fd, value, strlen(value)) == (ssize_t)strlen(value), "write %s: %m", path);
        close(fd);
}

static void leave(void) {
        if (unshare(CLONE_NEWIPC) < 0)
                test_skip("no IPC namespaces: %m");
}

static void attach(void) {
        id = SYS(shmget(IPC_PRIVATE, PAGE, 0600));
        at = SYS(shmat(id, NULL, 0));
        test_fill(at, PAGE, 1);
}

static void set_up_undo(void) {
        id = SYS(semget(IPC_PRIVATE, 2, 0600));
        SYS(semop(id, &(struct sembuf){ 1, 300, SEM_UNDO }, 1));
}

static void check_undo(void) {
        CHECK_EQ(semctl(id, 1, GETVAL), 300);
        SYS(semop(id, &(struct sembuf){ 1, -300, SEM_UNDO }, 1));
        SYS(semctl(id, 0, IPC_RMID));
}

/* It keeps what it has taken, and loses its right to it. */
static int without_right(void) {
        SYS(semop(id, &(struct sembuf){ 1, -1, SEM_UNDO }, 1));
        SYS(setresuid(65534, 65534, 65534));
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        return 3;
}

static void set_up_lost(void) {
        leave();
        id = SYS(semget(IPC_PRIVATE, 2, 0600));
        SYS(semop(id, &(struct sembuf){ 1, 300, 0 }, 1));
        kid = xfork();
        if (kid == 0)
                _exit(without_right());
        gate_pass(&ready, 1);
}

static void check_lost(void) {
        CHECK_EQ(semctl(id, 1, GETVAL), 299);
        gate_open(&go, 1);
        xwait(kid, 3);
        CHECK_EQ(semctl(id, 1, GETVAL), 300);
}

static void set_up_mqueue(void) {
        mqd_t mq;

        leave();
        mq = SYS(mq_open("/odd", O_RDWR | O_CREAT, 0600, NULL));
        mq_close(mq);
}

static void check_mqueue(void) {
        SYS(mq_unlink("/odd"));
}

static void set_up_large(void) {
        struct {
                long type;
                char text[2000];
        } m = { .type = 1 };

        leave();
        id = SYS(msgget(IPC_PRIVATE, 0600));
        SYS(msgsnd(id, &m, sizeof(m.text), 0));
        set_sysctl("/proc/sys/kernel/msgmax", "1000");
}

static void check_large(void) {
        struct msqid_ds ds;

        SYS(msgctl(id, IPC_STAT, &ds));
        CHECK_EQ(ds.msg_qnum, 1);
}

/* Numbers are counted anew in each namespace: that of the memory is not to be one of the new namespace too. */
static void set_up_foreign(void) {
        int first = SYS(shmget(IPC_PRIVATE, PAGE, 0600));

        SYS(shmctl(first, IPC_RMID, NULL));
        attach();
        SYS(shmctl(id, IPC_RMID, NULL));
        leave();
        CHECK_EQ(shmget(IPC_PRIVATE, PAGE, 0600) < 0, 0);
}

static void set_up_attached(void) {
        int fd;

        leave();
        attach();
        fd = SYS(open("id", O_WRONLY | O_CREAT, 0644));
        dprintf(fd, "%d", id);
        close(fd);
}

static void check_attached(void) {
        test_verify(at, PAGE, 1, "the memory");
}

static void set_up_forced(void) {
        leave();
        set_sysctl("/proc/sys/kernel/shm_rmid_forced", "1");
        id = SYS(shmget(IPC_PRIVATE, PAGE, 0600));
}

static void check_forced(void) {
        SYS(shmctl(id, IPC_STAT, &(struct shmid_ds){ 0 }));
}

static void set_up_mixed(void) {
        leave();
        kid = xfork();
        if (kid == 0) {
                leave();
                gate_open(&ready, 1);
                gate_pass(&go, 1);
                _exit(3);
        }
        gate_pass(&ready, 1);
}

static void check_mixed(void) {
        gate_open(&go, 1);
        xwait(kid, 3);
}

static void *in_thread(void *arg __attribute__((unused))) {
        SYS(unshare(CLONE_NEWIPC));
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        return NULL;
}

static void set_up_thread(void) {
        pthread_t t;

        CHECK(pthread_create(&t, NULL, in_thread, NULL) == 0, "pthread_create");
        gate_pass(&ready, 1);
}

static void check_thread(void) {
        gate_open(&go, 1);
}

static const struct {
        const char *name;
        void (*set_up)(void), (*check)(void);
} kinds[] = {
        { "undo", set_up_undo, check_undo },           { "lost", set_up_lost, check_lost },
        { "mqueue", set_up_mqueue, check_mqueue },     { "large", set_up_large, check_large },
        { "foreign", set_up_foreign, check_attached }, { "attached", set_up_attached, check_attached },
        { "forced", set_up_forced, check_forced },     { "mixed", set_up_mixed, check_mixed },
        { "thread", set_up_thread, check_thread },
};

static void keep(const char *segment) {
        SYS(shmat(atoi(segment), NULL, 0));
        SYS(unshare(CLONE_NEWIPC));
        close(SYS(open("kept", O_WRONLY | O_CREAT, 0644)));
        pause();
}

int main(int argc, char **argv) {
        if (argc == 3)
                keep(argv[2]);
        test_init(argc, argv);
        gate_init(&ready);
        gate_init(&go);
        for (size_t i = 0; argc == 2 && i < ELEMENTS(kinds); i++)
                if (strcmp(kinds[i].name, argv[1]) == 0) {
                        kinds[i].set_up();
                        test_ready();
                        test_wait();
                        kinds[i].check();
                        test_pass();
                }
        test_fail("ipc_odd KIND");
}
