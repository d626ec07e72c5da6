/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: libs=-lpthread timeout=60 */
/* A child process, and the root itself, whose leading thread has called pthread_exit: the leader stays a
 * zombie, the other threads go on, and the process can still be waited for. */
#include "e2e.h"

#include <pthread.h>

static struct gate ready, go;
static pid_t root, kid, root_tids[2];
static char leader_name[16] = "gone leader";

static void check_leader_dead(pid_t pid) {
        char path[64], buf[512], *p;

        snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, pid);
        CHECK(read_file(path, buf, sizeof(buf)) > 0, "read %s: %m", path);
        p = strrchr(buf, ')');
        CHECK(p && p[2] == 'Z', "leader of %d: %s", pid, buf);
}

static void wait_leader_dead(pid_t pid) {
        WAIT_FOR(proc_state(pid) == 'Z', "leader of %d", pid);
}

static void *kid_second(void *arg E2E_UNUSED) {
        pid_t tid = xgettid(), pid = getpid();

        wait_leader_dead(pid);
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        CHECK(getpid() == pid && xgettid() == tid, "ids of the thread: %d %d", getpid(), xgettid());
        CHECK(getppid() == root, "parent %d", getppid());
        check_leader_dead(pid);
        check_fork();
        exit(61);
}

static void *root_other(void *arg) {
        pid_t tid = xgettid();

        root_tids[0] = tid;
        gate_open(&ready, 1);
        gate_pass(&go, 1);
        CHECK(xgettid() == tid, "tid %d", xgettid());
        return arg;
}

static void *root_second(void *arg E2E_UNUSED) {
        pthread_t other;
        void *r = NULL;
        char name[32];

        root_tids[1] = xgettid();
        CHECK(pthread_create(&other, NULL, root_other, &root) == 0, "pthread_create");
        gate_pass(&ready, 2);
        wait_leader_dead(root);
        test_ready();
        test_wait();
        /* break: kid++; */
        /* break: root_tids[1]++; */
        /* break: kill(kid, SIGKILL); */
        /* break: strcpy(leader_name, "other"); */
        CHECK(getpid() == root && xgettid() == root_tids[1], "ids %d %d", getpid(), xgettid());
        check_leader_dead(root);
        status_text(root, "Name", name, sizeof(name));
        CHECK(strcmp(name, leader_name) == 0, "name of the leader: %s", name);
        CHECK(proc_state(kid) == 'Z', "the child's leader is in state %c", proc_state(kid));
        gate_open(&go, 2);
        CHECK(pthread_join(other, &r) == 0 && r == &root, "pthread_join");
        xwait(kid, 61);
        test_pass();
}

int main(int argc, char **argv) {
        pthread_t t;

        test_init(argc, argv);
        if (syscall(SYS_pidfd_open, getpid(), O_EXCL) < 0 && errno == EINVAL)
                test_skip("this kernel has no PIDFD_THREAD, without which such a process is refused");
        root = getpid();
        gate_init(&ready);
        gate_init(&go);
        kid = xfork();
        if (kid == 0) {
                CHECK(pthread_create(&t, NULL, kid_second, NULL) == 0, "pthread_create");
                pthread_exit(NULL);
        }
        prctl(PR_SET_NAME, leader_name);
        CHECK(pthread_create(&t, NULL, root_second, NULL) == 0, "pthread_create");
        pthread_exit(NULL);
}
