/* SPDX-License-Identifier: GPL-2.0-only */
/* e2e: rounds=2 */
/*
 * Processes that share a descriptor table or a working directory without being threads, in four ways: with the parent,
 * with the grandparent, siblings among themselves after the parent has left (unshare), and one thing without the other.
 */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "testlib.h"

enum role {
        ROOT,
        BOTH,       /* shares table and directory with the root */
        GRANDCHILD, /* of BOTH: shares the table with the root, too, but not the directory */
        FILES_ONLY, /* shares the table of the root, has its own directory */
        FS_ONLY,    /* shares the directory of the root, has its own table */
        LEFT,       /* a child that its own children share with each other, but not with it */
        TWIN_A,
        TWIN_B,
        OWN, /* shares nothing */
        ROLES,
};

static struct {
        struct test_barrier barrier;
        uint32_t step;
        pid_t pid[ROLES];
} * sh;

static void open_as(int number, const char *name, int flags) {
        int fd = SYS(open(name, O_RDWR | O_CREAT, 0600));

        SYS(dup3(fd, number, flags));
        close(fd);
}

static void lockstep(void) {
        test_barrier_wait(&sh->barrier);
}

static bool has(int fd, const char *name) {
        char path[32], got[256] = "", want[256] = "", *slash;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (readlink(path, got, sizeof(got) - 1) < 0)
                return false;
        snprintf(want, sizeof(want), "/%s", name);
        slash = strrchr(got, '/');
        return slash && strcmp(slash, want) == 0;
}

static bool is_in(const char *name) {
        char cwd[256], *slash;

        SYS(getcwd(cwd, sizeof(cwd)) ? 0 : -1);
        slash = strrchr(cwd, '/');
        return slash && strcmp(slash + 1, name) == 0;
}

static bool with_root_files(enum role role) {
        return role == ROOT || role == BOTH || role == GRANDCHILD || role == FILES_ONLY;
}

static bool with_root_fs(enum role role) {
        return role == ROOT || role == BOTH || role == FS_ONLY;
}

static bool is_twin(enum role role) {
        return role == TWIN_A || role == TWIN_B;
}

/* All of them go through this together; each step is one process's doing that the others then see, or not. */
static void check(enum role role) {
        lockstep();
        if (role == GRANDCHILD)
                open_as(70, "opened", 0);
        lockstep();
        CHECK(has(70, "opened") == with_root_files(role), "role %d", role);
        lockstep();
        if (role == TWIN_B)
                open_as(71, "twin", 0);
        lockstep();
        CHECK(has(71, "twin") == is_twin(role), "role %d", role);
        CHECK(has(40, "of_twins") == is_twin(role), "role %d", role);
        CHECK(has(41, "of_root") == with_root_files(role), "role %d", role);
        CHECK(!with_root_files(role) || (fcntl(41, F_GETFD) & FD_CLOEXEC), "role %d", role);
        lockstep();
        if (role == FS_ONLY) {
                SYS(mkdir("below", 0700));
                SYS(chdir("below"));
                umask(0123);
        }
        lockstep();
        CHECK(is_in("below") == with_root_fs(role), "role %d", role);
        CHECK_EQ(umask(with_root_fs(role) ? 0123 : 022), with_root_fs(role) ? 0123 : 022);
        lockstep();
        if (role == TWIN_A) {
                SYS(mkdir("twins", 0700));
                SYS(chdir("twins"));
        }
        lockstep();
        CHECK(is_in("twins") == is_twin(role), "role %d", role);
        lockstep();
        if (role == FILES_ONLY)
                SYS(unshare(CLONE_FILES));
        lockstep();
        if (role == FILES_ONLY)
                SYS(close(70));
        lockstep();
        CHECK(has(70, "opened") == (with_root_files(role) && role != FILES_ONLY), "role %d", role);
}

static void run(enum role role);

static pid_t start(enum role role, unsigned long flags) {
        pid_t pid = (pid_t)SYS(syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0));

        if (pid == 0) {
                run(role);
                _exit(0);
        }
        sh->pid[role] = pid;
        return pid;
}

static void wait_for(enum role role) {
        int status = 0;

        SYS(waitpid(sh->pid[role], &status, 0));
        CHECK(status == 0, "role %d ended with status %#x", role, status);
}

static void run_left(void) {
        open_as(40, "of_twins", 0);
        start(TWIN_A, CLONE_FILES | CLONE_FS);
        start(TWIN_B, CLONE_FILES | CLONE_FS);
        SYS(unshare(CLONE_FILES | CLONE_FS));
        close(40);
}

static void run(enum role role) {
        if (role == BOTH)
                start(GRANDCHILD, CLONE_FILES);
        if (role == LEFT)
                run_left();
        if (role != ROOT) {
                lockstep(); /* all are there */
                while (__atomic_load_n(&sh->step, __ATOMIC_SEQ_CST) == 0)
                        test_futex_wait(&sh->step, 0, 60000);
        }
        check(role);
        if (role == BOTH)
                wait_for(GRANDCHILD);
        if (role == LEFT) {
                wait_for(TWIN_A);
                wait_for(TWIN_B);
        }
}

int main(int argc, char **argv) {
        test_init(argc, argv);
        sh = test_shared(sizeof(*sh));
        umask(022);
        test_barrier_init(&sh->barrier, ROLES);
        start(LEFT, 0);
        start(BOTH, CLONE_FILES | CLONE_FS);
        start(FILES_ONLY, CLONE_FILES);
        start(FS_ONLY, CLONE_FS);
        start(OWN, 0);
        lockstep();
        open_as(41, "of_root", O_CLOEXEC);
        test_ready();
        test_wait();
        __atomic_store_n(&sh->step, 1, __ATOMIC_SEQ_CST);
        for (int i = 0; i < ROLES; i++)
                test_futex_wake(&sh->step);
        check(ROOT);
        wait_for(LEFT);
        wait_for(BOTH);
        wait_for(FILES_ONLY);
        wait_for(FS_ONLY);
        wait_for(OWN);
        test_pass();
}
