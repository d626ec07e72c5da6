/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: ignore=ns.ipc */
/*
 * Message queues in an IPC namespace of its own: messages of all types and sizes in their order, ids, keys, owners,
 * limits that are below what is in the queue, and tasks that wait in msgrcv(2) and msgsnd(2), which go on waiting.
 */
#include <sched.h>
#include <sys/ipc.h>
#include <sys/msg.h>

#include "e2e.h"

enum { MESSAGES = 40, LARGE = 9000, WANTED = 77 };

struct message {
        long type;
        char text[LARGE];
};

static int full, mixed, empty, cramped;

static size_t size_of(int i) {
        return i == 0 ? 0 : i == 1 ? LARGE : (size_t)(i * 37 % 300);
}

static long type_of(int i) {
        return i == 2 ? INT64_MAX : i % 5 + 1;
}

static void put(int id, long type, size_t size, uint64_t seed) {
        struct message m = { .type = type };

        test_fill(m.text, size, seed);
        SYS(msgsnd(id, &m, size, IPC_NOWAIT));
}

static void take(int id, long wanted, long type, size_t size, uint64_t seed) {
        static struct message m;

        CHECK_EQ(SYS(msgrcv(id, &m, LARGE, wanted, IPC_NOWAIT)), size);
        CHECK_EQ(m.type, type);
        test_verify(m.text, size, seed, "a message");
}

static int receiver(void *arg __attribute__((unused))) {
        struct message m;

        test_child_ready();
        CHECK_EQ(SYS(msgrcv(empty, &m, LARGE, WANTED, 0)), 5);
        CHECK(memcmp(m.text, "hello", 5) == 0, "another message");
        test_wait();
        return 0;
}

static int sender(void *arg __attribute__((unused))) {
        struct message m = { .type = 9, .text = "at last" };

        test_child_ready();
        SYS(msgsnd(full, &m, 8, 0));
        test_wait();
        return 0;
}

static void change(int id, unsigned long qbytes) {
        struct msqid_ds ds;

        SYS(msgctl(id, IPC_STAT, &ds));
        ds.msg_perm.uid = 1001;
        ds.msg_perm.gid = 1002;
        ds.msg_perm.mode = 0604;
        ds.msg_qbytes = qbytes;
        SYS(msgctl(id, IPC_SET, &ds));
}

static void set_up(void) {
        for (int i = 0; i < 4; i++)
                CHECK(msgctl(msgget(IPC_PRIVATE, 0600), IPC_RMID, NULL) == 0, "msgget, msgctl: %m");
        mixed = SYS(msgget(0x1234, IPC_CREAT | IPC_EXCL | 0640));
        for (int i = 0; i < MESSAGES; i++)
                put(mixed, type_of(i), size_of(i), (uint64_t)i);
        empty = SYS(msgget(IPC_PRIVATE, 0600));
        full = SYS(msgget(IPC_PRIVATE, 0600));
        change(full, 100);
        put(full, 1, 100, 1);
        cramped = SYS(msgget(0x4321, IPC_CREAT | IPC_EXCL | 0600));
        for (int i = 0; i < 3; i++)
                put(cramped, 1, 1000, (uint64_t)i);
        change(cramped, 10);
}

static void set_sysctl(const char *path, const char *value) {
        int fd = SYS(open(path, O_WRONLY));

        CHECK(write(fd, value, strlen(value)) == (ssize_t)strlen(value), "write %s: %m", path);
        close(fd);
}

static void check_sysctl(const char *path, const char *want) {
        char text[64] = "";
        int fd = SYS(open(path, O_RDONLY));

        CHECK(read(fd, text, sizeof(text) - 1) > 0, "read %s: %m", path);
        close(fd);
        CHECK(strcmp(text, want) == 0, "%s is %s", path, text);
}

static void check_queues(void) {
        struct msqid_ds ds;

        CHECK_EQ(msgget(0x1234, 0), mixed);
        SYS(msgctl(mixed, IPC_STAT, &ds));
        CHECK_EQ(ds.msg_qnum, MESSAGES);
        CHECK_EQ(ds.msg_perm.mode, 0640);
        for (int i = 0; i < MESSAGES; i++)
                take(mixed, 0, type_of(i), size_of(i), (uint64_t)i);
        CHECK_EQ(msgget(0x4321, 0), cramped);
        SYS(msgctl(cramped, IPC_STAT, &ds));
        CHECK_EQ(ds.msg_qnum, 3);
        CHECK_EQ(ds.msg_qbytes, 10);
        CHECK_EQ(ds.msg_perm.uid, 1001);
        CHECK_EQ(ds.msg_perm.gid, 1002);
        CHECK_EQ(ds.msg_perm.mode, 0604);
        for (int i = 0; i < 3; i++)
                take(cramped, 0, 1, 1000, (uint64_t)i);
        SYS(msgctl(full, IPC_STAT, &ds));
        CHECK_EQ(ds.msg_qnum, 1);
        CHECK_EQ(ds.msg_qbytes, 100);
}

/* They are in the calls that they were in, and have not noticed. */
static void check_waiting(void) {
        static struct message m;

        put(empty, WANTED + 1, 3, 1);
        take(empty, WANTED + 1, WANTED + 1, 3, 1);
        m.type = WANTED;
        memcpy(m.text, "hello", 5);
        SYS(msgsnd(empty, &m, 5, 0));
        take(full, 1, 1, 100, 1);
        CHECK_EQ(SYS(msgrcv(full, &m, LARGE, 9, 0)), 8);
        CHECK(strcmp(m.text, "at last") == 0, "the sender sent %s", m.text);
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        if (unshare(CLONE_NEWIPC) < 0)
                test_skip("no IPC namespaces: %m");
        set_sysctl("/proc/sys/kernel/msgmax", "9001");
        set_up();
        set_sysctl("/proc/sys/kernel/msgmnb", "5000");
        set_sysctl("/proc/sys/kernel/msgmni", "2");
        set_sysctl("/proc/sys/fs/mqueue/msg_max", "7");
        test_fork(receiver, NULL);
        test_fork(sender, NULL);
        test_wait_children_ready();
        test_ready();
        test_wait();

        check_sysctl("/proc/sys/kernel/msgmax", "9001\n");
        check_sysctl("/proc/sys/kernel/msgmnb", "5000\n");
        check_sysctl("/proc/sys/kernel/msgmni", "2\n");
        check_sysctl("/proc/sys/fs/mqueue/msg_max", "7\n");
        check_queues();
        check_waiting();
        test_stop_children();
        test_pass();
}
