/* SPDX-License-Identifier: GPL-2.0-only */
/* What is refused is refused by its name: one child with one of everything, and what belongs to others. */
#include "test_fd.h"

#include <arpa/inet.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct fd_fixture fx;

static int setup(void **state) {
        (void)state;
        fixture_init(&fx);
        return 0;
}

static int teardown(void **state) {
        (void)state;
        for (size_t i = 0; i < fx.dump.nr_tasks; i++)
                child_end(fx.dump.tasks[i]->pid);
        dump_done(&fx);
        fixture_done(&fx);
        return 0;
}

static void look_at(pid_t pid) {
        dump_task_add(&fx, pid, NULL);
        dump_look_all(&fx);
}

static void print_blockers(void) {
        for (size_t i = 0; i < blockers_count(fx.dump.blockers); i++) {
                const char *hint;

                print_message("%s\n", blocker_message(fx.dump.blockers, i, &hint));
        }
}

#define assert_blocked(word, other)                                             \
        do {                                                                    \
                if (!blocked_by(fx.dump.blockers, (word), (other))) {           \
                        print_blockers();                                       \
                        fail_msg("no blocker with '%s' and '%s'", word, other); \
                }                                                               \
        } while (0)

static void zoo(void *dir) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "listener" };
        struct perf_event_attr perf = { .type = PERF_TYPE_SOFTWARE,
                                        .size = sizeof(perf),
                                        .config = PERF_COUNT_SW_DUMMY };
        int fd;

        plain_table();
        must(chdir(dir) == 0);
        must((fd = socket(AF_INET, SOCK_STREAM, 0)) == 3);
        must(bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0 && listen(fd, 1) == 0);
        must((fd = socket(AF_UNIX, SOCK_SEQPACKET, 0)) == 4);
        must(bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0 && listen(fd, 1) == 0);
        must(socket(AF_NETLINK, SOCK_RAW, 0) == 5 && socket(AF_INET6, SOCK_DGRAM, 0) == 6);
        must((fd = open("gone", O_RDWR | O_CREAT, 0600)) == 7 && write(fd, "x", 1) == 1 &&
             unlink("gone") == 0);
        must((fd = open("replaced", O_RDWR | O_CREAT, 0600)) == 8 && rename("replaced", "hidden") == 0);
        must(write(fd, "x", 1) == 1 && unlink("hidden") == 0 &&
             close(open("replaced", O_RDWR | O_CREAT, 0600)) == 0);
        must(open("/proc/self/status", O_RDONLY) == 9 &&
             open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY) == 10);
        must(open("/dev/ptmx", O_RDWR | O_NOCTTY) == 11);
        must(syscall(SYS_memfd_create, "secret plans", 0) == 12);
        must(open("/proc/self", O_RDONLY | O_DIRECTORY) == 13);
        must(open("/proc/self/ns/net", O_RDONLY) == 14);
        if (syscall(SYS_perf_event_open, &perf, 0, -1, -1, 0) != 15)
                must(dup2(0, 15) == 15);
        must((fd = open(".", O_TMPFILE | O_RDWR, 0600)) == 16 && write(fd, "x", 1) == 1);
        must(symlink("nowhere", "doomed") == 0 && open("doomed", O_PATH | O_NOFOLLOW) == 17 &&
             unlink("doomed") == 0);
}

static void test_zoo(void **state) {
        (void)state;
        fx.opts.ghost_limit = 0;
        look_at(child_new(zoo, fx.dir));
        assert_false(blocked_by(fx.dump.blockers, "fd 4", ""));
        assert_false(blocked_by(fx.dump.blockers, "fd 5", ""));
        assert_blocked("has the deleted file", "/gone open, whose");
        assert_blocked("has the deleted file", "/hidden open, whose");
        assert_false(blocked_by(fx.dump.blockers, "fd 9 ", "") ||
                     blocked_by(fx.dump.blockers, "fd 10 ", ""));
        assert_blocked("fd 11 (/dev/p", "is a terminal");
        assert_false(blocked_by(fx.dump.blockers, "fd 12", ""));
        assert_false(blocked_by(fx.dump.blockers, "fd 13", "") || blocked_by(fx.dump.blockers, "fd 14", ""));
        assert_blocked("has the deleted file", "/#");
        assert_blocked("fd 17 is ", "/doomed (deleted), which is neither a file nor a directory");
        assert_false(blocked_by(fx.dump.blockers, "fd 0", ""));
        assert_int_equal(dump_collect_all(&fx), -EAGAIN);
}

/* Files of the kernel that would not be the same for who opens them again. */
static void kernel_files(void *arg) {
        char path[64];
        pid_t kid;

        (void)arg;
        plain_table();
        snprintf(path, sizeof(path), "/proc/%d/status", getppid());
        must(open(path, O_RDONLY) == 3);
        snprintf(path, sizeof(path), "/proc/%d/task/%d", getppid(), getppid());
        must(open(path, O_RDONLY | O_DIRECTORY) == 4);
        must(open("/proc/kmsg", O_RDONLY) == 5);
        if (open("/proc/pressure/cpu", O_RDWR) != 6)
                must(dup2(0, 6) == 6);
        kid = fork();
        if (kid == 0)
                _exit(0);
        snprintf(path, sizeof(path), "/proc/%d/stat", kid);
        must(open(path, O_RDONLY) == 7 && waitpid(kid, NULL, 0) == kid);
        must(unshare(CLONE_NEWUTS) == 0 && open("/proc/self/ns/uts", O_RDONLY) == 8);
        must(open("/proc/self/ns/uts", O_PATH | O_NOFOLLOW) == 9);
        must(open("/proc/self/pagemap", O_RDONLY) == 10);
        must(setresuid(65534, 65534, 65534) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        must(open("/proc/self/pagemap", O_RDONLY) == 11 && open("/proc/self/stat", O_RDONLY) == 12);
        must(open("/proc/kallsyms", O_RDONLY) == 13);
}

static void test_kernel_files(void **state) {
        pid_t child;
        int own;

        (void)state;
        child = child_new(kernel_files, NULL);
        look_at(child);
        assert_blocked("fd 3 is /proc/", "of a process outside of the tree");
        assert_blocked("fd 4 is /proc/", "of a process outside of the tree");
        assert_blocked("fd 5 is /proc/kmsg", "the kernel's log");
        own = blocked_by(fx.dump.blockers, "fd 6 is /proc/pressure/cpu", "with a trigger");
        assert_true(own || access("/proc/pressure/cpu", W_OK) < 0);
        assert_blocked("fd 7 is /proc/", "not there any more");
        assert_blocked("fd 10 is /proc/", "more than it may see");
        assert_blocked("fd 11 is /proc/", "more than it may see");
        assert_false(blocked_by(fx.dump.blockers, "fd 12", ""));
        assert_blocked("fd 13 is /proc/kallsyms", "more than it may see");
}

/* A file that came under another name by a mount or rename is not the file of that name. */
static void moved(void *dir) {
        plain_table();
        must(chdir(dir) == 0 && open("a", O_RDWR | O_CREAT, 0600) == 3);
        must(link("a", "keeps-it-alive") == 0 && unlink("a") == 0);
        must(close(open("a", O_RDWR | O_CREAT, 0600)) == 0);
}

static void test_other_link(void **state) {
        (void)state;
        look_at(child_new(moved, fx.dir));
        assert_blocked("fd 3 is the file", "/a, deleted under that name, which has other names");
}

static int both[2];

static void keeps_end(void *arg) {
        int keep = both[*(int *)arg], null = open("/dev/null", O_RDWR);

        must(dup2(keep, 50) == 50 && dup2(null, 0) == 0 && dup2(null, 1) == 1 && dup2(null, 2) == 2);
        must(close_range(3, 49, 0) == 0 && close_range(51, ~0U, 0) == 0);
}

/* The test itself is ckpt here and does not count; a second process that is not in the tree does. */
static void test_pipe_outside(void **state) {
        int zero = 0, one = 1;
        pid_t outside, inside;
        char pid[32];

        (void)state;
        assert_int_equal(pipe2(both, O_CLOEXEC), 0);
        inside = child_new(keeps_end, &zero);
        outside = stranger_new(keeps_end, &one);
        look_at(inside);
        snprintf(pid, sizeof(pid), "that pid %d, outside", outside);
        assert_blocked("fd 50 is a pipe", pid);
        stranger_end(outside);
        dump_done(&fx);
        /* Only the test has the other end: found when the pipe is saved. */
        look_at(inside);
        assert_int_equal(blockers_count(fx.dump.blockers), 0);
        assert_ok(dump_collect_all(&fx), &fx.err);
        assert_ok(image_set_create(fx.dirfd, NULL, &fx.dump.set, &fx.err), &fx.err);
        assert_int_equal(fd_save_files(&fx.dump, &fx.err), -ENOTSUP);
        assert_non_null(strstr(ckpt_error_message(&fx.err), "other end is held outside"));
        ckpt_error_clear(&fx.err);
        close(both[1]);
        assert_ok(fd_save_files(&fx.dump, &fx.err), &fx.err);
        image_set_abort(fx.dump.set);
        close(both[0]);
}

/* A child that the tree made after it was read, found by the scan, is not outside. */
static void forks(void *arg) {
        int status;

        keeps_end(arg);
        if (fork() == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                raise(SIGSTOP);
                _exit(0);
        }
        must(waitpid(-1, &status, WUNTRACED) > 0 && WIFSTOPPED(status));
}

static void test_pipe_of_newborn(void **state) {
        int zero = 0;

        (void)state;
        assert_int_equal(pipe2(both, O_CLOEXEC), 0);
        look_at(child_new(forks, &zero));
        assert_int_equal(blockers_count(fx.dump.blockers), 0);
        close(both[0]);
        close(both[1]);
}

static void leased(void *dir) {
        plain_table();
        must(chdir(dir) == 0 && open("leased", O_RDWR | O_CREAT, 0600) == 3 &&
             fcntl(3, F_SETLEASE, F_WRLCK) == 0);
}

static void test_lease(void **state) {
        (void)state;
        look_at(child_new(leased, fx.dir));
        assert_blocked("fd 3 (", "has a lease");
}

static void owned_by_parent(void *arg) {
        int fd[2];

        (void)arg;
        plain_table();
        must(pipe(fd) == 0 && fcntl(3, F_SETOWN, getppid()) == 0);
}

static void test_owner_outside(void **state) {
        char text[64];

        (void)state;
        look_at(child_new(owned_by_parent, NULL));
        snprintf(text, sizeof(text), "sends its SIGIO to pid %d, outside", getpid());
        assert_blocked("fd 3", text);
}

int main(void) {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_zoo),           TEST(test_other_link),      TEST(test_kernel_files),
                TEST(test_pipe_outside),  TEST(test_pipe_of_newborn), TEST(test_lease),
                TEST(test_owner_outside),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
