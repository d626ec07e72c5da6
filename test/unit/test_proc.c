/* SPDX-License-Identifier: GPL-2.0-only */
/* Directories, lists and files of /proc on live, dead, reborn and zombie tasks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proc/auxv.h"
#include "proc/cgroup.h"
#include "proc/limits.h"
#include "proc/maps.h"
#include "proc/ns.h"
#include "proc/pagemap.h"
#include "proc/proc.h"
#include "proc/stat.h"
#include "proc/status.h"
#include "proc/syscall.h"
#include "proc/timers.h"

static struct proc_dir open_dir(pid_t pid) {
        struct proc_dir dir = PROC_DIR_INIT;

        assert_int_equal(proc_open(pid, &dir), 0);
        assert_int_equal(dir.pid, pid);
        return dir;
}

/* A child that waits to be killed. */
static pid_t fork_waiting(void) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                for (;;)
                        pause();
        return pid;
}

static void reap(pid_t pid) {
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* A child that has exited with `status` and is not reaped yet. */
static pid_t fork_zombie(int status) {
        siginfo_t info;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(status);
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        return pid;
}

/* fork() with a chosen pid. -1: not permitted, or taken meanwhile. */
static pid_t fork_as(pid_t pid) {
        struct clone_args args = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1 };

        return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

static bool contains(const struct pid_vec *vec, pid_t pid) {
        for (size_t i = 0; i < vec->n; i++)
                if (vec->v[i] == pid)
                        return true;
        return false;
}

static void test_open(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = open_dir(getpid()), other = { .fd = -EBADF, .pid = 7 };
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        pid_t pid = fork_zombie(0);

        assert_true(proc_exists(&dir));
        assert_int_equal(proc_open(0, &other), -EINVAL);
        assert_int_equal(proc_open(-1, &other), -EINVAL);
        reap(pid);
        assert_int_equal(proc_open(pid, &other), -ESRCH);
        assert_int_equal(proc_open(INT_MAX, &other), -ESRCH);
        assert_int_equal(proc_open_thread(&dir, pid, &other), -ESRCH);
        assert_true(other.fd == -EBADF && other.pid == 7);
        assert_int_equal(proc_read(&dir, "no such file", &buf), -ENOENT);
        assert_int_equal(proc_read_at(AT_FDCWD, "/proc/sys/kernel/pid_max", &buf), 0);
        assert_true(atoi(buf.data) > 0 && buf.data[buf.len] == 0);
}

/* The number comes back, the directory does not. */
static void test_reused_pid(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT, newcomer = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_(pid_vec_done) struct pid_vec vec = { 0 };
        pid_t pid = fork_waiting(), again;
        struct proc_stat st;
        char *link = NULL;
        ino_t ino;

        dir = open_dir(pid);
        assert_int_equal(proc_stat_read(&dir, &buf, &st), 0);
        reap(pid);
        again = fork_as(pid);
        if (again == 0)
                for (;;)
                        pause();
        if (again < 0)
                skip();
        assert_int_equal(again, pid);
        newcomer = open_dir(pid);
        assert_int_equal(proc_stat_read(&newcomer, &buf, &st), 0);
        assert_false(proc_exists(&dir));
        assert_int_equal(proc_stat_read(&dir, &buf, &st), -ESRCH);
        assert_int_equal(proc_readlink(&dir, "exe", &link), -ESRCH);
        assert_int_equal(proc_tids(&dir, &vec), -ESRCH);
        assert_int_equal(proc_children(&dir, &vec), -ESRCH);
        assert_int_equal(proc_children_by_scan(&dir, &vec), -ESRCH);
        assert_int_equal(proc_ns_inode(&dir, "pid", &ino), -ESRCH);
        assert_int_equal(proc_openat(&dir, "maps", O_RDONLY), -ESRCH);
        reap(again);
}

/* A file that was opened before its process went away. */
static void test_dies_while_open(void **state) {
        (void)state;
        _cleanup_close_ int fd = -EBADF;
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        pid_t pid = fork_waiting();
        char path[64];

        dir = open_dir(pid);
        fd = proc_openat(&dir, "stat", O_RDONLY);
        assert_true(fd >= 0);
        reap(pid);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        assert_int_equal(read(fd, path, 1), -1);
        assert_int_equal(errno, ESRCH);
}

/* --- threads --- */

struct crowd {
        pthread_barrier_t ready, leave;
        pid_t tids[40];
};

struct member {
        struct crowd *crowd;
        size_t i;
};

static void *thread_main(void *arg) {
        struct member *m = arg;

        m->crowd->tids[m->i] = (pid_t)syscall(SYS_gettid);
        pthread_barrier_wait(&m->crowd->ready);
        pthread_barrier_wait(&m->crowd->leave);
        return NULL;
}

static void test_threads(void **state) {
        (void)state;
        enum { N = 40 };
        _cleanup_proc_dir_ struct proc_dir dir = open_dir(getpid()), thread = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };
        struct member members[N];
        struct proc_syscall sc;
        struct crowd crowd;
        struct proc_stat st;
        pthread_t threads[N];

        pthread_barrier_init(&crowd.ready, NULL, N + 1);
        pthread_barrier_init(&crowd.leave, NULL, N + 1);
        for (size_t i = 0; i < N; i++) {
                members[i] = (struct member){ &crowd, i };
                assert_int_equal(pthread_create(&threads[i], NULL, thread_main, &members[i]), 0);
        }
        pthread_barrier_wait(&crowd.ready);
        assert_int_equal(proc_tids(&dir, &tids), 0);
        /* A sanitizer may have a thread of its own. */
        assert_true(tids.n >= N + 1);
        assert_int_equal(tids.v[0], getpid());
        for (size_t i = 0; i < N; i++)
                assert_true(contains(&tids, crowd.tids[i]));
        assert_int_equal(proc_open_thread(&dir, crowd.tids[7], &thread), 0);
        assert_int_equal(thread.pid, crowd.tids[7]);
        assert_int_equal(proc_stat_read(&thread, &buf, &st), 0);
        assert_int_equal(st.pid, crowd.tids[7]);
        assert_int_equal(st.exit_signal, -1);
        assert_true(st.num_threads >= N + 1);
        do
                assert_int_equal(proc_syscall_read(&thread, &buf, &sc), 0);
        while (sc.state != PROC_SYSCALL_INSIDE);
        assert_int_equal(sc.nr, SYS_futex);
        pthread_barrier_wait(&crowd.leave);
        for (size_t i = 0; i < N; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        /* It is gone a moment after its join. */
        while (proc_exists(&thread))
                sched_yield();
        assert_int_equal(proc_stat_read(&thread, &buf, &st), -ESRCH);
        pthread_barrier_destroy(&crowd.ready);
        pthread_barrier_destroy(&crowd.leave);
}

static void *pausing_thread(void *arg) {
        ssize_t n = write(*(int *)arg, "x", 1);

        for (;;)
                n = pause();
        return (void *)n;
}

/* A process whose leader has exited: the leader stays the first, as a zombie. */
static void test_dead_leader(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 }, children = { 0 };
        struct proc_stat st;
        int pipe_fds[2];
        pid_t pid;
        char c;

        assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                pthread_t thread;

                if (pthread_create(&thread, NULL, pausing_thread, &pipe_fds[1]) != 0)
                        _exit(1);
                syscall(SYS_exit, 0);
        }
        assert_int_equal(read(pipe_fds[0], &c, 1), 1);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        dir = open_dir(pid);
        do
                assert_int_equal(proc_stat_read(&dir, &buf, &st), 0);
        while (st.state != 'Z');
        assert_int_equal(proc_tids(&dir, &tids), 0);
        assert_int_equal(tids.n, 2);
        assert_int_equal(tids.v[0], pid);
        assert_int_equal(proc_children(&dir, &children), 0);
        assert_int_equal(children.n, 0);
        reap(pid);
}

/* In a pid namespace of its own: the leader is 500, a thread 101. */
static int small_tid_process(void) {
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_(pid_vec_done) struct pid_vec tids = { 0 };
        int fds[2], fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
        pthread_t thread;
        char c;

        if (fd < 0 || write(fd, "100", 3) != 3 || pipe2(fds, O_CLOEXEC) < 0 ||
            pthread_create(&thread, NULL, pausing_thread, &fds[1]) != 0 || read(fds[0], &c, 1) != 1)
                return 10;
        if (proc_open(getpid(), &dir) < 0 || proc_tids(&dir, &tids) < 0)
                return 11;
        if (getpid() != 500 || tids.n != 2 || tids.v[0] != 500 || tids.v[1] >= 500)
                return 12;
        return 0;
}

static void test_leader_not_smallest(void **state) {
        (void)state;
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
                        _exit(77);
                pid = fork();
                if (pid == 0) {
                        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                            mount("proc", "/proc", "proc", 0, NULL) < 0)
                                _exit(78);
                        pid = fork_as(500);
                        if (pid == 0)
                                _exit(small_tid_process());
                }
                if (pid < 0 || waitpid(pid, &status, 0) != pid)
                        _exit(79);
                _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 80);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
                skip();
        assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- children --- */

static void *forking_thread(void *arg) {
        *(pid_t *)arg = fork_waiting();
        return NULL;
}

static void test_children(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = open_dir(getpid());
        _cleanup_(pid_vec_done) struct pid_vec listed = { 0 }, scanned = { 0 }, all = { 0 };
        pid_t pids[20];
        pthread_t thread;

        for (size_t i = 0; i < 18; i++)
                pids[i] = fork_waiting();
        pids[18] = fork_zombie(3);
        assert_int_equal(pthread_create(&thread, NULL, forking_thread, &pids[19]), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(proc_children(&dir, &listed), 0);
        assert_int_equal(proc_children_by_scan(&dir, &scanned), 0);
        assert_int_equal(proc_pids(&all), 0);
        assert_true(contains(&all, getpid()));
        assert_int_equal(listed.n, scanned.n);
        for (size_t i = 0; i < 20; i++) {
                assert_true(contains(&listed, pids[i]));
                assert_true(contains(&scanned, pids[i]));
                assert_true(contains(&all, pids[i]));
        }
        for (size_t i = 0; i < 20; i++)
                reap(pids[i]);
        assert_int_equal(proc_children(&dir, &listed), 0);
        for (size_t i = 0; i < 20; i++)
                assert_false(contains(&listed, pids[i]));
}

/* --- descriptors and links --- */

static void test_fds(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = open_dir(getpid());
        _cleanup_(proc_fd_vec_done) struct proc_fd_vec fds = { 0 };
        unsigned found = 0;

        assert_int_equal(dup2(dir.fd, 900), 900);
        assert_int_equal(dup2(dir.fd, 1000), 1000);
        assert_int_equal(proc_fds(&dir, &fds), 0);
        for (size_t i = 0; i < fds.n; i++) {
                assert_true(!i || fds.v[i - 1] < fds.v[i]);
                found += fds.v[i] == 900 || fds.v[i] == 1000 || fds.v[i] == dir.fd;
        }
        assert_int_equal(found, 3);
        close(900);
        close(1000);
}

static void test_readlink(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = open_dir(getpid());
        char cwd[PATH_MAX], base[] = "/tmp/test_proc.XXXXXX", name[256];
        char *link = NULL;
        int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

        assert_non_null(getcwd(cwd, sizeof(cwd)));
        assert_int_equal(proc_readlink(&dir, "cwd", &link), 0);
        assert_string_equal(link, cwd);
        free(link);
        link = NULL;
        assert_int_equal(proc_readlink(&dir, "no-link", &link), -ENOENT);
        assert_int_equal(proc_readlink(&dir, "stat", &link), -EINVAL);
        assert_null(link);
        /* Deeper than the kernel can show. */
        assert_non_null(mkdtemp(base));
        assert_int_equal(chdir(base), 0);
        memset(name, 'd', sizeof(name) - 1);
        name[255] = 0;
        for (int i = 0; i < 20; i++)
                assert_true(mkdir(name, 0700) == 0 && chdir(name) == 0);
        assert_int_equal(proc_readlink(&dir, "cwd", &link), -ENAMETOOLONG);
        for (int i = 0; i < 20; i++)
                assert_true(chdir("..") == 0 && rmdir(name) == 0);
        assert_int_equal(fchdir(home), 0);
        close(home);
        rmdir(base);
}

static void test_ns(void **state) {
        (void)state;
        static const char *const names[] = { "net", "pid",  "mnt",    "uts",
                                             "ipc", "user", "cgroup", "pid_for_children" };
        _cleanup_proc_dir_ struct proc_dir dir = open_dir(getpid()), zombie = PROC_DIR_INIT;
        pid_t pid = fork_zombie(0);
        ino_t ino;

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                char path[64];
                struct stat st;

                snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
                assert_int_equal(stat(path, &st), 0);
                assert_int_equal(proc_ns_inode(&dir, names[i], &ino), 0);
                assert_int_equal(ino, st.st_ino);
        }
        assert_int_equal(proc_ns_inode(&dir, "nonsense", &ino), -ENOENT);
        assert_int_equal(proc_ns_inode(&dir, "../stat", &ino), -EINVAL);
        zombie = open_dir(pid);
        assert_int_equal(proc_ns_inode(&zombie, "net", &ino), -ENOENT);
        reap(pid);
}

struct own_utsns {
        pid_t tid;
        pthread_barrier_t barrier;
};

static void *leave_utsns(void *arg) {
        struct own_utsns *o = arg;

        assert_int_equal(unshare(CLONE_NEWUTS), 0);
        o->tid = gettid();
        pthread_barrier_wait(&o->barrier);
        pthread_barrier_wait(&o->barrier);
        return NULL;
}

/* All at once: of a process, of a thread of it by either's directory, of a zombie. */
static void test_ns_set(void **state) {
        (void)state;
        static const struct {
                enum proc_ns ns;
                const char *name;
        } rows[] = {
                { PROC_NS_CGROUP, "cgroup" }, { PROC_NS_IPC, "ipc" },
                { PROC_NS_MNT, "mnt" },       { PROC_NS_NET, "net" },
                { PROC_NS_PID, "pid" },       { PROC_NS_PID_FOR_CHILDREN, "pid_for_children" },
                { PROC_NS_TIME, "time" },     { PROC_NS_TIME_FOR_CHILDREN, "time_for_children" },
                { PROC_NS_USER, "user" },     { PROC_NS_UTS, "uts" },
        };
        _cleanup_proc_dir_ struct proc_dir dir = open_dir(getpid()), thread = PROC_DIR_INIT,
                                           zombie = PROC_DIR_INIT;
        struct proc_ns_set own, its, by_thread;
        struct own_utsns o = { 0 };
        pid_t pid = fork_zombie(0);
        pthread_t t;
        ino_t ino;

        pthread_barrier_init(&o.barrier, NULL, 2);
        assert_int_equal(pthread_create(&t, NULL, leave_utsns, &o), 0);
        pthread_barrier_wait(&o.barrier);
        assert_int_equal(proc_open_thread(&dir, o.tid, &thread), 0);
        proc_ns_read(&dir, dir.pid, PROC_NS_ALL, &own);
        proc_ns_read(&dir, o.tid, PROC_NS_ALL, &its);
        proc_ns_read(&thread, o.tid, PROC_NS_ALL, &by_thread);
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                assert_int_equal(proc_ns_inode(&dir, rows[i].name, &ino), 0);
                assert_int_equal(own.ino[rows[i].ns], ino);
                assert_int_equal(by_thread.ino[rows[i].ns], its.ino[rows[i].ns]);
                if (rows[i].ns == PROC_NS_UTS)
                        assert_int_not_equal(its.ino[rows[i].ns], ino);
                else
                        assert_int_equal(its.ino[rows[i].ns], ino);
        }
        proc_ns_read(&dir, dir.pid, 1U << PROC_NS_NET, &its);
        assert_int_equal(its.ino[PROC_NS_NET], own.ino[PROC_NS_NET]);
        assert_int_equal(its.ino[PROC_NS_UTS], 0);
        pthread_barrier_wait(&o.barrier);
        pthread_join(t, NULL);
        pthread_barrier_destroy(&o.barrier);
        zombie = open_dir(pid);
        proc_ns_read(&zombie, pid, 1U << PROC_NS_NET, &its);
        assert_int_equal(its.ino[PROC_NS_NET], 0);
        reap(pid);
}

/* What is left of a process that has exited. */
static void test_zombie(void **state) {
        (void)state;
        _cleanup_(proc_cgroup_vec_done) struct proc_cgroup_vec cgroups = { 0 };
        _cleanup_(proc_smap_vec_done) struct proc_smap_vec smaps = { 0 };
        _cleanup_(proc_timer_vec_done) struct proc_timer_vec timers = { 0 };
        _cleanup_(proc_auxv_vec_done) struct proc_auxv_vec auxv = { 0 };
        _cleanup_(proc_vma_vec_done) struct proc_vma_vec maps = { 0 };
        _cleanup_(proc_fd_vec_done) struct proc_fd_vec fds = { 0 };
        _cleanup_proc_pagemap_ struct proc_pagemap pm = PROC_PAGEMAP_INIT;
        _cleanup_proc_status_ struct proc_status status = { 0 };
        _cleanup_proc_dir_ struct proc_dir dir = PROC_DIR_INIT;
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        struct proc_limits limits;
        struct proc_stat st;
        pid_t pid = fork_zombie(42);
        uint64_t word;
        char *link;
        int r;

        if (geteuid() != 0) {
                reap(pid);
                skip(); /* a zombie's memory is not shown to others, not even its parent */
        }
        dir = open_dir(pid);
        assert_true(proc_exists(&dir));
        assert_int_equal(proc_stat_read(&dir, &buf, &st), 0);
        assert_int_equal(st.state, 'Z');
        assert_int_equal(st.exit_code, 42 << 8);
        assert_int_equal(st.ppid, getpid());
        assert_int_equal(st.exit_signal, SIGCHLD);
        assert_int_equal(st.start_stack, 0);
        assert_int_equal(proc_status_read(&dir, &buf, &status), 0);
        assert_int_equal(status.state, 'Z');
        assert_false(proc_status_has(&status, PROC_STATUS_VM_SIZE));
        assert_int_equal(proc_maps_read(&dir, &buf, &maps), 0);
        assert_int_equal(maps.n, 0);
        assert_int_equal(proc_smaps_read(&dir, NULL, &buf, &smaps), 0);
        assert_int_equal(smaps.n, 0);
        assert_int_equal(proc_auxv_read(&dir, &buf, &auxv), 0);
        assert_int_equal(auxv.n, 0);
        assert_int_equal(proc_fds(&dir, &fds), 0);
        assert_int_equal(fds.n, 0);
        assert_int_equal(proc_timers_read(&dir, &buf, &timers), 0);
        assert_int_equal(timers.n, 0);
        assert_int_equal(proc_limits_read(&dir, &buf, &limits), 0);
        assert_int_equal(proc_cgroup_read(&dir, &buf, &cgroups), 0);
        assert_int_equal(proc_readlink(&dir, "exe", &link), -ENOENT);
        r = proc_pagemap_open(&dir, true, &pm);
        if (r == 0) /* as in Linux 6.1; then there is nothing in it */
                assert_int_equal(proc_pagemap_words(&pm, 0, 1, &word), -EFAULT);
        else
                assert_int_equal(r, -ESRCH);
        reap(pid);
}

/* A reader that is given a buffer of another file shows nothing of that file. */
static void test_buffer(void **state) {
        (void)state;
        _cleanup_proc_dir_ struct proc_dir dir = open_dir(getpid());
        _cleanup_proc_buf_ struct proc_buf buf = { 0 };
        char small[64];
        size_t cap;

        assert_int_equal(proc_read(&dir, "smaps", &buf), 0);
        assert_true(buf.len > 4096 && buf.len < buf.cap && buf.data[buf.len] == 0);
        assert_non_null(strstr(buf.data + buf.len - 64, "VmFlags"));
        cap = buf.cap;
        assert_int_equal(proc_read_once(&dir, "oom_score_adj", &buf), 0);
        assert_true(buf.cap == cap && buf.len < 16 && buf.data[buf.len] == 0);
        snprintf(small, sizeof(small), "%d\n", atoi(buf.data));
        assert_string_equal(buf.data, small);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_open),
                cmocka_unit_test(test_reused_pid),
                cmocka_unit_test(test_dies_while_open),
                cmocka_unit_test(test_threads),
                cmocka_unit_test(test_dead_leader),
                cmocka_unit_test(test_leader_not_smallest),
                cmocka_unit_test(test_children),
                cmocka_unit_test(test_fds),
                cmocka_unit_test(test_readlink),
                cmocka_unit_test(test_ns),
                cmocka_unit_test(test_ns_set),
                cmocka_unit_test(test_zombie),
                cmocka_unit_test(test_buffer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
